"""The databases that the contract tests run on: each test gets an empty one."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
from tests.postgres import INSTALL, Postgres, is_available

KINDS = ("sqlite", "postgresql")

_numbers = count(1)


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Start a PostgreSQL server of its own; skip the test where there is none to start."""
    if not is_available():
        pytest.skip(f"no PostgreSQL server: {INSTALL}")
    directory = Path(tempfile.mkdtemp(prefix="policy-engine-"))
    server = Postgres(directory / "data")
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def empty_database(kind: str, directory: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """Give the URL of an empty database of one of the KINDS, and remove it afterwards.

    Args:
        kind: Which one.
        directory: Where an SQLite file goes.
        request: Its `postgres` fixture is the server, which so starts for the first test that needs it.
    """
    if kind == "sqlite":
        yield f"sqlite:///{directory}/policy-engine.db"
        return
    server: Postgres = request.getfixturevalue("postgres")
    name = f"test_{next(_numbers)}"
    try:
        yield server.create(name)
    finally:
        server.drop(name)
