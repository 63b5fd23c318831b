"""A PostgreSQL server that may be killed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGQUIT

import psycopg
import pytest
from tests.crash.killing import is_running
from tests.postgres import INSTALL, Postgres, is_available
from tests.service.running import eventually

_SETTINGS = "\nsynchronous_commit = on\n"
"""What was committed is with the system before that is said: so nothing is lost when the server is killed."""


class Server(Postgres):
    """A server that keeps what it said, as long as the machine lives."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        with (directory / "postgresql.conf").open("a") as file:
            file.write(_SETTINGS)

    def crash(self) -> None:
        """Stop it at once, without a word to those that are connected ("immediate shutdown")."""
        pid = self.pid
        os.kill(pid, SIGQUIT)
        eventually(lambda: not is_running(pid), "the server has stopped")

    def cut_all(self) -> None:
        """End every connection, of all databases, in the middle of whatever it does."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid != pg_backend_pid()")


@contextmanager
def running_server() -> Iterator[Server]:
    """Start a server; skip the test where there is none to start."""
    if not is_available():
        pytest.skip(f"no PostgreSQL server: {INSTALL}")
    directory = Path(tempfile.mkdtemp(prefix="policy-engine-"))
    server = Server(directory / "data")
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)
