"""A PostgreSQL server, for services that share one; and patience with the disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.databases import empty_database, running_postgres
from tests.postgres import Postgres


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for a disk that others are busy with for longer than callers of the service are made to."""
    monkeypatch.setattr("policy_engine.store.writer.MAX_WAIT_SECONDS", 2.0)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


@pytest.fixture
def postgres_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with empty_database("postgresql", tmp_path, request) as url:
        yield url
