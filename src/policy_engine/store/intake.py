"""The intake: what waits to be written, and what readers of this process see of it meanwhile."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Condition, Lock
from threading import Event as Signal
from typing import Any, NamedTuple

from policy_engine.ids import SequenceIds
from policy_engine.model.errors import BusyError
from policy_engine.model.event import Event
from policy_engine.store.chain import Link
from policy_engine.store.change import Change, make_event
from policy_engine.store.encode import MAX_ITEMS, Ahead, Decisions, Happened, Queued, Record
from policy_engine.store.item import Pending
from policy_engine.store.position import Positions, Vector, position_at, step
from policy_engine.store.rings import Rings

MAX_WAIT_SECONDS = 0.25
MAX_BATCH_ITEMS = 2000

_BEHIND = position_at(80_000)
"""How many microseconds may lie between two decisions that wait until the younger one has to wait a moment."""

_MANY = 500
"""Where fewer wait, it is the disk that is slow and not the writer that has much to do."""

_PAUSE_SECONDS = 0.0005


class Taken(NamedTuple):
    """What the writer took to write.

    Attributes:
        events: What happened.
        decisions: What was decided, by rising positions.
        signals: Set when all that is lasting.
        change: What somebody wants to be done.
        positions: Those that the change may use.
    """

    events: list[Happened]
    decisions: list[Queued]
    signals: list[Signal]
    change: Change[Any] | None
    positions: list[int]


class Part:
    """Decisions that are taken together, as many as a row holds or a whole batch, and who waits for them.

    Attributes:
        positions, decisions, ahead: As in `Queued`.
        signals: Set when they are lasting.
    """

    __slots__ = ("ahead", "decisions", "positions", "signals")

    def __init__(self) -> None:
        self.positions: list[int] = []
        self.decisions: list[Pending] = []
        self.ahead: Ahead | None = None
        self.signals: list[Signal] = []


class Intake:
    """A queue of bounded length with the positions, the memory and the order of what goes through it; thread-safe.

    Attributes:
        rings: What was recorded lately.
        keeps_decisions: Whether decisions are to be written; otherwise only the last ones are in memory.
        wake: Set when the writer should look at once.
    """

    def __init__(
        self, ids: SequenceIds, number: int, links: Mapping[str, Link], *, capacity: int, keeps_decisions: bool
    ) -> None:
        self._ids = ids
        self._capacity = capacity
        self.keeps_decisions = keeps_decisions
        self._events: deque[Happened] = deque()
        self._decisions: deque[Part] = deque([Part()])
        self._changes: deque[Change[Any]] = deque()
        self._queued = 0
        self._oldest = 0
        self._mutex = Lock()
        self._lock = Condition(self._mutex)
        self.wake = Signal()
        self._closed = False
        self._horizon: int | None = None
        self._doubtful: int | None = None
        self._positions = Positions(number, max(link.position for link in links.values()))
        self.rings = _rings(links)

    @property
    def number(self) -> int:
        """The number of the writer whose positions are handed out."""
        return self._positions.writer

    @property
    def waiting(self) -> int:
        """How many decisions are in the queue, or on their way from it to the disk."""
        return self._queued

    @property
    def has_changes(self) -> bool:
        """Whether somebody waits for a change."""
        return bool(self._changes)

    def close(self) -> None:
        """Take no more decisions."""
        with self._lock:
            self._closed = True

    # What comes in

    def record(self, event_type: str, details: dict[str, Any]) -> Event:
        """Take a management event; it is stored soon."""
        with self._lock:
            position = self._positions.take()
            event = make_event(self._ids, position, event_type, details)
            self.rings.management.append(position, event)
            self._events.append(Happened(position=position, event=event))
        return event

    def record_decisions(self, encoded: Sequence[bytes], pending: Sequence[Pending], *, sync: bool = False) -> None:
        """Take decisions; they are stored soon, or have been when this returns if `sync`.

        Args:
            encoded: The decisions as JSON, for the memory.
            pending: The same for the store, if it is to keep them.
            sync: Whether to wait.

        Raises:
            BusyError: The queue stayed full, or what was to be stored at once was not stored in time.
        """
        count = len(encoded)
        signal = Signal() if sync else None
        with self._mutex:
            if self._closed:
                raise BusyError("the decision log is closed: nothing was recorded of this check")
            if self._queued and self._queued + count > self._capacity:
                self.wake.set()
                if not self._lock.wait_for(lambda: self._fits(count), MAX_WAIT_SECONDS):
                    raise BusyError("the decision log cannot keep up: nothing was recorded of this check")
            last = self._positions.take(count)
            positions = [step(last, number) for number in range(1 - count, 1)]
            for position, item in zip(positions, encoded, strict=True):
                self.rings.decisions.append(position, item)
            if not self.keeps_decisions:
                return
            part = self._open_part()
            part.positions += positions
            part.decisions += pending
            if signal is not None:
                part.signals.append(signal)
            self._count(count, positions[0])
        if signal is not None:
            self.wake.set()
            if not signal.wait(MAX_WAIT_SECONDS):
                raise BusyError("the decision was made, but not written to the disk in time")
        elif self._queued >= MAX_BATCH_ITEMS and not self.wake.is_set():
            self.wake.set()

    def record_decision(self, encoded: bytes, pending: Pending | None) -> Part | None:
        """Take one decision as `record_decisions` does: the common case, and the hot path.

        Returns:
            The part of the queue that is full by it, for the caller to make its row: so the writer has less to do.
        """
        with self._mutex:
            if not self._closed and self._queued < self._capacity:
                position = self._positions.take()
                self.rings.decisions.append(position, encoded)
                if pending is not None:
                    part = self._open_part()
                    part.positions.append(position)
                    part.decisions.append(pending)
                    is_full = len(part.decisions) == MAX_ITEMS
                    self._count(1, position)  # others may go on meanwhile
                    if self._queued >= MAX_BATCH_ITEMS and not self.wake.is_set():
                        self.wake.set()  # which takes a third of all this
                    if is_full:
                        return part
                return None
        self.record_decisions((encoded,), () if pending is None else (pending,))
        return None

    def _count(self, count: int, position: int) -> None:
        """Count decisions that were put into the queue from a position on; wait a moment while the writer is behind.

        Whoever decides faster than can be written is slowed down a little all the time, and not stopped in the end.
        """
        if not self._queued:
            self._oldest = position
        self._queued += count
        if self._queued >= _MANY and position - self._oldest > _BEHIND:
            self._lock.wait(_PAUSE_SECONDS)

    def _open_part(self) -> Part:
        """Return the last part of the queue, or a new one if that is full."""
        part = self._decisions[-1]
        if len(part.decisions) >= MAX_ITEMS:
            part = Part()
            self._decisions.append(part)
        return part

    def _fits(self, count: int) -> bool:
        return not self._queued or self._queued + count <= self._capacity

    def submit(self, change: Change[Any]) -> None:
        """Take a change; it is carried out soon."""
        with self._lock:
            self._changes.append(change)
        self.wake.set()

    # What readers see

    @property
    def readable_until(self) -> int:
        """The position up to which everything that this process recorded can be read."""
        with self._lock:
            horizon = self._end
            return self._positions.last if horizon is None else step(horizon, -1)

    @property
    def _end(self) -> int | None:
        """The position from which on nothing is read at the moment, None when all is."""
        ends = [end for end in (self._horizon, self._doubtful) if end is not None]
        return min(ends, default=None)

    def readable(
        self, vector: Vector, *, management: bool, decisions: bool
    ) -> tuple[list[tuple[int, Any]], int | None]:
        """Return what this process recorded behind a vector and still has in memory.

        The second value is the position up to which entries behind the vector are no longer in memory, None when all
        of them are.
        """
        with self._lock:
            held, evicted = self.rings.of(management=management, decisions=decisions)
            horizon, number = self._end, self.number
        after = vector.get(number, 0)
        seen = [
            entry
            for entry in held
            if entry[0] > after and entry[0] > evicted and (horizon is None or entry[0] < horizon)
        ]
        return seen, evicted if evicted > after else None

    def publish(self, events: Sequence[tuple[int, Event]]) -> None:
        """Show the events of a change that was committed."""
        with self._lock:
            for position, event in events:
                self.rings.management.append(position, event)
            self._horizon = None

    # What goes out

    def take(self) -> Taken:
        """Take what waits, not too much of it, and a change with the positions it needs.

        Other processes read up to the last entry of this one, so what is taken is all there is up to some position;
        a change that appends entries takes everything before it along.
        """
        with self._lock:
            change = self._next_change()
            appends = change is not None and change.positions > 0
            parts, events = self._take_waiting(whole=appends)
            positions = self._take_positions(change.positions) if change is not None and appends else []
        decisions = [Queued(part.positions, part.decisions, part.ahead) for part in parts if part.decisions]
        return Taken(events, decisions, [signal for part in parts for signal in part.signals], change, positions)

    def _next_change(self) -> Change[Any] | None:
        while self._changes:
            change = self._changes.popleft()
            if change.done.set_running_or_notify_cancel():
                return change
        return None

    def _take_waiting(self, *, whole: bool) -> tuple[list[Part], list[Happened]]:
        """Take the first parts of the queue, or all of them, and the events up to there; callers wait meanwhile."""
        taken: list[Part] = []
        room = MAX_BATCH_ITEMS
        while self._decisions and (whole or room > 0):
            taken.append(self._decisions.popleft())
            room -= len(taken[-1].decisions)
        if not self._decisions:
            self._decisions.append(Part())
        following = self._decisions[0].positions
        events: list[Happened] = []
        while self._events and not (following and following[0] < self._events[0].position):
            events.append(self._events.popleft())
        return taken, events

    def _take_positions(self, count: int) -> list[int]:
        """Take the positions of a change; what is recorded from now on is not read before it is done."""
        last = self._positions.take(count)
        positions = [step(last, number + 1 - count) for number in range(count)]
        self._horizon = positions[0]
        return positions

    def positions_again(self, count: int) -> list[int]:
        """Take other positions for a change, behind whatever was taken meanwhile."""
        with self._lock:
            return self._take_positions(count)

    def refuse_changes(self, error: Exception) -> None:
        """Tell everybody who waits for a change that it is not made."""
        with self._lock:
            waiting, self._changes = self._changes, deque()
        for change in waiting:
            if change.done.set_running_or_notify_cancel():
                change.done.set_exception(error)

    def doubt(self, position: int) -> None:
        """Keep readers away from what may be stored from a position on, and is not in memory, until that is known."""
        with self._lock:
            self._doubtful = position if self._doubtful is None else min(self._doubtful, position)

    def end_doubt(self) -> None:
        """Let readers see it all: what is stored, and that memory has it if it is read from there, is known."""
        with self._lock:
            self._doubtful = None

    def end_turn(self) -> None:
        """Let readers see what was recorded while a change was under way."""
        with self._lock:
            self._horizon = None

    def release(self, taken: Taken) -> None:
        """Make room for as much as has become lasting, and tell who waits for that."""
        with self._lock:
            self._queued -= sum(len(queued.decisions) for queued in taken.decisions)
            if self._queued:
                self._oldest = self._decisions[0].positions[0]
            self._lock.notify_all()
        for signal in taken.signals:
            signal.set()

    def settle(self, links: Mapping[str, Link]) -> None:
        """Let memory begin where the store ends, when nothing that it has lost is still to be written."""
        with self._lock:
            first_event = next((record.position for record in self._events), None)
            first_decision = next(iter(self._decisions[0].positions), None)
            for ring, first, stream in (
                (self.rings.management, first_event, "event"),
                (self.rings.decisions, first_decision, "decision"),
            ):
                is_waiting = first is not None and first <= ring.evicted
                if not is_waiting and (stream == "event" or self.keeps_decisions):
                    ring.evicted = min(ring.evicted, links[stream].position)

    # When the seat changes, or what was spooled is written

    def move_to(self, number: int, end: int, *, known: bool) -> None:
        """Hand out the positions of another seat, or of the same one behind an end.

        Args:
            number: Of the seat.
            end: The highest position in its chains.
            known: Whether the chains are where this process left them; otherwise memory is not what it is read for.
        """
        with self._lock:
            floor = max(end, self._positions.take())
            if not known:
                self.rings = Rings(floor, floor)
            self._positions = Positions(number, floor)

    def restart(self, links: Mapping[str, Link]) -> None:
        """Go on behind the ends of chains that have grown by what other processes left."""
        with self._lock:
            end = max(link.position for link in links.values())
            self._positions = Positions(self.number, max(self._positions.last, end))
            self.rings = _rings(links)

    @contextmanager
    def moving(self) -> Iterator[None]:
        """Keep readers away from the positions that are taken here: memory does not have what will stand there."""
        with self._lock:
            self._horizon = step(self._positions.last, 1)
        try:
            yield
        finally:
            with self._lock:
                self.rings.forget(self._positions.last)
                self._horizon = None

    def moved(self, record: Record) -> Record:
        """Return a record with a new position: its own belongs to another chain, or lies behind the end of this one."""
        with self._lock:
            if isinstance(record, Decisions):
                return Decisions(position=self._positions.take(len(record.items)), items=record.items)
            position = self._positions.take()
        event = record.event
        return Happened(position=position, event=make_event(self._ids, position, event.event_type, event.details))


def _rings(links: Mapping[str, Link]) -> Rings:
    return Rings(links["event"].position, links["decision"].position)
