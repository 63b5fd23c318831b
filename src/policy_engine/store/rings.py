"""The last events, in memory: one ring for management, one for decisions, so that neither crowds out the other."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from itertools import islice
from threading import Lock
from typing import Any, Generic, TypeVar

import msgspec

from policy_engine.ids import SequenceIds
from policy_engine.model.decision import Decision
from policy_engine.model.event import Event
from policy_engine.model.frozen import thaw

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
        self._ids = SequenceIds()
        self._last = 0
        self._management: _Ring[Event] = _Ring(capacity)
        self._decisions: _Ring[Decision] = _Ring(capacity)

    def record(self, event_type: str, details: dict[str, Any]) -> Event:
        """Append a management event and return it."""
        now = datetime.now(UTC)
        with self._lock:
            self._last += 1
            event = Event(
                event_id=self._ids.text(self._last), timestamp=now, event_type=event_type, details=thaw(details)
            )
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

        Following `last_event_id` from page to page loses and repeats nothing, unless `gap` says that events are gone.

        Args:
            since_event_id: The last event the caller has seen. One that is not of this log, because the service has
                been
                restarted, starts at the oldest event, with `gap`.
            limit: How many events at most.
            event_types: Which types to return; none means all.
        """
        with self._lock:
            held: list[tuple[int, Event | Decision]] = [*self._management.items(), *self._decisions.items()]
            evicted = max(ring.evicted for ring in self._rings(event_types))
            last = self._last
        held.sort(key=_number)
        known = None if since_event_id is None else self._ids.number(since_event_id)
        cursor = known if known is not None and known <= last else None
        after = [entry for entry in held if entry[0] > (cursor or 0)]
        chosen = list(islice((entry for entry in after if not event_types or _type(entry[1]) in event_types), limit))
        # A page that is not full has seen everything there is, so the next one goes on behind all of it.
        seen = chosen[-1][0] if len(chosen) == limit and chosen else last
        return EventPage(
            events=[self._render(number, item) for number, item in chosen],
            total=len(held),
            last_event_id=self._ids.text(seen) if seen else None,
            gap=since_event_id is not None and (cursor is None or evicted > cursor),
        )

    def _rings(self, event_types: Collection[str]) -> list[_Ring[Any]]:
        """Return the rings that may hold events of some types."""
        wanted = set(event_types)
        decisions: list[_Ring[Any]] = [self._decisions] if not wanted or wanted & _OF_DECISIONS else []
        management: list[_Ring[Any]] = [self._management] if not wanted or wanted - _OF_DECISIONS else []
        return [*management, *decisions]

    def _render(self, number: int, item: Event | Decision) -> Event:
        if isinstance(item, Event):
            return item
        return Event(
            event_id=self._ids.text(number),
            timestamp=item.timestamp,
            event_type=_type(item),
            details=_details(item),
        )


_OF_DECISIONS = frozenset({"POLICY_APPLIED", "POLICY_VIOLATION"})


def _number(entry: tuple[int, Any]) -> int:
    return entry[0]


def _type(item: Event | Decision) -> str:
    if isinstance(item, Event):
        return item.event_type
    return "POLICY_VIOLATION" if item.violations and not item.simulated else "POLICY_APPLIED"


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
    "shadow",
    "policy_version",
    "revision_digest",
    "simulated",
    "evaluation_time_ms",
)


def _details(decision: Decision) -> dict[str, Any]:
    details: dict[str, Any] = {name: getattr(decision, name) for name in _IN_DETAILS}
    return msgspec.to_builtins(details)  # type: ignore[no-any-return]
