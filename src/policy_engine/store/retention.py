"""Remove old entries: the beginning of each chain, up to a signed place, so that what is left still verifies."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, func, select, update

from policy_engine.model.errors import StateError, TurnError
from policy_engine.store import schema
from policy_engine.store.change import Transaction
from policy_engine.store.opened import Store
from policy_engine.store.position import MAX_WRITERS, writer_of

_BLOCKS_AT_ONCE = 20
_EVENTS_AT_ONCE = 10_000
_MIN_SHARE = 0.05
"""At least this part of a log that has grown too large is removed at once."""


class Removed(NamedTuple):
    """What one step removed.

    Attributes:
        entries: How many events, or decisions; a row holds several of these.
        until: The position of the last one.
    """

    stream: str
    entries: int
    until: int


def remove_decisions(store: Store, before: int) -> Removed:
    """Remove some decisions below a position, the oldest first; nothing when there are none.

    Raises:
        BusyError, StateError: Nothing was removed.
    """

    def apply(transaction: Transaction) -> Removed:
        connection, tenant = transaction.connection, store.options.tenant
        table = schema.block
        query = (
            select(table.c.first, table.c.last)
            .where(table.c.tenant == tenant, table.c.last < before)
            .order_by(table.c.last)
            .limit(_BLOCKS_AT_ONCE)
        )
        blocks = [block for block in connection.execute(query) if not _is_last(connection, tenant, block)]
        entries = sum(_remove_range(connection, tenant, "decision", block.first, block.last) for block in blocks)
        for block in blocks:
            connection.execute(delete(table).where(table.c.tenant == tenant, table.c.first == block.first))
        writers = {writer_of(block.first) for block in blocks}
        return _signed(store, transaction, Removed("decision", entries, blocks[-1].last if blocks else 0), writers)

    return store.writer.transact(apply)


def remove_events(store: Store, before: int) -> Removed:
    """Remove some events below a position, the oldest first; nothing when there are none.

    Raises:
        BusyError, StateError: Nothing was removed.
    """

    def apply(transaction: Transaction) -> Removed:
        connection, tenant = transaction.connection, store.options.tenant
        table = schema.event
        query = (
            select(table.c.position)
            .where(table.c.tenant == tenant, table.c.position < before)
            .order_by(table.c.position)
            .limit(_EVENTS_AT_ONCE)
        )
        positions = connection.execute(query).scalars().all()
        ends: dict[int, tuple[int, int]] = {}
        for position in positions:
            first = ends.get(writer_of(position), (position, 0))[0]
            ends[writer_of(position)] = (first, position)
        entries = sum(_remove_range(connection, tenant, "event", first, last) for first, last in ends.values())
        return _signed(store, transaction, Removed("event", entries, positions[-1] if positions else 0), ends.keys())

    return store.writer.transact(apply)


def oldest_share(store: Store, max_bytes: int) -> int | None:
    """Return below which position decisions have to go for the database to fit; None when it does.

    Raises:
        StoreUnavailableError: The database is away.
    """
    used = store.database.bytes_used()
    if used <= max_bytes:
        return None
    share = max(_MIN_SHARE, (used - max_bytes) / used)
    table = schema.block
    with store.database.read() as connection:
        count = connection.execute(select(func.count()).where(table.c.tenant == store.options.tenant)).scalar_one()
        query = select(table.c.last).where(table.c.tenant == store.options.tenant).order_by(table.c.last)
        return connection.execute(query.offset(int(count * share)).limit(1)).scalar()


def _is_last(connection: Connection, tenant: str, block: Any) -> bool:
    """Whether a writer still fills this block."""
    chain = schema.chain
    query = select(chain.c.position).where(
        chain.c.tenant == tenant, chain.c.stream == "decision", chain.c.writer == writer_of(block.first)
    )
    return bool(connection.execute(query).scalar() == block.last)


def _remove_range(connection: Connection, tenant: str, stream: str, first: int, last: int) -> int:
    """Remove the entries of one writer in a range that begins where its chain does, and move the tail; count them."""
    table, chain = schema.STREAMS[stream], schema.chain
    writer = writer_of(last)
    inside = (
        table.c.tenant == tenant,
        table.c.position.between(first, last),
        table.c.position.op("&")(MAX_WRITERS - 1) == writer,
    )
    items = func.sum(table.c.count) if stream == "decision" else func.count()
    begin = connection.execute(
        select(chain.c.tail_seq).where(chain.c.tenant == tenant, chain.c.writer == writer, chain.c.stream == stream)
    ).scalar_one()
    rows, held = connection.execute(select(func.count(), items).where(*inside)).one()
    end = connection.execute(select(table.c.seq, table.c.hash).where(*inside, table.c.position == last)).one()
    if rows != end.seq - begin:
        raise StateError(f"nothing is removed: entries of `{stream}` are missing; see `policy-engine audit verify`")
    connection.execute(delete(table).where(*inside))
    connection.execute(
        update(chain)
        .where(chain.c.tenant == tenant, chain.c.writer == writer, chain.c.stream == stream)
        .values(tail_seq=end.seq, tail_position=last, tail_hash=end.hash, tail_items=chain.c.tail_items + int(held))
    )
    return int(held)


def _signed(store: Store, transaction: Transaction, removed: Removed, writers: Iterable[int]) -> Removed:
    """Let a checkpoint state where the chains begin now; without one nothing is removed."""
    moved = {(removed.stream, writer) for writer in writers}
    if removed.entries and not store.signer.sign(transaction.connection, moved):
        if store.signer.problem:
            raise StateError(f"nothing is removed from the log: {store.signer.problem}")
        raise TurnError("nothing is removed from the log: another process changes something")
    return removed


def shrink(store: Store) -> None:
    """Give freed space back to the file system."""
    store.database.shrink()
