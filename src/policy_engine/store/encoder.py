"""The encoder: from decisions that are to be stored to the rows that hold them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence

from policy_engine.store.encode import Decisions, Drafted, Row, rows_of
from policy_engine.store.item import Ensure, Item, Sealer
from policy_engine.store.position import step
from policy_engine.store.redact import Redactor
from policy_engine.store.subjects import Subject

log = logging.getLogger(__name__)


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
        positions: list[int] = []
        items: list[Item] = []
        for record in records:
            if isinstance(record, Drafted):
                positions += record.positions
                items += self._sealer.items(record.drafts, ensure)
            else:
                first = step(record.position, 1 - len(record.items))
                positions += (step(first, number) for number in range(len(record.items)))
                items += record.items
        return rows_of(positions, self._sealer.sealed_items(items, ensure))

    def to_spool(self, drafted: Drafted, subjects: Mapping[str, Subject]) -> Iterator[Decisions]:
        """Yield decisions as they may be written to a spool: masked, and sealed if the subjects are at hand."""
        for position, draft in zip(drafted.positions, drafted.drafts, strict=True):
            try:
                item = self._sealer.known_item(draft, subjects)
            except Exception:  # what one caller handed in must not stop the log
                log.exception("a record cannot be written and is lost: decisions %s", draft.decision_id)
            else:
                yield Decisions(position=position, items=[item])
