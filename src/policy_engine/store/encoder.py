"""The encoder: from decisions that are to be stored to the rows that hold them."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby, islice

from policy_engine.store.batch import Row
from policy_engine.store.encode import MAX_ITEMS, MAX_SPAN, Decisions, Queued, row_of
from policy_engine.store.item import Pending, Sealed, from_item, to_item
from policy_engine.store.position import step
from policy_engine.store.sealer import Ensure, Sealer, stale_subjects
from policy_engine.store.subjects import Subject

log = logging.getLogger(__name__)


class Encoder:
    """Makes rows, and records for a spool."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def rows(
        self, records: Sequence[Queued | Decisions], subjects: Mapping[str, Subject], ensure: Ensure
    ) -> Iterator[Row]:
        """Yield the rows that hold some decisions.

        Args:
            records: The decisions, by rising positions.
            subjects: Whose keys are known (`Sealer.seal`).
            ensure: Returns the subjects of some names.
        """
        runs = [(row, list(run)) for row, run in groupby(records, partial(_row_ahead_of, subjects=subjects))]
        flattened = [_flattened(run) for row, run in runs if row is None]
        pending = [each for _, part in flattened for each in part]
        # All at once, so that keys are made in one order: else two transactions could wait for each other.
        sealed = iter(self._sealer.seal(pending, subjects, ensure))
        rest = iter(flattened)
        for row, _ in runs:
            if row is not None:
                yield row
            else:
                positions, part = next(rest)
                yield from _rows(positions, list(islice(sealed, len(part))))

    def to_spool(self, queued: Queued, subjects: Mapping[str, Subject]) -> Iterator[Decisions]:
        """Yield decisions as they may be written to a spool: sealed, if the subjects are at hand."""
        stale = stale_subjects(queued.decisions, subjects)
        for position, pending in zip(queued.positions, queued.decisions, strict=True):
            try:
                item = to_item(self._sealer.seal_known(pending, subjects, stale))
            except Exception:  # what one caller handed in must not stop the log
                log.exception("a record cannot be written and is lost: decisions %s", pending.decision_id)
            else:
                yield Decisions(position=position, items=[item])


def _row_ahead_of(record: Queued | Decisions, subjects: Mapping[str, Subject]) -> Row | None:
    """Return the row of a record that was made ahead, if it was and none of the keys may have been deleted since."""
    ahead = record.ahead if isinstance(record, Queued) else None
    return ahead.row if ahead is not None and (ahead.subjects is None or ahead.subjects is subjects) else None


def _rows(positions: Sequence[int], sealed: Sequence[Sealed]) -> Iterator[Row]:
    """Yield the rows that hold some decisions: each so many, of so much time, and so many bytes."""
    start = 0
    while start < len(sealed):
        most = min(start + MAX_ITEMS, len(sealed))
        end = bisect_right(positions, step(positions[start], MAX_SPAN), start, most)
        row = row_of(positions[start:end], sealed[start:end])
        yield row
        start += row.count


def _flattened(records: Sequence[Queued | Decisions]) -> tuple[list[int], list[Pending]]:
    """Return the positions of all decisions, and the decisions."""
    positions: list[int] = []
    pending: list[Pending] = []
    for record in records:
        if isinstance(record, Queued):
            positions += record.positions
            pending += record.decisions
        else:
            first = step(record.position, 1 - len(record.items))
            positions += (step(first, number) for number in range(len(record.items)))
            pending += map(from_item, record.items)
    return positions, pending
