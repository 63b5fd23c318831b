"""PostgreSQL: connections that neither side keeps when the other one is gone, or says nothing any more."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Mapping
from typing import Any, TypeAlias, TypeVar

import psycopg
from psycopg.errors import ConnectionTimeout
from sqlalchemy import URL, Engine, create_engine, event

from policy_engine.store.pulse import Pulse

R = TypeVar("R")

_SILENT_SECONDS = 1.5
"""A server that leaves what takes no time unanswered for so long does not answer at all."""

_CONNECT_SECONDS = 2
"""The least that there is."""

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
    "connect_timeout": _CONNECT_SECONDS,
    "application_name": "policy-engine",
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}


_Address: TypeAlias = tuple[str, int]
"""The host, or the directory of a socket, and the port."""


class SilentServerError(psycopg.OperationalError):
    """The server does not answer."""

    is_silence = True


class _Connection(psycopg.Connection[Any]):
    """A connection that is given up while it waits, when that is in vain.

    Attributes:
        is_vain: Whether it is.
        patience: How long to wait for one answer, in seconds; None for as long as it takes.
    """

    is_vain: Callable[[], bool] | None = None
    patience: float | None = None

    def wait(self, gen: Generator[Any, Any, R], interval: float = _LOOK_SECONDS, timeout: float | None = None) -> R:
        return super().wait(self._unless_vain(gen), interval, timeout)

    def _unless_vain(self, gen: Generator[Any, Any, R]) -> Generator[Any, Any, R]:
        deadline = math.inf if self.patience is None else time.monotonic() + self.patience
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and (time.monotonic() >= deadline or (self.is_vain and self.is_vain())):
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
        self._probe = _Probe(self.engine, arguments)
        self.pulse = Pulse(name, self._probe)
        event.listen(self.engine, "do_connect", self._connect)

    def _connect(self, _dialect: Any, _record: Any, args: Any, parameters: Any) -> _Connection:
        pulse, probe = self.pulse, self._probe
        if pulse.is_silent:
            raise SilentServerError("the server does not answer")
        silences = pulse.silences
        connection = _Connection.connect(*args, **parameters)
        address = _address(connection)

        def is_vain() -> bool:
            return pulse.is_silent or pulse.silences != silences or probe.address not in {None, address}

        connection.is_vain = is_vain
        return connection


def _address(connection: _Connection) -> _Address:
    return connection.info.host, connection.info.port


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
    """Asks a server what takes no time, by a connection of its own.

    Attributes:
        address: Which one of several has answered last: when that is another one, the one before does not.
    """

    def __init__(self, engine: Engine, arguments: Mapping[str, Any]) -> None:
        self._engine = engine
        self._arguments = arguments
        self.address: _Address | None = None
        self._connection: _Connection | None = None

    def answers(self) -> bool | None:
        try:
            self._connection = self._connection or self._connect()
            self._connection.execute("SELECT 1")
        except (ConnectionTimeout, SilentServerError):
            self.close()
            return False
        except psycopg.Error:
            self.close()
            return None
        self.address = _address(self._connection)
        return True

    def _connect(self) -> _Connection:
        args, parameters = self._engine.dialect.create_connect_args(self._engine.url)
        every = {**parameters, **self._arguments, "connect_timeout": _CONNECT_SECONDS, "autocommit": True}
        connection = _Connection.connect(*args, **every)
        connection.patience = _SILENT_SECONDS
        return connection

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
