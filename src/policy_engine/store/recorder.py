"""The recorder: what the threads that decide do with a decision before the writer has it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat

from policy_engine.model.record import Checked
from policy_engine.store.draft import encode_decision, unquoted
from policy_engine.store.encode import row_ahead
from policy_engine.store.intake import Intake
from policy_engine.store.item import Pending
from policy_engine.store.redact import Redactor
from policy_engine.store.sealer import Sealer
from policy_engine.store.subjects import Subjects


class Recorder:
    """Masks and seals decisions and hands them in; any thread may use it."""

    def __init__(
        self, intake: Intake, sealer: Sealer, redactor: Redactor, subjects: Subjects, *, keeps_decisions: bool
    ) -> None:
        """Prepare.

        Args:
            intake: Where decisions wait.
            sealer: Seals what is personal.
            redactor: What is not to be written.
            subjects: The keys of those whom decisions are about.
            keeps_decisions: Whether decisions are stored; otherwise only the last ones are in memory.
        """
        self._intake = intake
        self._sealer = sealer
        self._redactor = redactor
        self._subjects = subjects
        self._keeps_decisions = keeps_decisions

    def record(
        self,
        checked: Sequence[Checked],
        source: str | None = None,
        represents: int = 1,
        *,
        bodies: Sequence[bytes] | None = None,
        sync: bool = False,
        may_quote: bool = False,
    ) -> None:
        """Take decisions; they are stored soon, or have been when this returns if `sync`.

        Args:
            checked: What was decided, together.
            source: The address of who asked.
            represents: How many decisions each of them stands for.
            bodies: The decisions as JSON, if somebody has encoded them already.
            sync: Whether to wait until they have reached the disk.
            may_quote: Whether users' code may have put secrets of the requests into them.

        Raises:
            BusyError: The queue stayed full, or what was to be stored at once was not stored in time.
        """
        if not checked:
            return
        if may_quote:
            kept = [unquoted(item, self._redactor) for item in checked]
            if any(one is not other for one, other in zip(kept, checked, strict=True)):
                checked, bodies = kept, None
        if len(checked) == 1 and not sync:
            self._record_one(checked[0], bodies[0] if bodies else None, source, represents)
            return
        given = repeat(None) if bodies is None else bodies
        remembered = [encode_decision(item.decision, body) for item, body in zip(checked, given, strict=False)]
        taken = self._taken(checked, remembered, source, represents)
        self._intake.record_decisions(remembered, taken, sync=sync)

    def _record_one(self, checked: Checked, body: bytes | None, source: str | None, represents: int) -> None:
        """Take one decision: the common case, and the hot path."""
        encoded = encode_decision(checked.decision, body)
        pending = None
        if self._keeps_decisions:
            pending = self._sealer.take(checked, encoded, source, represents, self._subjects.lasting)
        part = self._intake.record_decision(encoded, pending)
        if part is not None:
            part.ahead = row_ahead(part.positions, part.decisions)

    def _taken(
        self, checked: Sequence[Checked], remembered: Sequence[bytes], source: str | None, represents: int
    ) -> list[Pending]:
        """Return decisions as they wait to be stored; none if they are not."""
        if not self._keeps_decisions:
            return []
        subjects = self._subjects.lasting
        pairs = zip(checked, remembered, strict=True)
        return [self._sealer.take(item, encoded, source, represents, subjects) for item, encoded in pairs]
