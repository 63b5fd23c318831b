"""The last events, in memory: one ring for management, one for decisions, so that neither crowds out the other."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from itertools import islice
from threading import Lock
from typing import Any, Generic, TypeVar

import msgspec

from policy_engine.ids import uuid7
from policy_engine.model.decision import Decision
from policy_engine.model.event import Event

CAPACITY = 1000
MAX_PAGE = 2 * CAPACITY

T = TypeVar("T")


class EventPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some events, oldest first.

    Attributes:
        total: How many events are held at the moment.
        last_event_id: Where the next page goes on; None when there has never been an event.
        gap: Whether events between the cursor and the first one here are gone.
    """

    events: list[Event]
    total: int
    last_event_id: str | None
    gap: bool


class _Ring(Generic[T]):
    """The last items, numbered by a sequence that several rings share.

    Attributes:
        evicted: The highest number that was overwritten.
    """

    def __init__(self, capacity: int) -> None:
        self._slots: list[tuple[int, T] | None] = [None] * capacity
        self._next = 0
        self.evicted = 0

    def append(self, number: int, item: T) -> None:
        place = self._next
        old = self._slots[place]
        if old is not None:
            self.evicted = old[0]
        self._slots[place] = (number, item)
        self._next = (place + 1) % len(self._slots)

    def items(self) -> list[tuple[int, T]]:
        """Return what is held, oldest first."""
        ordered = self._slots[self._next :] + self._slots[: self._next]
        return [entry for entry in ordered if entry is not None]


class EventLog:
    """The events that can still be read.

    Thread-safe. Decisions are kept as they are and rendered as events when somebody reads them: a check pays an
    append only.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._lock = Lock()
        self._last = 0
        self._management: _Ring[Event] = _Ring(capacity)
        self._decisions: _Ring[Decision] = _Ring(capacity)

    def record(self, event_type: str, details: dict[str, Any]) -> Event:
        """Append a management event and return it."""
        event = Event(event_id=uuid7(), timestamp=datetime.now(UTC), event_type=event_type, details=details)
        with self._lock:
            self._last += 1
            self._management.append(self._last, event)
        return event

    def record_decisions(self, decisions: Sequence[Decision]) -> None:
        """Append decisions."""
        with self._lock:
            for decision in decisions:
                self._last += 1
                self._decisions.append(self._last, decision)

    def page(
        self, *, since_event_id: str | None = None, limit: int = MAX_PAGE, event_types: Collection[str] = ()
    ) -> EventPage:
        """Return the events after a cursor, oldest first.

        Following `last_event_id` from page to page loses and repeats nothing, unless `gap` says so.

        Args:
            since_event_id: The last event the caller has seen. One that is not held (any more) starts at the oldest
                event, with `gap`.
            limit: How many events at most.
            event_types: Which types to return; none means all.
        """
        with self._lock:
            held: list[tuple[int, Event | Decision]] = [*self._management.items(), *self._decisions.items()]
            evicted = max(self._management.evicted, self._decisions.evicted)
        held.sort(key=_number)
        cursor = _position(held, since_event_id)
        after = [entry for entry in held if entry[0] > (cursor or 0)]
        chosen = list(islice((entry for entry in after if not event_types or _type(entry[1]) in event_types), limit))
        return EventPage(
            events=[_render(item) for _, item in chosen],
            total=len(held),
            last_event_id=_next_cursor(held, chosen, limit, since_event_id),
            gap=since_event_id is not None and (cursor is None or evicted > cursor),
        )


def _number(entry: tuple[int, Any]) -> int:
    return entry[0]


def _position(held: Sequence[tuple[int, Event | Decision]], event_id: str | None) -> int | None:
    return next((number for number, item in held if _id(item) == event_id), None)


def _next_cursor(
    held: Sequence[tuple[int, Event | Decision]],
    chosen: Sequence[tuple[int, Event | Decision]],
    limit: int,
    since: str | None,
) -> str | None:
    """Return where the next page goes on: a full page ends with its last event, another has seen everything."""
    if len(chosen) == limit:
        return _id(chosen[-1][1]) if chosen else since
    return _id(held[-1][1]) if held else since


def _id(item: Event | Decision) -> str:
    return item.event_id if isinstance(item, Event) else item.decision_id


def _type(item: Event | Decision) -> str:
    if isinstance(item, Event):
        return item.event_type
    return "POLICY_VIOLATION" if item.violations and not item.simulated else "POLICY_APPLIED"


def _render(item: Event | Decision) -> Event:
    if isinstance(item, Event):
        return item
    return Event(event_id=item.decision_id, timestamp=item.timestamp, event_type=_type(item), details=_details(item))


_IN_DETAILS = (
    "decision_id",
    "request_id",
    "policy_type",
    "allowed",
    "decision",
    "reason",
    "reason_code",
    "policy_id",
    "policy_name",
    "rule_index",
    "violations",
    "errors",
    "policy_version",
    "revision_digest",
    "simulated",
    "evaluation_time_ms",
)


def _details(decision: Decision) -> dict[str, Any]:
    details: dict[str, Any] = {name: getattr(decision, name) for name in _IN_DETAILS}
    return msgspec.to_builtins(details)  # type: ignore[no-any-return]
