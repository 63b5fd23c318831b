"""The encoder: from decisions that are to be stored to the rows that hold them."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate

from policy_engine.store.draft import Draft
from policy_engine.store.encode import MAX_SPAN, Decisions, Drafted, Row, row_of
from policy_engine.store.position import step
from policy_engine.store.redact import Redactor
from policy_engine.store.sealer import Ensure, Pending, Sealer, names_in, sealed
from policy_engine.store.subjects import Subject

log = logging.getLogger(__name__)

MAX_ITEMS_A_ROW = 128
_MAX_BYTES = 1 << 18

_SEALED_GROWTH = 4
"""Two bytes of a letter beyond ASCII become six of an escape, and those eight of a token."""


class Encoder:
    """Masks, seals, compresses; it does nothing else, so any process may do it."""

    def __init__(self, redactor: Redactor) -> None:
        self._sealer = Sealer(redactor)

    def rows(self, records: Sequence[Drafted | Decisions], ensure: Ensure) -> list[Row]:
        """Return the rows that hold some decisions.

        Args:
            records: The decisions, by rising positions.
            ensure: Returns the subjects of some names.
        """
        positions, pending = _flattened(records)
        opened = self._sealer.opened(pending)
        # All at once, so that keys are made in one order: else two transactions could wait for each other.
        subjects = ensure(names_in(opened))
        rows: list[Row] = []
        start = 0
        while start < len(pending):
            end = _end_of_row(positions, pending, start)
            entries, terms = sealed(opened[start:end], subjects)
            rows.append(row_of(positions[start:end], entries, terms))
            start = end
        return rows

    def to_spool(self, drafted: Drafted, subjects: Mapping[str, Subject]) -> Iterator[Decisions]:
        """Yield decisions as they may be written to a spool: masked, and sealed if the subjects are at hand."""
        for position, draft in zip(drafted.positions, drafted.drafts, strict=True):
            try:
                item = self._sealer.known_item(draft, subjects)
            except Exception:  # what one caller handed in must not stop the log
                log.exception("a record cannot be written and is lost: decisions %s", draft.decision_id)
            else:
                yield Decisions(position=position, items=[item])


def _flattened(records: Sequence[Drafted | Decisions]) -> tuple[list[int], list[Pending]]:
    """Return the positions of all decisions, and the decisions."""
    positions: list[int] = []
    pending: list[Pending] = []
    for record in records:
        if isinstance(record, Drafted):
            positions += record.positions
            pending += record.drafts
        else:
            first = step(record.position, 1 - len(record.items))
            positions += (step(first, number) for number in range(len(record.items)))
            pending += record.items
    return positions, pending


def _end_of_row(positions: Sequence[int], pending: Sequence[Pending], start: int) -> int:
    """Return where the row ends that begins at a place: it holds so many decisions, so much time, or so many bytes."""
    most = min(start + MAX_ITEMS_A_ROW, len(pending))
    end = bisect_right(positions, step(positions[start], MAX_SPAN), start, most)
    sizes = [_size(each) for each in pending[start:end]]
    if sum(sizes) < _MAX_BYTES:
        return end
    return next((place for place, size in enumerate(accumulate(sizes), start + 1) if size >= _MAX_BYTES), end)


def _size(pending: Pending) -> int:
    """Return about how many bytes something takes as an entry."""
    draft = pending if isinstance(pending, Draft) else pending.draft
    if draft is None:
        return len(memoryview(pending.body))  # type: ignore[union-attr] # no draft
    context = len(draft.context) if draft.context.isascii() else _SEALED_GROWTH * len(draft.context)
    return len(draft.decision) + context + len(draft.facts)
