"""A seat: the number under which one process writes; while it is held, no other process has it."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection, text

from policy_engine.model.errors import StateError
from policy_engine.store.database import Database, translated
from policy_engine.store.position import MAX_WRITERS

_LOCK_CLASS = 7_030_012
_UNLOCK = text("SELECT pg_advisory_unlock(:class, :number)")


class Seat(Protocol):
    """The right to write under a number; it ends with the process, however that ends."""

    number: int

    def release(self) -> None:
        """Give the number back; it is no error to do so twice."""


def take_seat(database: Database, *, wanted: int | None = None) -> Seat:
    """Take the number that is wanted if it is free, else the lowest free one.

    Raises:
        StoreUnavailableError: The database is away.
        StateError: No number is free.
    """
    order = [*([wanted] if wanted else []), *range(1, MAX_WRITERS)]
    return _file_seat(database.path, order) if database.path else _database_seat(database, order)


def is_in_use(database: Database) -> bool:
    """Whether some process has a seat, that is, may write.

    Raises:
        StoreUnavailableError: The database is away.
        StateError: The files of the seats cannot be looked at.
    """
    if database.path is None:
        query = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = :class")
        with database.read() as connection:
            return bool(connection.execute(query, {"class": _LOCK_CLASS}).scalar_one())
    try:
        return any(_is_locked(path) for path in _directory(database.path).glob("[0-9]*"))
    except OSError as error:
        raise StateError(f"cannot look at `{_directory(database.path)}`: {error.strerror}") from error


def _directory(database: Path) -> Path:
    return database.with_name(f"{database.name}-writers")


def _is_locked(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


class _FileSeat:
    """A locked file beside the SQLite database."""

    def __init__(self, number: int, descriptor: int) -> None:
        self.number = number
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _file_seat(database: Path, order: list[int]) -> Seat:
    directory = _directory(database)
    try:
        directory.mkdir(exist_ok=True)
        for number in order:
            descriptor = os.open(directory / str(number), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                continue
            return _FileSeat(number, descriptor)
    except OSError as error:
        raise StateError(f"cannot lock a file in `{directory}`: {error.strerror}") from error
    raise StateError("every writer's number is taken")


class _DatabaseSeat:
    """An advisory lock of PostgreSQL, held by a connection of its own."""

    def __init__(self, number: int, connection: Connection) -> None:
        self.number = number
        self._connection: Connection | None = connection

    def release(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            with suppress(Exception):  # the connection may be broken: then the lock is gone already
                connection.execute(_UNLOCK, {"class": _LOCK_CLASS, "number": self.number})
            with suppress(Exception):  # the server takes its time to notice that a connection was closed
                connection.invalidate()
                connection.close()


def _database_seat(database: Database, order: list[int]) -> Seat:
    with translated(database.url):
        connection = database.connect()
        try:
            return _lock_one(connection, order)
        except BaseException:
            connection.invalidate()
            connection.close()
            raise


def _lock_one(connection: Connection, order: list[int]) -> Seat:
    for number in order:
        query = text("SELECT pg_try_advisory_lock(:class, :number)")
        if connection.execute(query, {"class": _LOCK_CLASS, "number": number}).scalar_one():
            return _DatabaseSeat(number, connection)
    raise StateError("every writer's number is taken")
