"""What is in the database, read beside the service."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, select

from policy_engine.ids import SequenceIds
from policy_engine.store import schema
from policy_engine.store.database import Database
from policy_engine.store.encode import decode_entries
from policy_engine.store.keys import KeyDirectory
from policy_engine.store.options import DEFAULT_TENANT
from policy_engine.store.position import position_at
from policy_engine.store.verify import verify

BUSY_SECONDS = 10.0


def url_of(data: Path) -> str:
    return f"sqlite:///{data / 'policy-engine.db'}"


def this_moment() -> int:
    """A position before everything that is recorded from now on."""
    return position_at(time.time_ns() // 1000)


class Stored:
    """A look into a database."""

    def __init__(self, url: str, keys: Path) -> None:
        self._url = url
        self._keys = keys

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        database = Database(self._url, busy_seconds=BUSY_SECONDS)
        try:
            with database.read() as connection:
                yield connection
        finally:
            database.close()

    def logged(self, since: int = 0) -> Counter[str]:
        """How often each decision is in the log."""
        table = schema.decision
        query = select(table.c.position, table.c.body).where(
            table.c.tenant == DEFAULT_TENANT, table.c.position >= since
        )
        with self._read() as connection:
            rows = connection.execute(query).all()
        return Counter(
            entry.decision.decision_id for position, body in rows for _, entry in decode_entries(position, bytes(body))
        )

    def event_ids(self, after: int) -> set[str]:
        """The ids of all events behind a position: those of management and one for each decision."""
        found: set[str] = set()
        with self._read() as connection:
            ids = SequenceIds(connection.execute(select(schema.store.c.store_id)).scalar_one())
            event, decision = schema.event, schema.decision
            query = select(event.c.position).where(event.c.tenant == DEFAULT_TENANT, event.c.position > after)
            found.update(ids.text(position) for position in connection.execute(query).scalars())
            rows = connection.execute(
                select(decision.c.position, decision.c.body).where(
                    decision.c.tenant == DEFAULT_TENANT, decision.c.position > after
                )
            ).all()
        for position, body in rows:
            found.update(ids.text(place) for place, _ in decode_entries(position, bytes(body)))
        return found

    def faults(self) -> list[str]:
        """What verifying the audit trail finds."""
        with self._read() as connection:
            report = verify(connection, DEFAULT_TENANT, KeyDirectory(self._keys).trusted())
        assert report.entries
        return [fault.text for fault in report.faults]


def twice(logged: Counter[str]) -> list[str]:
    return [decision for decision, number in logged.items() if number > 1]


def missing(logged: Counter[str], decisions: Iterable[str]) -> list[str]:
    return [decision for decision in decisions if decision not in logged]
