"""The ledger of one seat: where its chains end, and the transactions that append to them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import DBAPIError

from policy_engine.ids import SequenceIds
from policy_engine.model.event import Event
from policy_engine.store import schema
from policy_engine.store.batch import Batch, Block, open_block
from policy_engine.store.chain import Link
from policy_engine.store.change import Change, Transaction
from policy_engine.store.checkpoints import Signer
from policy_engine.store.database import Database, is_refusal
from policy_engine.store.encode import MAX_SPAN, Happened, Waiting, append_event, positions_in
from policy_engine.store.encoder import Encoder
from policy_engine.store.position import MAX_WRITERS, step, writer_of
from policy_engine.store.seat import Seat, take_seat
from policy_engine.store.subjects import Subjects, erasures

_PATIENCE_SECONDS = 5.0
"""How long a server that is there may take for one statement or a commit, before it counts as away."""


class Outcome(NamedTuple):
    """What came of a transaction that was committed.

    Attributes:
        events: What a change appended, to be shown to readers.
        tell: Tells whoever asked for the change.
    """

    events: Sequence[tuple[int, Event]]
    tell: Callable[[], None]


class Ledger:
    """What one process writes under its number; it is used by one thread.

    Attributes:
        links: The end of the chain of each stream.
    """

    def __init__(
        self,
        database: Database,
        *,
        tenant: str,
        name: str,
        ids: SequenceIds,
        signer: Signer,
        encoder: Encoder,
        subjects: Subjects,
    ) -> None:
        """Take a seat and read where its chains end.

        Args:
            database: Where to write.
            tenant: Whose entries these are.
            name: What names this process in the registry.
            ids: Makes the ids of events.
            signer: Makes the checkpoints.
            encoder: Makes rows of decisions.
            subjects: Whom these are about.

        Raises:
            StoreUnavailableError: The database is away.
        """
        self._database = database
        self._tenant = tenant
        self._name = name
        self._ids = ids
        self._signer = signer
        self._encoder = encoder
        self._subjects = subjects
        self._seat, self.links, self._block = self._find_seat(None)

    @property
    def number(self) -> int:
        """The number of the seat."""
        return self._seat.number

    @property
    def end(self) -> int:
        """The highest position in any of the chains."""
        return max(link.position for link in self.links.values())

    # The seat

    def take_again(self) -> bool:
        """Take the seat again, or another one; return whether the chains are where they were.

        Raises:
            StoreUnavailableError: The database is away.
        """
        number, before = self.number, self.links
        self.release()
        self._seat, self.links, self._block = self._find_seat(number)
        return self.number == number and self.links == before

    def notice_erasures(self) -> None:
        """Forget the keys that other processes deleted; any thread may call this.

        Raises:
            StoreUnavailableError: The database is away.
        """
        with self._database.read() as connection:
            self._subjects.forget_erased(erasures(connection, self._tenant))

    def release(self) -> None:
        """Give the seat back."""
        self._seat.release()

    def _find_seat(self, wanted: int | None) -> tuple[Seat, dict[str, Link], Block]:
        if wanted is not None:
            self._wait_for_commits({wanted})
        seat = take_seat(self._database, wanted=wanted)
        try:
            return seat, *self._read_chains(seat)
        except BaseException:
            seat.release()
            raise

    def _read_chains(self, seat: Seat) -> tuple[dict[str, Link], Block]:
        chain = schema.chain
        with self._database.write(patience=_PATIENCE_SECONDS) as connection:
            register_writer(connection, self._tenant, seat.number, self._name)
            query = select(chain).where(chain.c.tenant == self._tenant, chain.c.writer == seat.number)
            links = {
                row.stream: Link(row.seq, row.position, bytes(row.hash), row.items) for row in connection.execute(query)
            }
            for stream in schema.STREAMS:
                if stream not in links:
                    links[stream] = start_chain(connection, self._tenant, seat.number, stream)
            return links, open_block(connection, self._tenant, seat.number, links["decision"])

    # What is written

    def present(self, positions: set[int]) -> set[int]:
        """Return which of these positions have entries, now that everything is over which may have written them.

        Raises:
            StoreUnavailableError: The database is away.
        """
        if not positions:
            return set()
        self._wait_for_commits({writer_of(position) for position in positions})
        first, last = min(positions), step(max(positions), MAX_SPAN)
        found: set[int] = set()
        with self._database.read() as connection:
            event, decision = schema.event.c, schema.decision.c
            query = select(event.position).where(event.tenant == self._tenant, event.position.between(first, last))
            found.update(connection.execute(query).scalars())
            rows = select(decision.position, decision.body).where(
                decision.tenant == self._tenant,
                decision.position.between(first, last),
                decision.position.op("&")(MAX_WRITERS - 1).in_({writer_of(position) for position in positions}),
            )
            for position, body in connection.execute(rows):
                found.update(positions_in(position, bytes(body)))
        return found & positions

    def _wait_for_commits(self, writers: set[int]) -> None:
        """Wait until no transaction of these writers is under way.

        A commit whose connection broke may still come, as long as the server has not noticed; nobody can hold its seat
        against it, because a seat is another connection, which may break earlier.
        """
        heads = schema.chain.c
        held = select(heads.seq).where(heads.tenant == self._tenant, heads.writer.in_(writers)).with_for_update()
        with self._database.write(patience=_PATIENCE_SECONDS) as connection:
            connection.execute(held).all()

    def check(self) -> None:
        """Find out whether the database can be written.

        Raises:
            StoreUnavailableError: It cannot.
        """
        self._wait_for_commits({self.number})

    def write(self, records: Sequence[Waiting], change: Change[Any] | None, positions: Sequence[int]) -> Outcome:
        """Write records and carry out a change, all in one transaction, with a checkpoint when one is due.

        Raises:
            StoreUnavailableError: The database is away; nothing was written, unless it went away at the commit.
            FencedError: Another process has written under this number; nothing was written.
        """
        outcome = Outcome((), _nothing)
        try:
            with self._database.write(patience=_PATIENCE_SECONDS) as connection:
                batch = Batch(connection, self._tenant, self.number, self.links, self._block)
                self._append(batch, records)
                if change is not None:
                    outcome = self._apply(batch, change, positions)
                batch.write()
                appended = batch.appended
                signed = self._signer.due(appended) and self._signer.sign(connection)
        except BaseException:
            self._subjects.drop()
            raise
        self._subjects.keep()
        self.links, self._block = batch.links, batch.block
        self._block.stored = self._block.count > 0
        self._signer.committed(appended, signed=signed)
        return outcome

    def _append(self, batch: Batch, records: Sequence[Waiting]) -> None:
        decisions = [record for record in records if not isinstance(record, Happened)]
        for record in records:
            if isinstance(record, Happened):
                append_event(batch, record.position, record.event)
        if decisions:
            self._subjects.begin(erasures(batch.connection, self._tenant))
            ensure = partial(self._subjects.ensure, batch.connection)
            for row in self._encoder.rows(decisions, self._subjects.lasting, ensure):
                batch.append_decisions(row)

    def _apply(self, batch: Batch, change: Change[Any], positions: Sequence[int]) -> Outcome:
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
            return Outcome((), lambda: change.done.set_exception(failure))
        return Outcome(transaction.events, lambda: change.done.set_result(result))


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


def _nothing() -> None:
    """Do nothing."""
