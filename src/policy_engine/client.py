"""The client: asks a policy engine over HTTP, by the names and types of the one in process."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterable, Sequence
from datetime import datetime
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from threading import Lock
from typing import Any, NamedTuple, Self, TypeVar
from urllib.parse import urlsplit

import msgspec

from policy_engine.authority import Selection
from policy_engine.model.decision import Decision
from policy_engine.model.errors import (
    EngineRefusedError,
    EngineUnavailableError,
    LateRoundError,
    RoundConflictError,
)
from policy_engine.trust.advice import RoundAdvice
from policy_engine.trust.observation import RoundObservation

T = TypeVar("T")

_PORTS = {"http": 80, "https": 443}
_MAX_IDLE = 16
"""How many connections are kept for the next request."""

_PASSING = frozenset({408, 425, 429})
"""Refusals that another moment may undo."""

_CLOSED = re.compile(r"round (\d+) is closed")


class _Batch(msgspec.Struct):
    decisions: list[Decision]


class _Problem(msgspec.Struct):
    detail: str = ""
    code: str = ""


class _Answer(NamedTuple):
    status: int
    body: bytes


class PolicyClient:
    """Asks a policy engine over HTTP.

    Example:
        client = PolicyClient("http://127.0.0.1:5000")
        client.check("network_security", {"protocol": "tcp", "dst_port": 8080}).allowed

    It is thread-safe, and keeps connections open between requests: each thread that asks has one of its own meanwhile.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout_seconds: float = 5.0,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """Note where to ask; nothing is sent yet.

        Args:
            url: Of the service: `http://` or `https://`, host, and where needed port and a path before `/api`.
            api_key: The key to show with each request.
            timeout_seconds: How long to wait for the connection, and for each part of the answer.
            ssl_context: How to verify the server, for `https://`; by default as the system does.

        Raises:
            ValueError: The address is not one of HTTP.
        """
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or not parts.hostname or parts.query or parts.fragment or parts.username:
            raise ValueError(f"`{url}` is not the address of a service, such as `http://127.0.0.1:5000`")
        self._host, self._port = parts.hostname, parts.port or _PORTS[parts.scheme]
        self._prefix = parts.path.rstrip("/")
        self._timeout = timeout_seconds
        self._ssl = (ssl_context or ssl.create_default_context()) if parts.scheme == "https" else None
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if api_key is not None:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._idle: list[HTTPConnection] = []
        self._lock = Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that wait for the next request."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def check(
        self,
        policy_type: str,
        context: dict[str, Any],
        *,
        at: datetime | str | None = None,
        explain: bool = False,
        request_id: str | None = None,
    ) -> Decision:
        """Ask for one decision; as `PolicyEngine.check`.

        Raises:
            EngineUnavailableError: There is no answer.
            EngineRefusedError: The request is not accepted; nothing was decided.
        """
        body = {"policy_type": policy_type, "context": context, "at": at, "explain": explain}
        return self._ask("/api/v1/check", body, Decision, request_id)

    def check_many(
        self,
        policy_type: str,
        contexts: Iterable[dict[str, Any]],
        *,
        at: datetime | str | None = None,
        explain: bool = False,
        request_id: str | None = None,
    ) -> list[Decision]:
        """Ask for many decisions of one type, all by one revision; as `PolicyEngine.check_many`.

        Raises:
            EngineUnavailableError, EngineRefusedError: As for `check`.
        """
        body = {"policy_type": policy_type, "contexts": list(contexts), "at": at, "explain": explain}
        return self._ask("/api/v1/check/batch", body, _Batch, request_id).decisions

    def observe(self, observation: RoundObservation) -> RoundAdvice:
        """Send what was observed of a round and return what to do with its updates.

        The same observation again gets the first answer.

        Raises:
            RoundConflictError: The round was observed before, otherwise.
            LateRoundError: A later round is closed.
            EngineUnavailableError, EngineRefusedError: As for `check`.
        """
        answer = self._post("/api/v1/trust/observations", msgspec.json.encode(observation), None)
        if answer.status == 409:  # noqa: PLR2004 - conflict
            problem = _problem(answer)
            if problem.code == LateRoundError.code:
                raise LateRoundError(observation.federation, observation.round, _closed(problem, observation.round))
            if problem.code == RoundConflictError.code:
                raise RoundConflictError(observation.federation, observation.round)
        return _decoded(answer, RoundAdvice)

    def select(self, federation: str, round_number: int, candidates: Sequence[str]) -> Selection:
        """Ask whom to invite to a round; as `PolicyEngine.select`.

        Raises:
            EngineUnavailableError, EngineRefusedError: As for `check`.
        """
        body = {"federation": federation, "round": round_number, "candidates": list(candidates)}
        return self._ask("/api/v1/trust/selection", body, Selection)

    def _ask(self, path: str, body: dict[str, Any], kind: type[T], request_id: str | None = None) -> T:
        return _decoded(self._post(path, msgspec.json.encode(body), request_id), kind)

    def _post(self, path: str, body: bytes, request_id: str | None) -> _Answer:
        headers = self._headers if request_id is None else {**self._headers, "X-Request-ID": request_id}
        try:
            return self._sent(self._prefix + path, body, headers)
        except (OSError, HTTPException) as error:
            reason = str(error) or type(error).__name__
            raise EngineUnavailableError(f"the engine gave no answer: {reason}") from error

    def _sent(self, path: str, body: bytes, headers: dict[str, str]) -> _Answer:
        """Send a request; once more where a connection that was kept proves to be closed.

        Twice is as good as once: nothing that is asked here changes more when it is asked again.
        """
        while (kept := self._kept()) is not None:
            try:
                return self._exchange(kept, path, body, headers)
            except TimeoutError:
                raise
            except (OSError, HTTPException):
                continue
        return self._exchange(self._fresh(), path, body, headers)

    def _exchange(self, connection: HTTPConnection, path: str, body: bytes, headers: dict[str, str]) -> _Answer:
        try:
            connection.request("POST", path, body, headers)
            response = connection.getresponse()
            answer = _Answer(response.status, response.read())
        except BaseException:
            connection.close()
            raise
        if response.will_close:
            connection.close()
        else:
            self._keep(connection)
        return answer

    def _kept(self) -> HTTPConnection | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _keep(self, connection: HTTPConnection) -> None:
        with self._lock:
            if len(self._idle) < _MAX_IDLE:
                self._idle.append(connection)
                return
        connection.close()

    def _fresh(self) -> HTTPConnection:
        if self._ssl is not None:
            return HTTPSConnection(self._host, self._port, timeout=self._timeout, context=self._ssl)
        return HTTPConnection(self._host, self._port, timeout=self._timeout)


def _decoded(answer: _Answer, kind: type[T]) -> T:
    status = answer.status
    if 400 <= status < 500 and status not in _PASSING:  # noqa: PLR2004 - the range of refusals
        raise EngineRefusedError(status, _problem(answer).detail or "the engine does not say why")
    if status != 200:  # noqa: PLR2004 - what is asked here is answered so
        raise EngineUnavailableError(f"the engine answered {status}: {_problem(answer).detail}")
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except msgspec.DecodeError as error:
        raise EngineUnavailableError(f"the answer cannot be understood: {error}") from error


def _problem(answer: _Answer) -> _Problem:
    """Return what an answer says is wrong; nothing when it is not from the engine."""
    try:
        return msgspec.json.decode(answer.body, type=_Problem)
    except msgspec.DecodeError:
        return _Problem()


def _closed(problem: _Problem, round_number: int) -> int:
    """Return the round that is closed, as far as the answer tells."""
    found = _CLOSED.search(problem.detail)
    return int(found[1]) if found else round_number
