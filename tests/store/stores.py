"""Stores to test, decisions to put into them, and a look at what is in the database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from time import monotonic, sleep
from typing import Any, NamedTuple

from sqlalchemy import select

from policy_engine.model.errors import BusyError, ConflictError, StoreUnavailableError
from policy_engine.model.record import Checked, LogEntry
from policy_engine.pdp import PolicyEngine
from policy_engine.store import schema
from policy_engine.store.chain import Link, entry_hash
from policy_engine.store.database import Database
from policy_engine.store.decisions import DecisionQuery, LoggedDecision
from policy_engine.store.encode import decode_entries
from policy_engine.store.opened import Store
from policy_engine.store.options import StoreOptions
from policy_engine.store.position import writer_of

PATIENCE_SECONDS = 30.0
"""How long tests wait for what must happen: far longer than it ever takes."""

_RULES = [
    {"action": "deny", "description": "no ssh", "match": {"dst_port": 22}},
    {"action": "allow", "description": "tcp", "match": {"protocol": "tcp"}},
]
_DOCUMENT = {
    "policies": {
        "web": {"type": "network_security", "rules": _RULES},
        "train": {"type": "fl_client_training", "rules": [{"action": "deny", "match": {"operation": "cheat"}}]},
    }
}
ENGINE = PolicyEngine.from_document(_DOCUMENT)


def checked(policy_type: str = "network_security", **context: Any) -> Checked:
    """Decide something, and return it as the writer takes it."""
    known = {"protocol": "tcp", "dst_port": 80, **context}
    return Checked(ENGINE.check(policy_type, known), known, {})


def ids_of(decisions: Iterable[Checked]) -> list[str]:
    return [item.decision.decision_id for item in decisions]


class Troubles:
    """Notes what a store tells of its troubles."""

    def __init__(self) -> None:
        self.now: dict[str, str] = {}
        self.ever: Counter[str] = Counter()

    def __call__(self, code: str, detail: str | None) -> None:
        if detail is None:
            self.now.pop(code, None)
        else:
            self.now[code] = detail
            self.ever[code] += 1


class Stores:
    """Opens stores on one database, as several processes would, and stops them."""

    def __init__(self, url: str, directory: Path) -> None:
        self.url = url
        self.directory = directory
        self.troubles = Troubles()
        self._made: list[Store] = []

    def __call__(self, *, name: str = "one", started: bool = True, **options: Any) -> Store:
        """Open a store whose data directory has a name; all share the audit key."""
        given = {"data_dir": self.directory / name, "key_dir": self.directory / "keys", **options}
        store = Store(StoreOptions(url=self.url, **given), told=self.troubles)
        self._made.append(store)
        if started:
            store.start()
        return store

    def end(self, store: Store) -> None:
        """Stop one store."""
        self._made.remove(store)
        store.stop()

    def stop(self) -> None:
        while self._made:
            self._made.pop().stop()


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until something has come to be."""
    end = monotonic() + PATIENCE_SECONDS
    while not condition():
        assert monotonic() < end, f"still waiting: {what}"
        sleep(0.01)


def patiently(action: Callable[[], Any]) -> Any:
    """Do something again as long as it is refused because others are busy."""
    end = monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return action()
        except (BusyError, ConflictError, StoreUnavailableError):
            assert monotonic() < end
            sleep(0.01)


def all_decisions(store: Store, query: DecisionQuery | None = None, *, limit: int = 100) -> list[LoggedDecision]:
    """Return all decisions that match, newest first, page by page."""
    found: list[LoggedDecision] = []
    cursor = None
    while True:
        page = store.decisions.page(query or DecisionQuery(), limit=limit, cursor=cursor)
        assert len(page.decisions) <= limit
        found += page.decisions
        cursor = page.next_cursor
        if cursor is None:
            return found


def flush(store: Store) -> None:
    """Wait until everything that was recorded is in the database."""
    patiently(lambda: store.writer.transact(lambda _: None))
    until(lambda: not store.writer.waiting, "the queue is empty")


class Row(NamedTuple):
    """One row of a stream."""

    position: int
    seq: int
    body: bytes
    hash: bytes
    items: int


class Content:
    """What is in a database, read without the code that is tested."""

    def __init__(self, url: str) -> None:
        self._url = url

    def rows(self, stream: str) -> list[Row]:
        """Return the rows of a stream in the order of their positions."""
        table = schema.STREAMS[stream]
        database = Database(self._url)
        with database.read() as connection:
            rows = connection.execute(select(table).order_by(table.c.position)).mappings().all()
        database.close()
        return [
            Row(row["position"], row["seq"], bytes(row["body"]), bytes(row["hash"]), row.get("count", 1))
            for row in rows
        ]

    def all(self, table: str) -> list[Any]:
        """Return all rows of a table."""
        database = Database(self._url)
        with database.read() as connection:
            rows = connection.execute(select(schema.metadata.tables[table])).all()
        database.close()
        return list(rows)

    def entries(self) -> list[tuple[int, LogEntry]]:
        """Return the decision log, oldest first."""
        return [entry for row in self.rows("decision") for entry in decode_entries(row.position, row.body)]

    def decision_ids(self) -> list[str]:
        return [entry.decision.decision_id for _, entry in self.entries()]

    def check_chains(self) -> None:
        """Recompute every chain from its rows, and compare it with the heads."""
        heads = {(row.writer, row.stream): row for row in self.all("chain")}
        for stream in schema.STREAMS:
            links: dict[int, Link] = {}
            for row in self.rows(stream):
                writer = writer_of(row.position)
                before = links.get(writer, Link())
                assert row.position > before.position
                assert row.seq == before.seq + 1
                assert row.hash == entry_hash(before.hash, row.position, row.seq, row.body)
                links[writer] = Link(row.seq, row.position, row.hash, before.items + row.items)
            for writer in {number for number, name in heads if name == stream}:
                head = heads[writer, stream]
                assert links.get(writer, Link()) == Link(head.seq, head.position, bytes(head.hash), head.items)
