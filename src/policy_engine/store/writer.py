"""The writer: one thread, one queue, group commit."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from threading import Condition, Lock, Thread
from threading import Event as Signal
from typing import Any, Generic, NamedTuple, TypeVar

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import DBAPIError

from policy_engine.ids import SequenceIds
from policy_engine.model.errors import BusyError, StateError, StoreUnavailableError
from policy_engine.model.event import Event
from policy_engine.model.frozen import thaw
from policy_engine.model.record import Checked
from policy_engine.store import schema
from policy_engine.store.batch import Batch, Block, FencedError, open_block
from policy_engine.store.chain import Link
from policy_engine.store.checkpoints import Signer
from policy_engine.store.database import Database, is_refusal
from policy_engine.store.encode import (
    Decisions,
    Happened,
    Record,
    append_event,
    append_record,
    decode_record,
    encode_record,
    log_entry,
    names_in,
)
from policy_engine.store.position import Positions, Vector, microseconds_of, step, writer_of
from policy_engine.store.redact import Redactor
from policy_engine.store.rings import Rings
from policy_engine.store.seat import Seat, take_seat
from policy_engine.store.spool import Orphan, Spool, SpoolFullError, orphans
from policy_engine.store.subjects import Subjects

log = logging.getLogger(__name__)

T = TypeVar("T")

FLUSH_SECONDS = 0.05
MAX_WAIT_SECONDS = 0.25
MAX_BATCH_ITEMS = 2000
_RETRY_SECONDS = 0.25
_ATTEMPTS = 3
"""How often a transaction is tried before what it holds goes to the spool: another process may only be busy."""

_COMMIT_SECONDS = 30.0
_CHUNK = 500


class Pending(NamedTuple):
    """What waits in the queue: a record as it was made, and who waits for it to be lasting."""

    position: int
    item: Event | Sequence[Checked]
    source: str | None
    represents: int
    signal: Signal | None


class Transaction:
    """What a change may do: use the connection, and append events and revisions at the positions it asked for.

    Attributes:
        connection: In a transaction that is committed when the change is done.
        events: What was appended, with positions.
    """

    def __init__(self, batch: Batch, positions: Sequence[int], ids: SequenceIds) -> None:
        self.connection = batch.connection
        self.batch = batch
        self.events: list[tuple[int, Event]] = []
        self._positions = iter(positions)
        self._ids = ids

    def position(self) -> int:
        """Take the next position."""
        return next(self._positions)

    def event(self, event_type: str, details: dict[str, Any]) -> Event:
        """Append an event."""
        position = self.position()
        event = make_event(self._ids, position, event_type, details)
        append_event(self.batch, position, event)
        self.events.append((position, event))
        return event


class Change(NamedTuple, Generic[T]):
    """A transaction that the writer carries out for somebody.

    Attributes:
        apply: Does it.
        positions: How many positions it needs.
        done: Gets what `apply` returns, once that has reached the disk.
    """

    apply: Callable[[Transaction], T]
    positions: int
    done: Future[T]


class Writer:
    """Everything that one process writes to the database goes through here, in order.

    What is recorded waits in a queue of bounded length and is committed in groups. While the database is away it goes
    to the spool; what does not fit there waits in the queue, and who records more is made to wait, then refused.
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
        self._tenant = tenant
        self._name = name
        self._ids = SequenceIds(store_id)
        self._signer = signer
        self._spool = spool
        self._redactor = redactor
        self._capacity = capacity
        self.keeps_decisions = keeps_decisions
        self._told = told
        self._subjects = Subjects(tenant)
        self._events: deque[Pending] = deque()
        self._decisions: deque[Pending] = deque()
        self._changes: deque[Change[Any]] = deque()
        self._queued = 0
        self._mutex = Lock()
        self._lock = Condition(self._mutex)
        self._wake = Signal()
        self._stopping = False
        self._closed = False
        self._away = False
        self._attempts = 0
        self._retry_at = 0.0
        self._horizon: int | None = None
        self._unwritten: list[Record] = []
        self._seat, self._links, self._block = self._find_seat(None)
        self._positions = Positions(self._seat.number, _end_of(self._links))
        self.rings = self._new_rings()
        self._thread = Thread(target=self._run, name="writer", daemon=True)

    # What others call

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, or spool it, and end."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        with self._lock:
            self._closed = True
        self._turn()
        self._refuse_changes()
        self._seat.release()
        self._spool.close()

    @property
    def number(self) -> int:
        """The number of this writer."""
        return self._positions.writer

    @property
    def waiting(self) -> int:
        """How many decisions are in the queue, or on their way from it to the disk."""
        return self._queued

    def record(self, event_type: str, details: dict[str, Any]) -> Event:
        """Take a management event; it is stored soon."""
        with self._lock:
            position = self._positions.take()
            event = make_event(self._ids, position, event_type, details)
            self.rings.management.append(position, event)
            self._events.append(Pending(position, event, None, 1, None))
        return event

    def record_decisions(
        self, checked: Sequence[Checked], source: str | None = None, represents: int = 1, *, sync: bool = False
    ) -> None:
        """Take decisions; they are stored soon, or have been when this returns if `sync`.

        Raises:
            BusyError: The queue stayed full, or what was to be stored at once was not stored in time.
        """
        count = len(checked)
        signal = Signal() if sync else None
        with self._mutex:  # the lock itself: this is the hot path
            if self._closed:
                raise BusyError("the decision log is closed: nothing was recorded of this check")
            if self._queued and self._queued + count > self._capacity:
                self._wake.set()
                if not self._lock.wait_for(lambda: self._fits(count), MAX_WAIT_SECONDS):
                    raise BusyError("the decision log cannot keep up: nothing was recorded of this check")
            last = self._positions.take(count)
            append = self.rings.decisions.append
            if count == 1:
                append(last, checked[0])
            else:
                for number, item in enumerate(checked, 1 - count):
                    append(step(last, number), item)
            if not self.keeps_decisions:
                return
            self._decisions.append(Pending(last, checked, source, represents, signal))
            self._queued += count
        if signal is not None:
            self._wake.set()
            if not signal.wait(MAX_WAIT_SECONDS):
                raise BusyError("the decision was made, but not written to the disk in time")
        elif self._queued >= MAX_BATCH_ITEMS:
            self._wake.set()

    def _fits(self, count: int) -> bool:
        return not self._queued or self._queued + count <= self._capacity

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
        change: Change[T] = Change(apply, positions, Future())
        with self._lock:
            self._changes.append(change)
        self._wake.set()
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

    @property
    def readable_until(self) -> int:
        """The position up to which everything that this process recorded can be read."""
        with self._lock:
            return self._positions.last if self._horizon is None else step(self._horizon, -1)

    def readable(
        self, vector: Vector, *, management: bool, decisions: bool
    ) -> tuple[list[tuple[int, Any]], int | None]:
        """Return what this process recorded behind a vector and still has in memory.

        The second value is the position up to which entries behind the vector are no longer in memory, None when all
        of them are.
        """
        with self._lock:
            held, evicted = self.rings.of(management=management, decisions=decisions)
            horizon, number = self._horizon, self.number
        after = vector.get(number, 0)
        seen = [
            entry
            for entry in held
            if entry[0] > after and entry[0] > evicted and (horizon is None or entry[0] < horizon)
        ]
        return seen, evicted if evicted > after else None

    # The thread

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait(FLUSH_SECONDS)
            self._wake.clear()
            self._turn()
        self._turn()
        self._signer.hurry()
        self._turn()

    def _turn(self) -> None:
        """Persist what waits, and carry out one change after another."""
        go_on = True
        while go_on:
            pending, change, positions = self._take()
            self._unwritten += [record for record in map(self._record_of, pending) if record is not None]
            try:
                self._persist(change, positions)
            finally:
                with self._lock:
                    self._horizon = None
            if pending and self._unwritten:
                self._hold()
            self._release(pending)
            self._settle()
            go_on = bool(self._changes) or self._queued >= MAX_BATCH_ITEMS or (self._stopping and bool(pending))

    def _take(self) -> tuple[list[Pending], Change[Any] | None, list[int]]:
        """Take what waits, not too much of it, and a change with the positions it needs.

        Other processes read up to the last entry of this one, so what is taken is all there is up to some position;
        a change that appends entries takes everything before it along.
        """
        with self._lock:
            change = self._next_change()
            appends = change is not None and change.positions > 0
            taken = self._take_waiting(self._queued if appends else MAX_BATCH_ITEMS)
            positions = self._take_positions(change.positions) if change is not None and appends else []
        return taken, change, positions

    def _next_change(self) -> Change[Any] | None:
        while self._changes:
            change = self._changes.popleft()
            if change.done.set_running_or_notify_cancel():
                return change
        return None

    def _take_waiting(self, most: int) -> list[Pending]:
        taken: list[Pending] = []
        items = 0
        while self._decisions and items < most:
            pending = self._decisions.popleft()
            taken.append(pending)
            items += _items(pending)
        while self._events and not (self._decisions and self._decisions[0].position < self._events[0].position):
            taken.append(self._events.popleft())
        taken.sort(key=_position)
        return taken

    def _take_positions(self, count: int) -> list[int]:
        """Take the positions of a change; what is recorded from now on is not read before it is done."""
        last = self._positions.take(count)
        positions = [step(last, number + 1 - count) for number in range(count)]
        self._horizon = positions[0]
        return positions

    def _persist(self, change: Change[Any] | None, positions: list[int]) -> None:
        """Make what is unwritten lasting, in the database or in the spool; it stays unwritten if neither takes it."""
        try:
            if self._away:
                _fail(change, StoreUnavailableError(f"the database `{self._database.url}` is away; try again"))
                change = None
                self._come_back()
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
        end = self._last_position()
        for place, record in enumerate(self._unwritten):
            if not self._follows(record, end):
                with self._moving():
                    self._unwritten[place:] = map(self._moved, self._unwritten[place:])
                end = self._unwritten[-1].position
                break
            end = record.position
        if positions and (positions[0] <= end or writer_of(positions[0]) != self.number):
            with self._lock:
                return self._take_positions(len(positions))
        return positions

    def _follows(self, record: Record, end: int) -> bool:
        items = len(record.entries) if isinstance(record, Decisions) else 1
        return writer_of(record.position) == self.number and step(record.position, 1 - items) > end

    def _write_one_by_one(self) -> None:
        """Find the record that cannot be written, and go on without it."""
        records, self._unwritten = self._unwritten, []
        for number, record in enumerate(records):
            self._unwritten = [record]
            try:
                self._commit(None, [])
            except (StateError, FencedError) as error:
                self._unwritten = records[number:]
                self._go_away(error)
                return
            except Exception:
                log.exception("a record cannot be written and is lost: %s", _named(record))
                self._unwritten = []

    def _release(self, pending: list[Pending]) -> None:
        with self._lock:
            self._queued -= sum(map(_items, pending))
            self._lock.notify_all()
        for item in pending:
            if item.signal is not None:
                item.signal.set()

    def _settle(self) -> None:
        """Let memory begin where the store ends, when nothing that it has lost is still to be written."""
        if self._away or self._unwritten:
            return
        with self._lock:
            for ring, waiting, stream in (
                (self.rings.management, self._events, "event"),
                (self.rings.decisions, self._decisions, "decision"),
            ):
                is_waiting = bool(waiting) and _first(waiting[0]) <= ring.evicted
                if not is_waiting and (stream == "event" or self.keeps_decisions):
                    ring.evicted = min(ring.evicted, self._links[stream].position)

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
        with self._lock:
            waiting, self._changes = self._changes, deque()
        for change in waiting:
            if change.done.set_running_or_notify_cancel():
                change.done.set_exception(StoreUnavailableError(f"the database `{self._database.url}` is away"))

    def _record_of(self, pending: Pending) -> Record | None:
        if isinstance(pending.item, Event):
            return Happened(position=pending.position, event=pending.item)
        try:
            entries = [log_entry(item, self._redactor, pending.source, pending.represents) for item in pending.item]
        except Exception:  # what one caller hands in must not stop the log
            log.exception("a record cannot be written and is lost")
            return None
        return Decisions(position=pending.position, entries=entries)

    def _commit(self, change: Change[Any] | None, positions: list[int]) -> None:
        """Write what is unwritten and a change, all in one transaction."""
        if change is None and not self._unwritten and not self._signer.due(0):
            return
        try:
            outcome = self._write(change, positions)
        except BaseException:
            self._subjects.forget()
            raise
        self._told("audit_unsigned", self._signer.problem or None)
        outcome()

    def _write(self, change: Change[Any] | None, positions: list[int]) -> Callable[[], None]:
        outcome: Callable[[], None] = _nothing
        with self._database.write() as connection:
            batch = Batch(connection, self._tenant, self.number, self._links, self._block)
            self._append_unwritten(batch)
            if change is not None:
                outcome = self._apply(batch, change, positions)
            batch.write()
            appended = batch.appended
            signed = self._signer.due(appended) and self._signer.sign(connection)
        self._links, self._block = batch.links, batch.block
        self._block.stored = self._block.count > 0
        self._unwritten = []
        self._signer.committed(appended, signed=signed)
        return outcome

    def _append_unwritten(self, batch: Batch) -> None:
        if not self._unwritten:
            return
        personal = self._redactor.personal
        names: set[str] = set()
        for record in self._unwritten:
            if isinstance(record, Decisions):
                for entry in record.entries:
                    names |= names_in(entry, personal)
        generation = batch.connection.execute(
            select(schema.store.c.subject_generation).where(schema.store.c.tenant == self._tenant)
        ).scalar_one()
        self._subjects.forget_erased(generation)
        subjects = self._subjects.ensure(batch.connection, names) if names else {}
        for record in self._unwritten:
            append_record(batch, record, personal, subjects)

    def _apply(self, batch: Batch, change: Change[Any], positions: list[int]) -> Callable[[], None]:
        """Carry out a change inside the transaction; return what is to be done once that is committed."""
        mark = batch.mark()
        transaction = Transaction(batch, positions, self._ids)
        try:
            with batch.connection.begin_nested():
                result = change.apply(transaction)
        except Exception as error:
            if isinstance(error, DBAPIError) and not is_refusal(error):
                raise  # the database is away, for everything in this transaction
            batch.undo(mark)
            failure = error  # whoever asked for the change hears of it
            return lambda: change.done.set_exception(failure)
        return lambda: self._publish(transaction.events, lambda: change.done.set_result(result))

    def _publish(self, events: list[tuple[int, Event]], then: Callable[[], None]) -> None:
        """Show the events of a change to readers before whoever asked for it hears that it is done."""
        with self._lock:
            for position, event in events:
                self.rings.management.append(position, event)
            self._horizon = None
        then()

    # While the database is away

    def _go_away(self, error: Exception) -> None:
        """Spool what is unwritten, unless it is worth while to try again first."""
        self._attempts += 1
        self._away = True
        if self._attempts < _ATTEMPTS and not self._stopping:
            return
        if self._attempts == _ATTEMPTS:
            log.warning("%s; what is recorded goes to the spool", error)
        self._told("store_unavailable", str(error))
        try:
            self._spool.add([encode_record(record) for record in self._unwritten])
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
        if time.monotonic() < self._retry_at and self._attempts >= _ATTEMPTS and not self._stopping:
            raise StoreUnavailableError(f"the database `{self._database.url}` is away")
        self._retry_at = time.monotonic() + _RETRY_SECONDS
        self._take_seat_again()
        waiting, self._unwritten = self._unwritten, []
        try:
            self._replay(self._spool)
            self._spool.clear()
        finally:
            self._unwritten = waiting
        self._unwritten = self._missing(waiting)
        self._away = False

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
        with self._lock:
            self._positions = Positions(self.number, max(self._positions.last, self._last_position()))
            self.rings = self._new_rings()

    def _replay(self, spool: Spool | Orphan) -> None:
        """Write records that may have been written already, in whole or in part.

        Those that have to be moved get their new positions in the spool first: whoever comes back to it after a
        commit of which nobody knows whether it took place finds them by these.
        """
        first = next((part[0] for part in self._parts(spool)), None)
        if first is not None and not self._follows(first, self._last_position()):
            with self._moving():
                spool.replace(encode_record(self._moved(record)) for part in self._parts(spool) for record in part)
        for part in self._parts(spool):
            self._unwritten = part
            try:
                self._commit(None, [])
            except (StateError, FencedError):
                raise
            except Exception:
                log.exception("the writer failed")
                self._write_one_by_one()

    def _parts(self, spool: Spool | Orphan) -> Iterator[list[Record]]:
        """Yield what is in a spool and not in the database, some at a time."""
        records = _decoded(spool.records())
        while part := list(islice(records, _CHUNK)):
            missing = self._missing(part)
            if missing:
                yield missing

    def _missing(self, records: list[Record]) -> list[Record]:
        there = self._present({record.position for record in records})
        return [record for record in records if record.position not in there]

    def _last_position(self) -> int:
        return _end_of(self._links)

    def _present(self, positions: set[int]) -> set[int]:
        found: set[int] = set()
        wanted = sorted(positions)
        with self._database.read() as connection:
            for table in (schema.decision, schema.event):
                for start in range(0, len(wanted), _CHUNK):
                    query = select(table.c.position).where(
                        table.c.tenant == self._tenant, table.c.position.in_(wanted[start : start + _CHUNK])
                    )
                    found.update(connection.execute(query).scalars())
        return found

    @contextmanager
    def _moving(self) -> Iterator[None]:
        """Keep readers away from the positions that are taken here: memory does not have what will stand there."""
        with self._lock:
            self._horizon = step(self._positions.last, 1)
        try:
            yield
        finally:
            with self._lock:
                self.rings.forget(self._positions.last)
                self._horizon = None

    def _moved(self, record: Record) -> Record:
        """Return a record with a new position: its own belongs to another chain, or lies behind the end of this one."""
        with self._lock:
            if isinstance(record, Decisions):
                return Decisions(position=self._positions.take(len(record.entries)), entries=record.entries)
            position = self._positions.take()
        event = record.event
        return Happened(position=position, event=make_event(self._ids, position, event.event_type, event.details))

    # The seat

    def _find_seat(self, wanted: int | None) -> tuple[Seat, dict[str, Link], Block]:
        seat = take_seat(self._database, wanted=wanted)
        try:
            return seat, *self._read_chains(seat)
        except BaseException:
            seat.release()
            raise

    def _new_rings(self) -> Rings:
        return Rings(self._links["event"].position, self._links["decision"].position)

    def _take_seat_again(self) -> None:
        self._seat.release()
        before = self._links
        self._seat, self._links, self._block = self._find_seat(self.number)
        with self._lock:
            self._move_to(self._seat.number, _end_of(self._links), known=self._links == before)

    def _move_to(self, number: int, last: int, *, known: bool) -> None:
        floor = max(last, self._positions.take())
        if number != self.number or not known:  # then memory does not hold what this process is to be read for
            self.rings = Rings(floor, floor)
        self._positions = Positions(number, floor)

    def _read_chains(self, seat: Seat) -> tuple[dict[str, Link], Block]:
        chain = schema.chain
        with self._database.write() as connection:
            register_writer(connection, self._tenant, seat.number, self._name)
            query = select(chain).where(chain.c.tenant == self._tenant, chain.c.writer == seat.number)
            links = {
                row.stream: Link(row.seq, row.position, bytes(row.hash), row.items) for row in connection.execute(query)
            }
            for stream in schema.STREAMS:
                if stream not in links:
                    links[stream] = start_chain(connection, self._tenant, seat.number, stream)
            return links, open_block(connection, self._tenant, seat.number, links["decision"])


def register_writer(connection: Connection, tenant: str, number: int, name: str) -> None:
    """Note who holds a number from now on."""
    table = schema.writer
    values = {"name": name, "since": time.time_ns() // 1000}
    known = connection.execute(update(table).where(table.c.tenant == tenant, table.c.number == number).values(**values))
    if not known.rowcount:
        connection.execute(insert(table).values(tenant=tenant, number=number, **values))


def start_chain(connection: Any, tenant: str, writer: int, stream: str) -> Link:
    """Add the row of a chain that has no entries yet."""
    start = Link()
    connection.execute(
        insert(schema.chain).values(
            tenant=tenant,
            writer=writer,
            stream=stream,
            seq=0,
            position=0,
            hash=start.hash,
            items=0,
            tail_seq=0,
            tail_position=0,
            tail_hash=start.hash,
            tail_items=0,
        )
    )
    return start


def make_event(ids: SequenceIds, position: int, event_type: str, details: dict[str, Any]) -> Event:
    """Return the event at a position."""
    moment = datetime.fromtimestamp(microseconds_of(position) / 1e6, UTC)
    return Event(event_id=ids.text(position), timestamp=moment, event_type=event_type, details=thaw(details))


def _end_of(links: dict[str, Link]) -> int:
    return max(link.position for link in links.values())


def _decoded(records: Iterable[bytes]) -> Iterator[Record]:
    for record in records:
        try:
            yield decode_record(record)
        except ValueError:  # another version of the engine wrote it
            log.exception("a record in a spool cannot be read and is lost")


def _named(record: Record) -> str:
    """Return how to call a record in a log that personal data must not get into."""
    if isinstance(record, Happened):
        return f"event {record.event.event_id}"
    return f"decisions {record.entries[0].decision.decision_id} and {len(record.entries) - 1} more"


def _first(pending: Pending) -> int:
    return step(pending.position, 1 - max(_items(pending), 1))


def _position(pending: Pending) -> int:
    return pending.position


def _nothing() -> None:
    """Do nothing."""


def _items(pending: Pending) -> int:
    return 0 if isinstance(pending.item, Event) else len(pending.item)


def _fail(change: Change[Any] | None, error: Exception) -> None:
    if change is not None and not change.done.done():
        change.done.set_exception(error)
