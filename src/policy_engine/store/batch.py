"""What one transaction of a writer appends: rows of the streams, the heads of their chains, the index of decisions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

from sqlalchemy import Connection, Table, insert, select, update
from sqlalchemy.exc import DataError, IntegrityError, OperationalError

from policy_engine.model.errors import PolicyEngineError
from policy_engine.store import schema
from policy_engine.store.chain import Link, follow
from policy_engine.store.position import writer_of
from policy_engine.store.terms import NONE, pack, term, unpack

BLOCK_ROWS = 1000
_ROWS_A_STATEMENT = (256, 32, 4, 1)


class FencedError(PolicyEngineError):
    """Another process has written under this writer's number, so the chain has to be read again."""


class Block:
    """The run of decisions that is being indexed."""

    def __init__(self, first: int = 0, last: int = 0, count: int = 0, terms: Iterable[int] = ()) -> None:
        self.first = first
        self.last = last
        self.count = count
        self.terms = set(terms)
        self.stored = count > 0

    def add(self, position: int, terms: Iterable[int]) -> None:
        """Take a row in."""
        self.first = self.first or position
        self.last = position
        self.count += 1
        self.terms.update(terms)

    def copy(self) -> Block:
        """Return the same block, to change."""
        return Block(self.first, self.last, self.count, self.terms)


class Batch:
    """Collects what is appended and writes it at the end; the heads before it are not touched."""

    def __init__(self, connection: Connection, tenant: str, writer: int, links: dict[str, Link], block: Block) -> None:
        self.connection = connection
        self.tenant = tenant
        self.writer = writer
        self.links = dict(links)
        self.block = block.copy()
        self._before = links
        self._rows: dict[str, list[tuple[Any, ...]]] = {name: [] for name in schema.STREAMS}
        self._blocks: list[Block] = []

    def append(self, stream: str, position: int, body: bytes, columns: tuple[Any, ...], items: int = 1) -> None:
        """Append an entry to a stream.

        Args:
            stream: One of STREAMS.
            position: Above the one before.
            body: The bytes to store.
            columns: The values of the columns between `position` and `seq`.
            items: How many items the entry holds.
        """
        link = self.links[stream] = follow(self.links[stream], position, body, items)
        self._rows[stream].append((self.tenant, position, *columns, link.seq, body, link.hash))

    def append_decision(self, position: int, body: bytes, columns: tuple[Any, ...], terms: Iterable[int]) -> None:
        """Append to the decision log and take its terms into the index; `columns` begins with the number of items."""
        self.append("decision", position, body, columns, columns[0])
        if self.block.count >= BLOCK_ROWS:
            self._blocks.append(self.block)
            self.block = Block()
        self.block.add(position, terms)

    @property
    def appended(self) -> int:
        """How many entries are in it."""
        return sum(map(len, self._rows.values()))

    def mark(self) -> tuple[dict[str, Link], dict[str, int]]:
        """Return where the batch stands, for `undo`."""
        return dict(self.links), {name: len(rows) for name, rows in self._rows.items()}

    def undo(self, mark: tuple[dict[str, Link], dict[str, int]]) -> None:
        """Forget entries other than decisions that were appended since a mark."""
        self.links = dict(mark[0])
        for name, count in mark[1].items():
            del self._rows[name][count:]

    def write(self) -> None:
        """Write everything.

        Raises:
            FencedError: The chain is not where this writer left it.
        """
        for name, rows in self._rows.items():
            if rows:
                self._advance(name)
                insert_rows(self.connection, schema.STREAMS[name], rows)
        if self._rows["decision"]:
            for block in (*self._blocks, self.block):
                self._write_block(block)

    def _advance(self, stream: str) -> None:
        ends, old, new = schema.chain, self._before[stream], self.links[stream]
        moved = self.connection.execute(
            update(ends)
            .where(
                ends.c.tenant == self.tenant,
                ends.c.writer == self.writer,
                ends.c.stream == stream,
                ends.c.seq == old.seq,
                ends.c.hash == old.hash,
            )
            .values(seq=new.seq, position=new.position, hash=new.hash, items=new.items)
        )
        if moved.rowcount != 1:
            raise FencedError(f"writer {self.writer} of `{stream}` was overtaken")

    def _write_block(self, block: Block) -> None:
        table = schema.block
        values = {"last": block.last, "count": block.count, "terms": pack(block.terms)}
        if block.stored:
            key = (table.c.tenant == self.tenant, table.c.first == block.first)
            self.connection.execute(update(table).where(*key).values(**values))
        else:
            self.connection.execute(insert(table).values(tenant=self.tenant, first=block.first, **values))


def open_block(connection: Connection, tenant: str, writer: int, link: Link) -> Block:
    """Return the block that a writer goes on filling."""
    if not link.position:
        return Block()
    table = schema.block
    query = (
        select(table.c.first, table.c.last, table.c.count, table.c.terms)
        .where(table.c.tenant == tenant, table.c.last == link.position, table.c.first <= link.position)
        .order_by(table.c.first.desc())
        .limit(1)
    )
    row = connection.execute(query).first()
    if row is None:
        return Block()
    first, last, count, terms = row
    return (
        Block()
        if count >= BLOCK_ROWS or writer_of(first) != writer
        else Block(first, last, count, unpack(bytes(terms)))
    )


def decision_terms(
    *, allowed: bool, type_: str, component: str | None, client: str | None, policy: str | None
) -> tuple[tuple[int, int, int, int], tuple[int, ...]]:
    """Return the columns of a decision that are searched, and all its terms for the index."""
    first, second, last, terms = _shared_terms(allowed, type_, component, policy)
    number, pair = _client_terms(allowed, client)
    if number == NONE:
        return (first, second, NONE, last), terms
    return (first, second, number, last), (*terms, number, pair)


@lru_cache(maxsize=1 << 12)
def _shared_terms(
    allowed: bool,  # noqa: FBT001 - part of the key
    type_: str,
    component: str | None,
    policy: str | None,
) -> tuple[int, int, int, tuple[int, ...]]:
    columns = (term("type", type_), term("component", component), term("policy", policy))
    result = result_term(allowed=allowed)
    singles = tuple(number for number in columns if number != NONE)
    return *columns, (*singles, result, *(pair_term(number, result) for number in singles))


@lru_cache(maxsize=1 << 16)
def _client_terms(allowed: bool, client: str | None) -> tuple[int, int]:  # noqa: FBT001 - part of the key
    number = term("client", client)
    return number, pair_term(number, result_term(allowed=allowed))


def result_term(*, allowed: bool) -> int:
    """Return the term of a result."""
    return term("result", "allow" if allowed else "deny")


def pair_term(one: int, other: int) -> int:
    """Return the term of two terms in the same decision."""
    return ((one * 0x9E37_79B1 ^ other) & 0x7FFF_FFFF) or 1


def insert_rows(connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert many rows the quickest way that the driver has; each row has every column in its order."""
    if connection.dialect.name == "postgresql":
        _copy(connection, table, rows)
        return
    # Several rows a statement: the driver gives up the interpreter lock for each statement, and getting it back takes
    # long while other threads are busy.
    one = f"({','.join('?' * len(table.c))})"
    names = ",".join(column.name for column in table.c)
    start = 0
    for size in _ROWS_A_STATEMENT:
        statement = f"INSERT INTO {table.name} ({names}) VALUES {','.join([one] * size)}"  # noqa: S608 - nothing of a caller's
        while len(rows) - start >= size:
            values = tuple(chain.from_iterable(rows[start : start + size]))
            try:
                connection.exec_driver_sql(statement, values)
            except IntegrityError as error:
                raise FencedError(f"entries of `{table.name}` are there already") from error
            start += size


_COPY_TYPES = {
    "TEXT": "text",
    "BIGINT": "int8",
    "INTEGER": "int4",
    "SMALLINT": "int2",
    "BOOLEAN": "bool",
    "BLOB": "bytea",
}


def _copy(connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    driver: Any = connection.connection.driver_connection
    errors: Any = connection.dialect.dbapi
    types = [_COPY_TYPES[str(column.type)] for column in table.c]
    names = ",".join(f'"{column.name}"' for column in table.c)
    statement = f"COPY {table.name} ({names}) FROM STDIN (FORMAT BINARY)"
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types(types)
            for row in rows:
                copy.write_row(row)
    except errors.IntegrityError as error:
        raise FencedError(f"entries of `{table.name}` are there already") from error
    except errors.DataError as error:
        raise DataError(statement, None, error) from error
    except errors.Error as error:
        raise OperationalError(statement, None, error) from error
