"""Where what is to be stored is encoded: here what is little, in a process of its own what is much."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from policy_engine.store.encode import Decisions, Drafted, Row
from policy_engine.store.encoder import Encoder
from policy_engine.store.offload import Offload, OffloadError
from policy_engine.store.redact import Redactor
from policy_engine.store.sealer import Ensure
from policy_engine.store.subjects import Subject

log = logging.getLogger(__name__)

_BUSY_TURNS = 5
"""How many turns in a row have to bring much until a process is worth its memory."""

_IDLE_SECONDS = 60.0
_AGAIN_SECONDS = 20.0
_MAX_AGAIN_SECONDS = 1200.0
"""How long to do without a process that was of no use: twice as long each time, at most so long."""


class Encoding:
    """Encodes for one writer; used by one thread."""

    def __init__(self, redactor: Redactor, *, much: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin without a process.

        Args:
            redactor: What is not to be written.
            much: How many decisions at once are worth being sent to another process.
            clock: Tells the time, in seconds.
        """
        self._encoder = Encoder(redactor)
        self._offload = Offload(redactor)
        self._much = much
        self._clock = clock
        self._busy_turns = 0
        self._used_at = 0.0
        self._not_before = 0.0
        self._wait_seconds = _AGAIN_SECONDS
        self._lost = 0

    def rows(self, records: Sequence[Drafted | Decisions], generation: int, ensure: Ensure) -> list[Row]:
        """Return the rows that hold some decisions.

        Args:
            records: The decisions, by rising positions.
            generation: How often keys were deleted.
            ensure: Returns the subjects of some names.
        """
        drafted = [record for record in records if isinstance(record, Drafted)]
        # What comes from a spool is rare, and is not sent.
        is_much = len(drafted) == len(records) and sum(len(record.drafts) for record in drafted) >= self._much
        self._busy_turns = self._busy_turns + 1 if is_much else 0
        rows = None
        if is_much and self._is_ready():
            rows = self._rows_from_afar(drafted, generation, ensure)
        return self._encoder.rows(records, ensure) if rows is None else rows

    def _rows_from_afar(self, drafted: Sequence[Drafted], generation: int, ensure: Ensure) -> list[Row] | None:
        """Return what the process makes of some decisions, None when that is nothing."""
        try:
            rows = self._offload.rows(drafted, (generation, self._lost), ensure)
        except OffloadError as error:
            self._give_up(error)
            return None
        finally:
            self._used_at = self._clock()
        self._wait_seconds = _AGAIN_SECONDS
        return rows

    def lose_keys(self) -> None:
        """Note that keys which were used may be nowhere else: the transaction that made them was undone."""
        self._lost += 1

    def to_spool(self, drafted: Drafted, subjects: Mapping[str, Subject]) -> Iterator[Decisions]:
        """Yield decisions as they may be written to a spool; as `Encoder.to_spool`."""
        return self._encoder.to_spool(drafted, subjects)

    def rest(self) -> None:
        """End the process when there has been nothing for it for a while; called now and then."""
        if self._offload.is_running and self._clock() > self._used_at + _IDLE_SECONDS:
            self._offload.close()
        self._offload.bury()

    def close(self) -> None:
        """End the process."""
        self._offload.end()

    def _is_ready(self) -> bool:
        """Whether there is a process that can be given something; start one if there has been much for a while."""
        try:
            if not self._offload.is_running and self._busy_turns > _BUSY_TURNS and self._clock() >= self._not_before:
                self._used_at = self._clock()
                self._offload.start()
            is_ready = self._offload.is_ready()
        except OffloadError as error:
            self._give_up(error)
            return False
        return is_ready

    def _give_up(self, error: OffloadError) -> None:
        log.warning("the process that encodes decisions is of no use: %s; they are encoded where they are made", error)
        self._offload.close()
        self._not_before = self._clock() + self._wait_seconds
        self._wait_seconds = min(2 * self._wait_seconds, _MAX_AGAIN_SECONDS)
