"""The database: SQLite or PostgreSQL, opened so that both keep the same promises.

What is committed has reached the disk. A reader sees one state. Of two transactions that write, the second one waits.
"""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, make_url, text
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    IntegrityError,
    NoSuchModuleError,
    SQLAlchemyError,
)

from policy_engine.model.errors import StateError, StoreSilentError, StoreUnavailableError, TurnError
from policy_engine.store.pulse import Pulse
from policy_engine.store.sqlite import engine_to_read, engine_to_write, make_file

BUSY_SECONDS = 0.2
"""How long a writer waits for another process."""

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
        self.path: Path | None = None
        self._pulse: Pulse | None = None
        try:
            self._open(parsed, busy_seconds)
        except (ImportError, NoSuchModuleError) as error:
            raise StateError(f"there is no driver for the database `{self.url}`") from error

    def _open(self, url: URL, busy_seconds: float) -> None:
        if self.is_sqlite:
            if not url.database:
                raise StateError("an SQLite database needs a file: `sqlite:///data/policy-engine.db`")
            self.path = Path(url.database).resolve()
            make_file(self.path)
            self._reading, self._writing = engine_to_read(url, busy_seconds), engine_to_write(url, busy_seconds)
        elif url.get_backend_name() == "postgresql":
            from policy_engine.store.postgresql import Server  # noqa: PLC0415 - who has no such server needs no driver

            server = Server(url, self.url, BUSY_SECONDS)
            self._reading = self._writing = server.engine
            self._pulse = server.pulse
        else:
            name = url.get_backend_name()
            raise StateError(f"`{name}` databases are not supported: `sqlite` and `postgresql` are")

    def watch(self) -> None:
        """Begin to watch whether the server answers, so that nobody waits for it in vain."""
        if self._pulse:
            self._pulse.start()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection that sees one state of the database.

        Raises:
            StoreUnavailableError: The database cannot be read at the moment.
        """
        self._need_answers()
        with translated(self.url), self._reading.connect() as connection:
            if not self.is_sqlite:
                connection = connection.execution_options(isolation_level="REPEATABLE READ")  # noqa: PLW2901
            yield connection

    @contextmanager
    def write(self, *, patience: float | None = None) -> Iterator[Connection]:
        """Give a connection in a transaction that writes; it is committed at the end, or undone by an error.

        Args:
            patience: How long PostgreSQL may take for one statement or the commit, in seconds; None for any time.

        Raises:
            StoreUnavailableError: The database cannot be written at the moment; nothing was changed, unless it went
                away in the moment of the commit.
        """
        self._need_answers()
        with (
            translated(self.url),
            self._writing.connect() as connection,
            self._limited(connection, patience),
            connection.begin(),
        ):
            yield connection

    @contextmanager
    def _limited(self, connection: Connection, patience: float | None) -> Iterator[None]:
        if self.is_sqlite or patience is None:
            yield
            return
        driver: Any = connection.connection.driver_connection
        driver.patience = patience
        try:
            yield
        finally:
            driver.patience = None

    def connect(self) -> Connection:
        """Return a connection on which each statement stands for itself; the caller closes it.

        Raises:
            StoreUnavailableError: The database is away.
        """
        self._need_answers()
        with translated(self.url):
            return self._reading.connect().execution_options(isolation_level="AUTOCOMMIT")

    @property
    def is_silent(self) -> bool:
        """Whether the server does not answer at the moment, as far as that is watched."""
        return self._pulse is not None and self._pulse.is_silent

    def _need_answers(self) -> None:
        if self.is_silent:
            raise StoreSilentError(f"the database `{self.url}` does not answer")

    def close(self) -> None:
        """Close all connections."""
        if self._pulse:
            self._pulse.stop()
        self._writing.dispose()
        self._reading.dispose()

    def shrink(self) -> None:
        """Give freed space back to the file system; PostgreSQL does so itself.

        Raises:
            StoreUnavailableError: The database cannot be written at the moment.
        """
        if not self.is_sqlite:
            return
        with translated(self.url), closing(self._reading.raw_connection()) as connection:
            driver: Any = connection.driver_connection
            driver.executescript("PRAGMA incremental_vacuum")  # a plain execute gives back one page

    def scrub(self, table: str, busy_seconds: float) -> bool:
        """Overwrite what was deleted; return whether it is off the disk.

        PostgreSQL may write over it from then on; its own log, archives and standbys keep it for as long as they last.

        Args:
            table: What it was deleted from.
            busy_seconds: How long to wait for readers of an SQLite file, whose log holds deleted rows until then.

        Raises:
            StoreUnavailableError: The database is away.
        """
        if not self.is_sqlite:
            with self.connect() as connection, translated(self.url):
                connection.exec_driver_sql(f"VACUUM {table}")
            return True
        deadline = time.monotonic() + busy_seconds
        with translated(self.url), closing(self._reading.raw_connection()) as connection:
            while time.monotonic() < deadline:
                is_busy, *_ = connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                if not is_busy:
                    return True
        return False

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
        kind = StoreSilentError if getattr(cause, "is_silence", False) else StoreUnavailableError
        raise kind(f"the database `{url}` cannot be used: {reason}") from error
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
