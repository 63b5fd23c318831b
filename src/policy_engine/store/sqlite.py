"""SQLite: a file that several processes read and write, each commit on the disk before it counts."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event

from policy_engine.model.errors import StateError

_LOOK_SECONDS = 0.001
_PAGE_BYTES = 8192


def make_file(path: Path) -> None:
    """Make the file of a database, and its directory, unless it is there.

    Raises:
        StateError: They cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():  # what is in it is for its owner alone; its log takes over the mode
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    except OSError as error:
        raise StateError(f"cannot use the data directory `{path.parent}`: {error.strerror}") from error


def engine_to_read(url: URL, busy_seconds: float) -> Engine:
    """Return what reads.

    Args:
        url: Which file.
        busy_seconds: How long to wait for other processes.
    """
    return _engine(url, busy_seconds, kept=4, more=28, timeout=busy_seconds, begin=_begin_to_read)


def engine_to_write(url: URL, busy_seconds: float) -> Engine:
    """Return what writes: one connection as a rule, whose cache nobody else's writing makes void.

    Args:
        url: Which file.
        busy_seconds: How long to wait for other processes.
    """
    return _engine(url, busy_seconds, kept=1, more=15, timeout=0, begin=partial(_begin_to_write, busy_seconds))


def _engine(
    url: URL, busy_seconds: float, *, kept: int, more: int, timeout: float, begin: Callable[[Connection], None]
) -> Engine:
    engine = create_engine(
        url,
        hide_parameters=True,
        pool_size=kept,
        max_overflow=more,
        pool_timeout=busy_seconds,
        connect_args={"timeout": timeout, "check_same_thread": False},
    )
    event.listen(engine, "connect", partial(_set_up, busy_seconds))
    event.listen(engine, "begin", begin)
    return engine


def _set_up(busy_seconds: float, connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # transactions begin where `_begin_to_read` and `_begin_to_write` say
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
