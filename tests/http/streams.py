"""Stores with streams in this process, and events to record in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.http.sse import Client, Sent

from policy_engine.http.stream import EventStream
from policy_engine.model.record import Checked
from policy_engine.pdp import PolicyEngine
from policy_engine.store.opened import Store
from policy_engine.store.options import StoreOptions

RULES = [{"action": "deny", "match": {"dst_port": 22}}, {"action": "allow", "match": {"protocol": "tcp"}}]
DOCUMENT = {"policies": {"web": {"type": "network_security", "rules": RULES}}}
ENGINE = PolicyEngine.from_document(DOCUMENT)


class Streams:
    """Opens stores on one database, each with a stream, and ends them."""

    def __init__(self, directory: Path) -> None:
        self._options: dict[str, Any] = {"url": f"sqlite:///{directory / 'x.db'}", "data_dir": directory}
        self._stores: list[Store] = []
        self._streams: list[EventStream] = []

    def store(self, **options: Any) -> Store:
        store = Store(StoreOptions(**{**self._options, **options}))
        self._stores.append(store)
        store.start()
        return store

    def __call__(self, store: Store, **options: Any) -> EventStream:
        stream = EventStream(store.events, "127.0.0.1", options.pop("port", 0), **options)
        stream.start()
        self._streams.append(stream)
        return stream

    def stop(self) -> None:
        for stream in self._streams:
            stream.stop()
        for store in self._stores:
            store.stop()


def decide(store: Store, *ports: int) -> list[str]:
    """Record decisions and return what names them in events."""
    contexts = [{"protocol": "tcp", "dst_port": port} for port in ports]
    checked = [
        Checked(decision, context, {})
        for decision, context in zip(ENGINE.check_many("network_security", contexts), contexts, strict=True)
    ]
    store.writer.record_decisions(checked)
    return [item.decision.decision_id for item in checked]


def record(store: Store, count: int = 1, **details: Any) -> list[str]:
    """Record management events and return what names them."""
    return [store.events.record("POLICY_UPDATED", {"number": number, **details}).event_id for number in range(count)]


def names(events: list[Sent]) -> list[str]:
    """What names events, to compare with what was recorded: they are all different."""
    return [event.data["details"].get("decision_id", event.data["event_id"]) for event in events]


def start_cursor(port: int) -> str:
    with Client(port) as client:
        client.until(lambda _: bool(client.parser.last_id))
        return client.parser.last_id
