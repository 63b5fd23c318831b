"""The last events, in memory: one ring for management, one for decisions, so that neither crowds out the other."""

from __future__ import annotations

from collections import deque
from typing import Any, Generic, TypeVar

from policy_engine.model.event import Event

CAPACITY = 1000

T = TypeVar("T")


class Ring(Generic[T]):
    """The last items with their positions; not thread-safe.

    Attributes:
        evicted: The highest position that was overwritten.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._held: deque[tuple[int, T]] = deque(maxlen=capacity)
        self._capacity = capacity
        self.evicted = 0

    def append(self, position: int, item: T) -> None:
        """Put an item in the place of the oldest one."""
        held = self._held
        if len(held) == self._capacity and held[0][0] > self.evicted:
            self.evicted = held[0][0]
        held.append((position, item))

    def items(self) -> list[tuple[int, T]]:
        """Return what is held, in the order in which it was appended."""
        return list(self._held)


class Rings:
    """What one process recorded lately.

    Attributes:
        management: Events.
        decisions: Decisions as JSON: bytes are less to keep alive than the objects they are of.
    """

    def __init__(self, management: int, decisions: int, capacity: int = CAPACITY) -> None:
        """Begin empty behind the positions of the last event and the last decision before."""
        self.management: Ring[Event] = Ring(capacity)
        self.decisions: Ring[bytes] = Ring(capacity)
        self.management.evicted = management
        self.decisions.evicted = decisions

    def forget(self, position: int) -> None:
        """Count everything up to a position as gone."""
        for ring in (self.management, self.decisions):
            ring.evicted = max(position, ring.evicted)

    def of(self, *, management: bool, decisions: bool) -> tuple[list[tuple[int, Any]], int]:
        """Return what is held of some kinds, oldest first, and the highest position of theirs that is gone."""
        rings: list[Ring[Any]] = [self.management] * management + [self.decisions] * decisions
        held = sorted((entry for ring in rings for entry in ring.items()), key=lambda entry: entry[0])
        return held, max(ring.evicted for ring in rings)
