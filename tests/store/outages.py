"""Ways in which a database is away, for real, and back again."""

from __future__ import annotations

import resource
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock, Thread
from typing import Protocol

from sqlalchemy import make_url
from tests.postgres import Postgres


class Outage(Protocol):
    """Takes a database away while it is entered."""

    def begin(self) -> None:
        """Take it away."""

    def end(self) -> None:
        """Give it back."""


class Locked:
    """Another program holds the write lock of an SQLite file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def begin(self) -> None:
        self._connection = sqlite3.connect(self._path, isolation_level=None, timeout=10)
        self._connection.execute("BEGIN IMMEDIATE")

    def end(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class FileLimit:
    """No file of this process may grow beyond a size, as on a full disk."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._usual = resource.getrlimit(resource.RLIMIT_FSIZE)

    def begin(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (self._max_bytes, self._usual[1]))

    def end(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self._usual)


class Stopped:
    """The PostgreSQL server is stopped."""

    def __init__(self, server: Postgres) -> None:
        self._server = server

    def begin(self) -> None:
        self._server.stop()

    def end(self) -> None:
        self._server.start()


class Frozen:
    """The PostgreSQL server is there, and does not run."""

    def __init__(self, server: Postgres) -> None:
        self._server = server

    def begin(self) -> None:
        self._server.freeze()

    def end(self) -> None:
        self._server.thaw()


@contextmanager
def away(outage: Outage) -> Iterator[None]:
    outage.begin()
    try:
        yield
    finally:
        outage.end()


class Proxy:
    """Stands between a client and PostgreSQL.

    It can cut the line when a commit is done but not yet answered, and lose the client when a commit is under way: then
    the server notices nothing, and the commit comes later.
    """

    def __init__(self, url: str, directory: Path) -> None:
        """Listen in a directory.

        Attributes:
            url: The database, by way of this proxy.
        """
        there = make_url(url)
        self._target = f"{there.query['host']}/.s.PGSQL.5432"
        self.url = there.set(query={"host": str(directory)}).render_as_string(hide_password=False)
        self._lock = Lock()
        self._cuts = 0
        self._loses = False
        self._late: list[tuple[socket.socket, bytes]] = []
        self._sockets: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(directory / ".s.PGSQL.5432"))
        self._listener.listen()
        self._threads = [Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def cut_after_commits(self, count: int) -> None:
        """Let so many further commits happen without an answer."""
        with self._lock:
            self._cuts = count

    def lose_at_commit(self) -> None:
        """Lose the client with all its connections when it commits next; new ones are not concerned."""
        with self._lock:
            self._loses = True

    @property
    def has_late_commit(self) -> bool:
        with self._lock:
            return bool(self._late)

    def deliver(self) -> None:
        """Let the server have the commit, and notice that the client is gone."""
        with self._lock:
            late, self._late = self._late, []
        for far, content in late:
            if content:
                far.sendall(content)
        for far, _ in late:
            self._close(far)

    @property
    def cuts_left(self) -> int:
        with self._lock:
            return self._cuts

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in list(self._sockets):
            self._close(end)
        for thread in list(self._threads):
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            try:
                far.connect(self._target)
            except OSError:
                far.close()
                near.close()
                continue
            self._sockets += [near, far]
            cut: list[bool] = []
            for thread in (
                Thread(target=self._ask, args=(near, far, cut), daemon=True),
                Thread(target=self._answer, args=(far, near, cut), daemon=True),
            ):
                self._threads.append(thread)
                thread.start()

    def _ask(self, near: socket.socket, far: socket.socket, cut: list[bool]) -> None:
        with suppress(OSError):
            while content := near.recv(65536):
                if b"COMMIT\0" in content:
                    with self._lock:
                        if self._cuts:
                            self._cuts -= 1
                            cut.append(True)
                        elif self._loses:
                            self._lose(far, content)
                            return
                far.sendall(content)
        if not self._is_late(far):
            self._close(far)

    def _lose(self, far: socket.socket, content: bytes) -> None:
        self._loses = False
        ends = self._sockets[:]
        for near, other in zip(ends[::2], ends[1::2], strict=True):
            if other.fileno() >= 0:
                self._late.append((other, content if other is far else b""))
                self._close(near)

    def _is_late(self, far: socket.socket) -> bool:
        with self._lock:
            return any(far is other for other, _ in self._late)

    def _answer(self, far: socket.socket, near: socket.socket, cut: list[bool]) -> None:
        with suppress(OSError):
            while content := far.recv(65536):
                if cut:
                    break
                near.sendall(content)
        self._close(near)
        if not self._is_late(far):
            self._close(far)

    @staticmethod
    def _close(end: socket.socket) -> None:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
