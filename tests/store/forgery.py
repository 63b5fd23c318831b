"""What somebody does who has the database, but not the key; and what there is to see in it."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, delete, insert, select, update
from tests.store.mutations import of_writer
from tests.store.trail import opened

from policy_engine.store import schema
from policy_engine.store.chain import entry_hash
from policy_engine.store.checkpoints import Checkpoint, latest
from policy_engine.store.options import DEFAULT_TENANT
from policy_engine.store.repeats import READERS
from policy_engine.store.terms import pack


def exported(url: str) -> bytes:
    with opened(url) as database, database.read() as connection:
        envelope = latest(connection)
    assert envelope is not None
    return envelope


def entry(connection: Connection, stream: str, writer: int, seq: int) -> tuple[int, bytes, bytes]:
    """Return position, body and hash of an entry."""
    table = schema.STREAMS[stream]
    row = connection.execute(select(table).where(of_writer(table, writer), table.c.seq == seq)).one()
    return row.position, bytes(row.body), bytes(row.hash)


def checkpoints(connection: Connection) -> list[Checkpoint]:
    bodies = connection.execute(select(schema.checkpoint.c.body).order_by(schema.checkpoint.c.number)).scalars()
    return [msgspec.json.decode(bytes(body), type=Checkpoint) for body in bodies]


def head(stated: Checkpoint, stream: str, writer: int) -> int:
    """Return the number of the last entry of a chain that a checkpoint states."""
    return next(ends.seq for ends in stated.chains if (ends.stream, ends.writer) == (stream, writer))


def recompute(connection: Connection, stream: str, writer: int, seq: int, body: bytes) -> None:
    """Give an entry another body, and compute all hashes from there on anew."""
    table, chain = schema.STREAMS[stream], schema.chain
    hashed = entry(connection, stream, writer, seq - 1)[2]
    query = select(table.c.position, table.c.seq, table.c.body).where(of_writer(table, writer), table.c.seq >= seq)
    for row in connection.execute(query.order_by(table.c.seq)).all():
        content = body if row.seq == seq else bytes(row.body)
        hashed = entry_hash(hashed, row.position, row.seq, content)
        connection.execute(update(table).where(table.c.position == row.position).values(body=content, hash=hashed))
    connection.execute(update(chain).where(chain.c.writer == writer, chain.c.stream == stream).values(hash=hashed))


def remove_writer(connection: Connection, number: int) -> None:
    for table in schema.STREAMS.values():
        connection.execute(delete(table).where(of_writer(table, number)))
    block, chain, writer = schema.block, schema.chain, schema.writer
    connection.execute(delete(block).where(block.c.first.op("&")(1023) == number))
    connection.execute(delete(chain).where(chain.c.writer == number))
    connection.execute(delete(writer).where(writer.c.number == number))


def cut_back(connection: Connection, stated: Checkpoint) -> None:
    """Remove all that came after a checkpoint, with every trace of it."""
    chain, part, key = schema.chain, schema.part, schema.audit_key
    for ends in stated.chains:
        table = schema.STREAMS[ends.stream]
        connection.execute(delete(table).where(of_writer(table, ends.writer), table.c.seq > ends.seq))
        items = table.c.count if ends.stream == "decision" else table.c.seq * 0 + 1
        held = sum(connection.execute(select(items).where(of_writer(table, ends.writer))).scalars())
        values = {"seq": ends.seq, "position": ends.position, "hash": bytes.fromhex(ends.hash), "items": held}
        where = (chain.c.writer == ends.writer, chain.c.stream == ends.stream)
        connection.execute(update(chain).where(*where).values(values))
    connection.execute(delete(part).where(part.c.number.not_in(select(schema.revision.c.number))))
    connection.execute(delete(key).where(key.c.endorsed_by.is_not(None)))
    rebuild_index(connection)


def rebuild_index(connection: Connection) -> None:
    """Make the index of decisions anew, a row for each of theirs."""
    connection.execute(delete(schema.block))
    for row in connection.execute(select(schema.decision)).all():
        terms = pack(READERS["decision"](bytes(row.body)).terms)
        values = {
            "tenant": DEFAULT_TENANT,
            "first": row.position,
            "last": row.position,
            "count": row._mapping["count"],
            "terms": terms,
        }
        connection.execute(insert(schema.block).values(values))
