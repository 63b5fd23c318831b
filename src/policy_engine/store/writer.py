"""The writer: one thread that makes lasting what waits, by group commit."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from itertools import islice
from threading import Thread
from typing import Any, TypeVar

from policy_engine.ids import SequenceIds
from policy_engine.model.errors import BusyError, StateError, StoreSilentError, StoreUnavailableError, TurnError
from policy_engine.store.batch import FencedError
from policy_engine.store.change import Change, Transaction
from policy_engine.store.checkpoints import Signer
from policy_engine.store.database import Database
from policy_engine.store.encode import (
    Decisions,
    Queued,
    Record,
    Waiting,
    decode_records,
    encode_record,
    name_of,
)
from policy_engine.store.encoder import Encoder
from policy_engine.store.intake import MAX_BATCH_ITEMS, MAX_WAIT_SECONDS, Intake
from policy_engine.store.ledger import Ledger
from policy_engine.store.position import step, writer_of
from policy_engine.store.recorder import Recorder
from policy_engine.store.redact import Redactor
from policy_engine.store.rings import Rings
from policy_engine.store.sealer import Sealer
from policy_engine.store.spool import Orphan, Spool, SpoolFullError, orphans
from policy_engine.store.subjects import Subjects

log = logging.getLogger(__name__)

T = TypeVar("T")

THREAD = "writer"
"""What the thread is called."""

FLUSH_SECONDS = 0.05
_RETRY_SECONDS = 0.25
_ATTEMPTS = 3
"""How often a transaction is tried before the database counts as away: another process may only be busy."""

_COMMIT_SECONDS = 30.0
_TURN_SECONDS = 0.2
"""How long a change is tried while other processes make theirs."""

_LAST_SECONDS = 2.0
"""How long a process that ends tries to sign: others that end with it want to sign too."""

_LOOK_SECONDS = 0.02
_CHUNK = 500


class Writer:
    """Everything that one process writes to the database goes through here, in order.

    What is recorded waits in a queue of bounded length and is committed in groups. While the database is away it goes
    to the spool; what does not fit there waits in the queue, and who records more is made to wait, then refused.

    Attributes:
        keeps_decisions: Whether decisions are stored.
        record: Takes an event (`Intake.record`).
        record_decisions: Takes decisions (`Recorder.record`).
        notice_erasures: Forgets keys that other processes deleted (`Ledger.notice_erasures`).
        readable: Returns what this process has in memory (`Intake.readable`).
    """

    def __init__(
        self,
        database: Database,
        *,
        tenant: str,
        store_id: int,
        name: str,
        signer: Signer,
        spool: Spool,
        redactor: Redactor,
        capacity: int,
        keeps_decisions: bool,
        told: Callable[[str, str | None], None],
    ) -> None:
        """Take a seat and read where its chains end.

        Args:
            database: Where to write.
            tenant: Whose entries these are.
            store_id: What names the store in ids.
            name: What names this process in the registry.
            signer: Makes the checkpoints.
            spool: Where to write while the database is away.
            redactor: What is not to be written.
            capacity: How many decisions may wait.
            keeps_decisions: Whether decisions are stored; otherwise only the last ones are in memory.
            told: Called with the code of a trouble and its text, or None when it is over.

        Raises:
            StoreUnavailableError: The database is away.
        """
        self._database = database
        self._signer = signer
        self._spool = spool
        self._told = told
        self._stopping = False
        self._away = False
        self._attempts = 0
        self._is_doubted = False
        self._has_tried_last = False
        self._retry_at = 0.0
        self._unwritten: list[Waiting] = []
        ids = SequenceIds(store_id)
        self.keeps_decisions = keeps_decisions
        self._subjects = Subjects(tenant)
        sealer = Sealer(redactor)
        self._encoder = Encoder(sealer)
        self._ledger = Ledger(
            database,
            tenant=tenant,
            name=name,
            ids=ids,
            signer=signer,
            encoder=self._encoder,
            subjects=self._subjects,
        )
        self._intake = Intake(
            ids, self._ledger.number, self._ledger.links, capacity=capacity, keeps_decisions=keeps_decisions
        )
        recorder = Recorder(self._intake, sealer, redactor, self._subjects, keeps_decisions=keeps_decisions)
        self.record = self._intake.record
        self.record_decisions = recorder.record
        self.readable = self._intake.readable
        self.notice_erasures = self._ledger.notice_erasures
        self._thread = Thread(target=self._run, name=THREAD, daemon=True)

    # What others call

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, or spool it, and end."""
        self._stopping = True
        self._intake.wake.set()
        if self._thread.is_alive():
            self._thread.join()
        self._intake.close()
        self._turn()
        self._refuse_changes()
        self._ledger.release()
        self._spool.close()

    def abandon(self) -> None:
        """Give up what was taken, when it was never started."""
        self._ledger.release()
        self._spool.close()

    @property
    def number(self) -> int:
        """The number of this writer."""
        return self._intake.number

    @property
    def rings(self) -> Rings:
        """What was recorded lately."""
        return self._intake.rings

    @property
    def waiting(self) -> int:
        """How many decisions are in the queue, or on their way from it to the disk."""
        return self._intake.waiting

    @property
    def readable_until(self) -> int:
        """The position up to which everything that this process recorded can be read."""
        return self._intake.readable_until

    def transact(self, apply: Callable[[Transaction], T], positions: int = 0) -> T:
        """Carry out a transaction and return what it returns, once that has reached the disk.

        Args:
            apply: Does it; what it raises is raised here, and nothing is changed then.
            positions: How many entries it appends at most.

        Raises:
            BusyError: Its turn did not come in time; nothing was changed.
            StoreUnavailableError: The database is away; nothing was changed, unless it went away in the moment of the
                commit, or does not answer for long.
        """
        deadline = time.monotonic() + _TURN_SECONDS
        while True:
            try:
                return self._transact_once(apply, positions)
            except TurnError:  # what is to be logged goes first; then it is tried again
                if time.monotonic() >= deadline:
                    raise

    def _transact_once(self, apply: Callable[[Transaction], T], positions: int) -> T:
        change: Change[T] = Change(apply, positions, Future())
        self._intake.submit(change)
        try:
            return change.done.result(MAX_WAIT_SECONDS)
        except TimeoutError:
            if change.done.cancel():
                raise BusyError("the database is busy; try again") from None
        try:
            return change.done.result(_COMMIT_SECONDS)
        except TimeoutError:
            detail = f"the database `{self._database.url}` does not answer: whether the change was made is not known"
            raise StoreUnavailableError(detail) from None

    def doubt(self) -> None:
        """Have it found out soon whether the database can be written: somebody else could not use it."""
        self._is_doubted = True

    # The thread

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stopping:
            self._intake.wake.wait(due - time.monotonic())
            self._intake.wake.clear()
            due = time.monotonic() + FLUSH_SECONDS  # not by what was due before: who is woken often has no debts
            self._turn()
        self._turn()
        self._sign_last()

    def _sign_last(self) -> None:
        """Make the last checkpoint, when it is this process's turn."""
        deadline = time.monotonic() + _LAST_SECONDS
        while self._signer.waits and not self._away and time.monotonic() < deadline:
            self._signer.hurry()
            self._turn()
            if self._signer.problem:
                return
            if self._signer.waits:
                time.sleep(_LOOK_SECONDS)

    def _turn(self) -> None:
        """Persist what waits, and carry out one change after another."""
        go_on = True
        while go_on:
            taken = self._intake.take()
            had_some = bool(taken.events or taken.decisions)
            self._unwritten += taken.events
            self._unwritten += taken.decisions
            try:
                self._persist(taken.change, taken.positions)
            finally:
                self._intake.end_turn()
            if had_some and self._unwritten:
                self._hold()
            self._intake.release(taken)
            if not self._away and not self._unwritten:
                self._intake.settle(self._ledger.links)
            is_full = self._intake.waiting >= MAX_BATCH_ITEMS
            go_on = self._intake.has_changes or is_full or (self._stopping and had_some)

    def _persist(self, change: Change[Any] | None, positions: list[int]) -> None:
        """Make what is unwritten lasting, in the database or in the spool; it stays unwritten if neither takes it."""
        try:
            if self._away:
                if self._attempts >= _ATTEMPTS:  # to write what was spooled takes longer than anybody waits
                    _fail(change, StoreUnavailableError(f"the database `{self._database.url}` is away; try again"))
                    change = None
                self._come_back()
            elif self._is_doubted or self._database.is_silent:
                self._is_doubted = False
                self._ledger.check()
            self._commit(change, self._in_order(positions))
        except (StateError, FencedError) as error:
            self._go_away(error)
            _fail(change, StoreUnavailableError(str(error)))
        except Exception as error:  # a fault of ours must not stop the log
            log.exception("the writer failed")
            if not self._unwritten:
                _fail(change, error)
                return
            self._write_one_by_one()
            self._persist(change, positions)
        else:
            self._note_success()

    def _in_order(self, positions: list[int]) -> list[int]:
        """Move what is unwritten and would not stand behind the end of this writer's chains; return new positions too.

        That happens to what was recorded before the seat was lost.
        """
        end = self._ledger.end
        if not all(self._follows(record, end) for record in self._unwritten):
            end = self._move_unwritten(end)
        elif self._unwritten:
            end = max(map(_last_of, self._unwritten))
        if positions and (positions[0] <= end or writer_of(positions[0]) != self.number):
            return self._intake.positions_again(len(positions))
        return positions

    def _move_unwritten(self, end: int) -> int:
        """Give new positions to the first record that does not stand behind the end, and to all behind it."""
        records = self._to_spool()
        for place, record in enumerate(records):
            if not self._follows(record, end):
                with self._intake.moving():
                    records[place:] = map(self._intake.moved, records[place:])
                break
            end = record.position
        self._unwritten = [*records]
        return records[-1].position if records else end

    def _follows(self, record: Waiting, end: int) -> bool:
        writers = set(map(writer_of, record.positions)) if isinstance(record, Queued) else {writer_of(record.position)}
        return writers == {self.number} and _first_of(record) > end

    def _to_spool(self) -> list[Record]:
        """Return what is unwritten as it may be spooled, by rising positions."""
        records: list[Record] = []
        for record in self._unwritten:
            if isinstance(record, Queued):
                records += self._encoder.to_spool(record, self._subjects.lasting)
            else:
                records.append(record)
        return sorted(records, key=_last_of)

    def _write_one_by_one(self, *, replaying: bool = False) -> None:
        """Find the record that cannot be written, and go on without it."""
        records, self._unwritten = self._to_spool(), []
        for number, record in enumerate(records):
            self._unwritten = [record]
            try:
                self._commit(None, [])
            except (StateError, FencedError) as error:
                self._unwritten = [*records[number:]]
                if replaying:
                    raise  # they are in the spool still
                self._go_away(error)
                return
            except Exception:
                log.exception("a record cannot be written and is lost: %s", name_of(record))
                self._unwritten = []

    def _hold(self) -> None:
        """Wait until what was taken is lasting, while the queue behind it fills."""
        while self._unwritten:
            time.sleep(_RETRY_SECONDS)
            self._persist(None, [])
            self._refuse_changes()
            if self._stopping and self._unwritten:
                log.error("%d records are lost: neither the database nor the spool takes them", len(self._unwritten))
                self._unwritten = []

    def _refuse_changes(self) -> None:
        self._intake.refuse_changes(StoreUnavailableError(f"the database `{self._database.url}` is away"))

    def _commit(self, change: Change[Any] | None, positions: list[int]) -> None:
        """Write what is unwritten and a change, all in one transaction."""
        if change is None and not self._unwritten and not self._signer.due(0):
            return
        try:
            outcome = self._ledger.write(self._unwritten, change, positions)
        except StateError:
            if positions:  # the commit may have been carried out, or still be
                self._intake.doubt(positions[0])
            raise
        self._unwritten = []
        self._told("audit_unsigned", self._signer.problem or None)
        if change is not None:
            self._intake.publish(outcome.events)
        outcome.tell()

    # While the database is away

    def _go_away(self, error: Exception) -> None:
        """Spool what is unwritten; say so once it is more than another process that is busy."""
        before = self._attempts
        self._attempts = max(before + 1, _ATTEMPTS) if isinstance(error, StoreSilentError) else before + 1
        self._away = True
        if before < _ATTEMPTS <= self._attempts:
            log.warning("%s; what is recorded goes to the spool", error)
        if self._attempts >= _ATTEMPTS:
            self._told("store_unavailable", "the database is away; the log says why")
        records = [record for record in self._to_spool() if _can_be_encoded(record)]
        self._unwritten = [*records]
        try:
            self._spool.add([encode_record(record) for record in records])
        except SpoolFullError:
            self._told("spool_full", "the spool is full: checks are refused until the database is back")
        except StateError as refusal:
            self._told("spool_full", str(refusal))
        else:
            self._unwritten = []

    def _come_back(self) -> None:
        """Take a seat again and write what was spooled.

        Raises:
            StoreUnavailableError: The database is still away.
        """
        is_too_soon = self._has_tried_last if self._stopping else time.monotonic() < self._retry_at
        if is_too_soon and self._attempts >= _ATTEMPTS:
            raise StoreUnavailableError(f"the database `{self._database.url}` is away")
        self._has_tried_last = self._stopping
        self._retry_at = time.monotonic() + _RETRY_SECONDS
        self._move(known=self._ledger.take_again())
        self._ledger.notice_erasures()  # nobody seals with a key that was deleted meanwhile
        waiting, self._unwritten = self._to_spool(), []
        try:
            self._replay(self._spool)
            self._spool.clear()
        finally:
            self._unwritten = [*waiting]
        self._unwritten = [*self._missing(waiting)]
        self._intake.end_doubt()
        self._away = False

    def _move(self, *, known: bool) -> None:
        self._intake.move_to(self._ledger.number, self._ledger.end, known=known)

    def _note_success(self) -> None:
        """Note that the database takes what it is given; that it can be connected to is not enough."""
        if not self._attempts:
            return
        if self._attempts >= _ATTEMPTS:
            log.info("the database `%s` is back", self._database.url)
        self._attempts = 0
        self._told("store_unavailable", None)
        self._told("spool_full", None)

    def adopt_orphans(self) -> None:
        """Write what processes that are gone have spooled here."""
        for orphan in orphans(self._spool.directory):
            try:
                self._replay(orphan)
            except (StateError, FencedError) as error:
                self._unwritten = []
                orphan.close()
                log.warning("%s; the spool of a process that is gone is left for the next start", error)
            else:
                orphan.drop()
                log.info("took over the spool of a process that is gone")
        self._intake.restart(self._ledger.links)

    def _replay(self, spool: Spool | Orphan) -> None:
        """Write records that may have been written already, in whole or in part.

        Those that have to be moved get their new positions in the spool first: whoever comes back to it after a
        commit of which nobody knows whether it took place finds them by these.
        """
        first = next((part[0] for part in self._parts(spool)), None)
        if first and not self._follows(first, self._ledger.end):
            with self._intake.moving():
                spool.replace(
                    encode_record(self._intake.moved(record)) for part in self._parts(spool) for record in part
                )
        for part in self._parts(spool):
            self._unwritten = [*part]
            try:
                self._commit(None, [])
            except (StateError, FencedError):
                raise
            except Exception:
                log.exception("the writer failed")
                self._write_one_by_one(replaying=True)

    def _parts(self, spool: Spool | Orphan) -> Iterator[list[Record]]:
        """Yield what is in a spool and not in the database, some at a time."""
        records = decode_records(spool.records())
        while part := list(islice(records, _CHUNK)):
            missing = self._missing(part)
            if missing:
                yield missing

    def _missing(self, records: list[Record]) -> list[Record]:
        there = self._ledger.present({record.position for record in records})
        return [record for record in records if record.position not in there]


def _first_of(waiting: Waiting) -> int:
    if isinstance(waiting, Queued):
        return waiting.positions[0]
    return step(waiting.position, 1 - len(waiting.items)) if isinstance(waiting, Decisions) else waiting.position


def _last_of(waiting: Waiting) -> int:
    return waiting.positions[-1] if isinstance(waiting, Queued) else waiting.position


def _can_be_encoded(record: Record) -> bool:
    try:
        encode_record(record)
    except Exception:  # what one caller handed in must not stop the log
        log.exception("a record cannot be written and is lost: %s", name_of(record))
        return False
    return True


def _fail(change: Change[Any] | None, error: Exception) -> None:
    if change is not None:
        change.fail(error)
