"""The database of a service, seen from outside: locked by somebody else, altered behind its back."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

from policy_engine.service import PolicyService


def path_of(service: PolicyService) -> str:
    assert service.store.database.path is not None
    return str(service.store.database.path)


@contextmanager
def locked(service: PolicyService) -> Iterator[None]:
    """Keep everybody from writing, as another program does that holds a transaction open."""
    with closing(sqlite3.connect(path_of(service), isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            connection.execute("ROLLBACK")


def alter(path: str, statement: str, values: Sequence[Any] = ()) -> int:
    """Change what is stored without asking anybody, and return how many rows that were."""
    with closing(sqlite3.connect(path, timeout=20)) as connection, connection:
        return connection.execute(statement, values).rowcount
