"""The database: SQLite or PostgreSQL, opened so that both keep the same promises.

What is committed has reached the disk. A reader sees one state. Of two transactions that write, the second one waits.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    IntegrityError,
    NoSuchModuleError,
    SQLAlchemyError,
)

from policy_engine.model.errors import StateError, StoreUnavailableError, TurnError

BUSY_SECONDS = 0.2
"""How long a writer waits for another process."""

_LOOK_SECONDS = 0.001

_PAGE_BYTES = 8192
_BEYOND_LIMITS = "54"
"""The class of PostgreSQL's codes for what is too large for it."""

_LIVE_BYTES = """
    SELECT (SELECT coalesce(sum(seq - tail_seq), 0) FROM chain WHERE stream = 'decision') * (
        SELECT coalesce(avg(octet_length(body)), 0) + 150 FROM (
            SELECT body FROM decision ORDER BY position DESC LIMIT 1000) AS newest)
"""
"""What the log takes, by the size of its newest rows: the files of PostgreSQL do not shrink when rows are removed."""

_BRIEF_MILLISECONDS = 50
_LOCK_NOT_AVAILABLE = "55P03"

_WRITE_LOCK = 7_030_011
"""The advisory lock under which PostgreSQL writers of one store take turns where they must."""


class Database:
    """One database, by URL.

    Attributes:
        url: The URL without its password.
        is_sqlite: Which of the two kinds it is.
    """

    def __init__(self, url: str, *, busy_seconds: float = BUSY_SECONDS) -> None:
        """Prepare connections; nothing is opened yet.

        Raises:
            StateError: The URL cannot be used.
        """
        try:
            parsed = make_url(url)
        except ArgumentError as error:
            raise StateError("the database URL is not one such as `sqlite:///data/policy-engine.db`") from error
        self.url = parsed.set(query={}).render_as_string(hide_password=True)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        self.path = Path(parsed.database).resolve() if self.is_sqlite and parsed.database else None
        try:
            self.engine = self._sqlite(parsed, busy_seconds) if self.is_sqlite else _postgresql(parsed)
            self._writing = self._sqlite_to_write(parsed, busy_seconds) if self.is_sqlite else self.engine
        except (ImportError, NoSuchModuleError) as error:
            raise StateError(f"there is no driver for the database `{self.url}`") from error

    def _sqlite(self, url: URL, busy_seconds: float) -> Engine:
        if self.path is None:
            raise StateError("an SQLite database needs a file: `sqlite:///data/policy-engine.db`")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if not self.path.exists():  # what is in it is for its owner alone; its log takes over the mode
                os.close(os.open(self.path, os.O_CREAT | os.O_WRONLY, 0o600))
        except OSError as error:
            raise StateError(f"cannot use the data directory `{self.path.parent}`: {error.strerror}") from error
        engine = create_engine(
            url,
            hide_parameters=True,
            pool_size=4,
            max_overflow=28,
            pool_timeout=busy_seconds,
            connect_args={"timeout": busy_seconds, "check_same_thread": False},
        )
        event.listen(engine, "connect", partial(_set_up_sqlite, busy_seconds))
        event.listen(engine, "begin", _begin_to_read)
        return engine

    @staticmethod
    def _sqlite_to_write(url: URL, busy_seconds: float) -> Engine:
        """Return what writes: one connection as a rule, whose cache nobody else's writing makes void."""
        engine = create_engine(
            url,
            hide_parameters=True,
            pool_size=1,
            max_overflow=15,
            pool_timeout=busy_seconds,
            connect_args={"timeout": 0, "check_same_thread": False},
        )
        event.listen(engine, "connect", partial(_set_up_sqlite, busy_seconds))
        event.listen(engine, "begin", partial(_begin_to_write, busy_seconds))
        return engine

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection that sees one state of the database.

        Raises:
            StoreUnavailableError: The database cannot be read at the moment.
        """
        with translated(self.url), self.engine.connect() as connection:
            if not self.is_sqlite:
                connection = connection.execution_options(isolation_level="REPEATABLE READ")  # noqa: PLW2901
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Give a connection in a transaction that writes; it is committed at the end, or undone by an error.

        Raises:
            StoreUnavailableError: The database cannot be written at the moment; nothing was changed.
        """
        with (
            translated(self.url),
            self._writing.begin() as connection,
        ):
            yield connection

    def close(self) -> None:
        """Close all connections."""
        self._writing.dispose()
        self.engine.dispose()

    def shrink(self) -> None:
        """Give freed space back to the file system; PostgreSQL does so itself.

        Raises:
            StoreUnavailableError: The database cannot be written at the moment.
        """
        if not self.is_sqlite:
            return
        with translated(self.url), closing(self.engine.raw_connection()) as connection:
            driver: Any = connection.driver_connection
            driver.executescript("PRAGMA incremental_vacuum")  # a plain execute gives back one page

    def bytes_used(self) -> int:
        """Return how many bytes the content takes."""
        with self.read() as connection:
            if self.is_sqlite:
                pages, free, size = (
                    int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())
                    for name in ("page_count", "freelist_count", "page_size")
                )
                return (pages - free) * size
            return int(connection.execute(text(_LIVE_BYTES)).scalar_one() or 0)


def serialise(connection: Connection, *, briefly: bool = False) -> None:
    """Let transactions that call this take turns until they end; those of SQLite always do.

    Args:
        connection: In the transaction.
        briefly: Whether not to wait for long, because what a writer has to log waits too.

    Raises:
        TurnError: It did not become this one's turn in time.
    """
    if connection.dialect.name != "postgresql":
        return
    if briefly:
        connection.execute(text(f"SET LOCAL lock_timeout = {_BRIEF_MILLISECONDS}"))
    try:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _WRITE_LOCK})
    except DBAPIError as error:
        if _sqlstate(error.orig) != _LOCK_NOT_AVAILABLE:
            raise
        raise TurnError("other processes change something; try again") from error
    if briefly:  # what follows may wait as usual
        connection.execute(text("SET LOCAL lock_timeout TO DEFAULT"))


def serialise_now(connection: Connection) -> bool:
    """Take the turn as `serialise` does if nobody has it; return whether that is so."""
    if connection.dialect.name != "postgresql":
        return True
    return bool(connection.execute(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": _WRITE_LOCK}).scalar_one())


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Turn the errors of the driver into ours.

    Raises:
        StoreUnavailableError: Whatever the driver refuses, but for what is wrong with the data.
    """
    try:
        yield
    except _driver_errors() as error:
        if is_refusal(error):
            raise
        cause = error.orig if isinstance(error, DBAPIError) else error
        reason = str(cause).partition("\n")[0].strip() or type(cause).__name__
        raise StoreUnavailableError(f"the database `{url}` cannot be used: {reason}") from error
    except SQLAlchemyError as error:
        raise StoreUnavailableError(f"the database `{url}` cannot be used: {type(error).__name__}") from error


def is_refusal(error: Exception) -> bool:
    """Whether the database is there and will not take what it was given, however often that is tried."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return isinstance(error, (IntegrityError, DataError)) or _sqlstate(cause).startswith(_BEYOND_LIMITS)


def _sqlstate(error: BaseException | None) -> str:
    return getattr(error, "sqlstate", None) or ""


def _driver_errors() -> tuple[type[Exception], ...]:
    """Return what drivers raise, wrapped by SQLAlchemy or not; that of PostgreSQL only where it is in use."""
    psycopg = sys.modules.get("psycopg")
    return (DBAPIError, sqlite3.Error, *([psycopg.Error] if psycopg else []))


def _set_up_sqlite(busy_seconds: float, connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # transactions begin where `_begin_sqlite` says
    _patiently(partial(_set_pragmas, connection), busy_seconds)  # who makes a new file into one with a log has it alone


def _set_pragmas(connection: sqlite3.Connection) -> None:
    pragmas = ["synchronous=FULL", "secure_delete=ON", "cache_size=-8192"]
    if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):  # to set these again would need the write lock
        pragmas[:0] = [f"page_size={_PAGE_BYTES}", "auto_vacuum=INCREMENTAL", "journal_mode=WAL"]
    for pragma in pragmas:
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_to_read(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _begin_to_write(busy_seconds: float, connection: Connection) -> None:
    """Wait for other processes and begin.

    Left to itself SQLite looks less and less often, at last every 100 ms: among several processes that write all the
    time, the one that has waited longest would be served last.
    """
    driver: Any = connection.connection.driver_connection
    _patiently(lambda: driver.execute("BEGIN IMMEDIATE").close(), busy_seconds)


def _patiently(act: Callable[[], None], busy_seconds: float) -> None:
    """Do something as soon as nobody else has the file, which SQLite itself does not wait for in every case.

    Raises:
        sqlite3.OperationalError: It is still busy after so long, or something else is wrong.
    """
    deadline = time.monotonic() + busy_seconds
    while True:
        try:
            act()
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() >= deadline:
                raise
            time.sleep(_LOOK_SECONDS)
        else:
            return


def _postgresql(url: URL) -> Engine:
    if url.get_backend_name() != "postgresql":
        raise StateError(f"`{url.get_backend_name()}` databases are not supported: `sqlite` and `postgresql` are")
    return create_engine(
        url.set(drivername="postgresql+psycopg"),
        hide_parameters=True,
        pool_pre_ping=True,
        pool_size=4,
        max_overflow=12,
        pool_timeout=BUSY_SECONDS,
        connect_args={
            "connect_timeout": 2,
            "application_name": "policy-engine",
            "options": "-c lock_timeout=2000",
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": 10_000,
        },
    )
