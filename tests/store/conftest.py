"""A database of each kind, and stores on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.databases import KINDS, empty_database, running_postgres
from tests.postgres import Postgres
from tests.store.stores import Stores


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


@pytest.fixture(params=KINDS)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with empty_database(request.param, tmp_path, request) as url:
        yield url


@pytest.fixture
def sqlite_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with empty_database("sqlite", tmp_path, request) as url:
        yield url


@pytest.fixture
def postgres_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with empty_database("postgresql", tmp_path, request) as url:
        yield url


@pytest.fixture
def stores(database_url: str, tmp_path: Path) -> Iterator[Stores]:
    made = Stores(database_url, tmp_path)
    yield made
    made.stop()
