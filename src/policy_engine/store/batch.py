"""What one transaction of a writer appends: rows of the streams, the heads of their chains, the index of decisions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import msgspec
from sqlalchemy import Connection, Table, bindparam, insert, select, update
from sqlalchemy.exc import DataError, IntegrityError, OperationalError

from policy_engine.model.errors import PolicyEngineError
from policy_engine.store import schema
from policy_engine.store.chain import Link, follow
from policy_engine.store.position import writer_of
from policy_engine.store.terms import pack, unpack

BLOCK_ITEMS = 1000
"""How many decisions a block takes in before the next one begins."""

_ROWS_A_STATEMENT = 64


# Statements of every turn: to build one takes longer than to carry it out.
_ADVANCE = (
    update(schema.chain)
    .where(
        schema.chain.c.tenant == bindparam("at_tenant"),
        schema.chain.c.writer == bindparam("at_writer"),
        schema.chain.c.stream == bindparam("at_stream"),
        schema.chain.c.seq == bindparam("before_seq"),
        schema.chain.c.hash == bindparam("before_hash"),
    )
    .values({name: bindparam(name) for name in Link._fields})
)
_EXTEND_BLOCK = (
    update(schema.block)
    .where(schema.block.c.tenant == bindparam("at_tenant"), schema.block.c.first == bindparam("at_first"))
    .values({name: bindparam(name) for name in ("last", "count", "terms")})
)
_ADD_BLOCK = insert(schema.block)


class FencedError(PolicyEngineError):
    """Another process has written under this writer's number, so the chain has to be read again."""


class Row(msgspec.Struct, frozen=True, gc=False):
    """A row of the decision log: some decisions, compressed, that were made in one stretch.

    Attributes:
        position: Of the last of them.
        body: The bytes to store.
        count: How many there are.
        terms: What they can be found by.
    """

    position: int
    body: bytes
    count: int
    terms: set[int]


class Block:
    """The run of decisions that is being indexed."""

    def __init__(self, first: int = 0, last: int = 0, count: int = 0, terms: Iterable[int] = ()) -> None:
        self.first = first
        self.last = last
        self.count = count
        self.terms = set(terms)
        self.stored = count > 0

    def add(self, position: int, items: int, terms: Iterable[int]) -> None:
        """Take a row in."""
        self.first = self.first or position
        self.last = position
        self.count += items
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

    def append_decisions(self, row: Row) -> None:
        """Append a row to the decision log and take its terms into the index."""
        self.append("decision", row.position, row.body, (row.count, pack(row.terms)), row.count)
        if self.block.count >= BLOCK_ITEMS:
            self._blocks.append(self.block)
            self.block = Block()
        self.block.add(row.position, row.count, row.terms)

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
        old, new = self._before[stream], self.links[stream]
        where = {"at_tenant": self.tenant, "at_writer": self.writer, "at_stream": stream}
        before = {"before_seq": old.seq, "before_hash": old.hash}
        moved = self.connection.execute(_ADVANCE, {**where, **before, **new._asdict()})
        if moved.rowcount != 1:
            raise FencedError(f"writer {self.writer} of `{stream}` was overtaken")

    def _write_block(self, block: Block) -> None:
        values = {"last": block.last, "count": block.count, "terms": pack(block.terms)}
        if block.stored:
            self.connection.execute(_EXTEND_BLOCK, {"at_tenant": self.tenant, "at_first": block.first, **values})
        else:
            self.connection.execute(_ADD_BLOCK, {"tenant": self.tenant, "first": block.first, **values})


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
        if count >= BLOCK_ITEMS or writer_of(first) != writer
        else Block(first, last, count, unpack(bytes(terms)))
    )


def insert_rows(connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert many rows the quickest way that the driver has; each row has every column in its order."""
    if connection.dialect.name == "postgresql":
        _copy(connection, table, rows)
        return
    # Several rows a statement: the driver gives up the interpreter lock for each statement, and getting it back takes
    # long while other threads are busy.
    one = f"({','.join('?' * len(table.c))})"
    names = ",".join(column.name for column in table.c)
    for start in range(0, len(rows), _ROWS_A_STATEMENT):
        part = rows[start : start + _ROWS_A_STATEMENT]
        statement = f"INSERT INTO {table.name} ({names}) VALUES {','.join([one] * len(part))}"  # noqa: S608 - nothing of a caller's
        try:
            connection.exec_driver_sql(statement, tuple(chain.from_iterable(part)))
        except IntegrityError as error:
            raise FencedError(f"entries of `{table.name}` are there already") from error


_COPY_TYPES = {
    "TEXT": "text",
    "BIGINT": "int8",
    "INTEGER": "int4",
    "SMALLINT": "int2",
    "BOOLEAN": "bool",
    "BLOB": "bytea",
    "DOUBLE": "float8",
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
