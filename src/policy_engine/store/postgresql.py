"""PostgreSQL: connections that neither side keeps when the other one is gone, or says nothing any more."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from typing import Any, TypeVar

import psycopg
from psycopg.errors import ConnectionTimeout
from sqlalchemy import URL, Engine, create_engine, event

from policy_engine.store.pulse import Pulse

R = TypeVar("R")

_SILENT_SECONDS = 1.5
"""A server that leaves what takes no time unanswered for so long does not answer at all."""

_LOOK_SECONDS = 0.1
"""How often whoever waits looks whether that is in vain."""

_OPTIONS = {
    "lock_timeout": "2s",
    "idle_in_transaction_session_timeout": "60s",
    "tcp_keepalives_idle": "5s",
    "tcp_keepalives_interval": "2s",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "10s",
}
"""What the server is to do: to end what waits for long, and to notice when this process or its machine is gone, because
what that holds, a seat or the turn to write, is held until then."""

_CONNECT_ARGS = {
    "connect_timeout": 2,
    "application_name": "policy-engine",
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}


class SilentServerError(psycopg.OperationalError):
    """The server does not answer."""


class _Connection(psycopg.Connection[Any]):
    """A connection that is given up while it waits, when that is in vain."""

    is_vain: Callable[[], bool] | None = None

    def wait(self, gen: Generator[Any, Any, R], interval: float = _LOOK_SECONDS, timeout: float | None = None) -> R:
        return super().wait(self._unless_vain(gen), interval, timeout)

    def _unless_vain(self, gen: Generator[Any, Any, R]) -> Generator[Any, Any, R]:
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and self.is_vain and self.is_vain():
                    self.pgconn.finish()
                    raise SilentServerError("the server does not answer")
                wanted = gen.send(ready)
        except StopIteration as end:
            result: R = end.value
            return result


class Server:
    """A server, as one process sees it.

    Attributes:
        engine: Reads and writes.
        pulse: Whether the server answers; while it does not, nobody waits for it.
    """

    def __init__(self, url: URL, name: str, pool_seconds: float) -> None:
        """Prepare connections; nothing is opened yet.

        Args:
            url: Which database.
            name: What to call it in the log.
            pool_seconds: How long to wait for a connection, when all are in use.
        """
        arguments = _arguments(url)
        self.engine = create_engine(
            url.set(drivername="postgresql+psycopg"),
            hide_parameters=True,
            pool_pre_ping=True,
            pool_size=4,
            max_overflow=12,
            pool_timeout=pool_seconds,
            connect_args=arguments,
        )
        self.pulse = Pulse(name, _Probe(self.engine, arguments))
        event.listen(self.engine, "do_connect", self._connect)

    def _connect(self, _dialect: Any, _record: Any, args: Any, parameters: Any) -> _Connection:
        if self.pulse.is_silent:
            raise SilentServerError("the server does not answer")
        connection = _Connection.connect(*args, **parameters)
        connection.is_vain = lambda: self.pulse.is_silent
        return connection


def _arguments(url: URL) -> dict[str, Any]:
    """Return what connections are opened with beside the URL, which has the last word."""
    own = " ".join(f"-c {name}={value}" for name, value in _OPTIONS.items())
    given = url.query.get("options", "")
    theirs = given if isinstance(given, str) else " ".join(given)
    return {
        **{name: value for name, value in _CONNECT_ARGS.items() if name not in url.query},
        "options": f"{own} {theirs}".strip(),
    }


class _Probe:
    """Asks a server what takes no time, by a connection of its own."""

    def __init__(self, engine: Engine, arguments: Mapping[str, Any]) -> None:
        self._engine = engine
        self._arguments = arguments
        self._connection: _Connection | None = None

    def answers(self) -> bool:
        try:
            connection = self._connection = self._connection or self._connect()
            deadline = time.monotonic() + _SILENT_SECONDS
            connection.is_vain = lambda: time.monotonic() >= deadline
            connection.execute("SELECT 1")
        except (ConnectionTimeout, SilentServerError):
            self.close()
            return False
        except psycopg.Error:
            self.close()
        return True

    def _connect(self) -> _Connection:
        args, parameters = self._engine.dialect.create_connect_args(self._engine.url)
        every: dict[str, Any] = {**parameters, **self._arguments, "autocommit": True}
        return _Connection.connect(*args, **every)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
