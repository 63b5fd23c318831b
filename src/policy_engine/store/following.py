"""Following the events: where somebody stands, and what there is behind that place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from policy_engine.model.event import Event
from policy_engine.store.position import writer_of

Entry = tuple[int, Any]
"""A position and what was recorded there."""


class Place(NamedTuple):
    """Where somebody stands who follows the events.

    Attributes:
        cursor: What is behind it has not been seen; None for the end, behind everything there is.
        types: The types of events that are wanted; none means all.
    """

    cursor: str | None
    types: frozenset[str]


class Followed(NamedTuple):
    """What there was behind a place.

    Attributes:
        events: Oldest first, each with the cursor from which what comes after it can be followed.
        cursor: Where to go on.
        gap: Whether events between the place and the first one here are gone.
        complete: Whether this is all there was.
    """

    events: list[tuple[Event, str]]
    cursor: str
    gap: bool
    complete: bool


class Readable(NamedTuple):
    """What of the entries behind a place can be handed out at the moment.

    Attributes:
        until: How far the store was looked through, None when to the end.
        own: The number of this process's writer.
        own_until: How far all that this process recorded has been looked through.
    """

    until: int | None
    own: int
    own_until: int

    def select(self, entries: Iterable[Entry]) -> list[Entry]:
        """Return the entries before which, in the chain of their writer, there is none that was not looked at."""
        kept = (entry for entry in entries if self._is_reached(entry[0]))
        return sorted(kept, key=lambda entry: entry[0])

    def _is_reached(self, position: int) -> bool:
        if self.until is not None and position > self.until:
            return False
        return position <= self.own_until or writer_of(position) != self.own


def advance(vector: dict[int, int], entries: Iterable[Entry]) -> Iterator[tuple[Entry, dict[int, int]]]:
    """Yield each entry with the vector behind it.

    The entries of one writer come in the order of its chain, so every vector on the way is one from which nothing is
    lost and nothing comes twice. It is the same mapping each time, further on.
    """
    for entry in entries:
        vector[writer_of(entry[0])] = entry[0]
        yield entry, vector
