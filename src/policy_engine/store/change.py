"""A change: a transaction that the writer carries out for somebody who waits for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import Any, Generic, NamedTuple, TypeVar

from policy_engine.ids import SequenceIds
from policy_engine.model.event import Event
from policy_engine.model.frozen import thaw
from policy_engine.store.batch import Batch
from policy_engine.store.encode import append_event
from policy_engine.store.position import microseconds_of

T = TypeVar("T")


class Transaction:
    """What a change may do: use the connection, and append events and revisions at the positions it asked for.

    Attributes:
        connection: In a transaction that is committed when the change is done.
        events: What was appended, with positions.
    """

    def __init__(self, batch: Batch, positions: Sequence[int], ids: SequenceIds) -> None:
        self.connection = batch.connection
        self.batch = batch
        self.events: list[tuple[int, Event]] = []
        self._positions = iter(positions)
        self._ids = ids

    def position(self) -> int:
        """Take the next position."""
        return next(self._positions)

    def event(self, event_type: str, details: dict[str, Any]) -> Event:
        """Append an event."""
        position = self.position()
        event = make_event(self._ids, position, event_type, details)
        append_event(self.batch, position, event)
        self.events.append((position, event))
        return event


class Change(NamedTuple, Generic[T]):
    """A transaction that is to be carried out.

    Attributes:
        apply: Does it.
        positions: How many positions it needs.
        done: Gets what `apply` returns, once that has reached the disk.
    """

    apply: Callable[[Transaction], T]
    positions: int
    done: Future[T]

    def fail(self, error: Exception) -> None:
        """Tell whoever waits that it was not made, unless that is settled already."""
        if not self.done.done():
            self.done.set_exception(error)


def make_event(ids: SequenceIds, position: int, event_type: str, details: dict[str, Any]) -> Event:
    """Return the event at a position."""
    moment = datetime.fromtimestamp(microseconds_of(position) / 1e6, UTC)
    return Event(event_id=ids.text(position), timestamp=moment, event_type=event_type, details=thaw(details))
