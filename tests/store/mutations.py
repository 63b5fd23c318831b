"""Every way to alter an audit trail that verifying has to find: each changes one thing, picked by chance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha256
from random import Random
from typing import Any, TypeAlias

import msgspec
from sqlalchemy import Connection, Row, Table, delete, func, insert, select, text, update

from policy_engine.store import schema
from policy_engine.store.chain import entry_hash
from policy_engine.store.position import MAX_WRITERS, step

Mutation: TypeAlias = Callable[[Connection, Random], str]
"""Alters something and says what."""

SEARCHED = {
    "decision": ("count", "terms"),
    "event": ("type",),
    "revision": ("number", "digest", "language_version"),
}


def pick(connection: Connection, random: Random, table: Table, *where: Any) -> Row[Any]:
    """Pick one row by chance."""
    found = connection.execute(select(table).where(*where).order_by(*table.primary_key.columns)).all()
    return random.choice(found)


def same(table: Table, row: Row[Any]) -> list[Any]:
    """What finds a row again."""
    return [column == row._mapping[column.name] for column in table.primary_key.columns]


def set_to(connection: Connection, table: Table, row: Row[Any], **values: Any) -> str:
    """Change a row."""
    before = {name: row._mapping[name] for name in values}
    assert before != values, "this changes something"
    assert connection.execute(update(table).where(*same(table, row)).values(**values)).rowcount == 1
    return f"{table.name} {[row._mapping[column.name] for column in table.primary_key.columns]}: {before} -> {values}"


def other(random: Random, value: Any) -> Any:
    """Return another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return max(0, value + random.choice((-1, 1, 1024))) if value else random.choice((1, 1024))
    if isinstance(value, str):
        place = random.randrange(len(value) + 1)
        return value[:place] + "x" + value[place:]
    content = bytearray(value)
    if not content:
        return b"x"
    content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    return bytes(content)


def _entry(column: str | None) -> Mutation:
    """Alter one column of an entry of any stream."""

    def mutate(connection: Connection, random: Random) -> str:
        stream = random.choice(sorted(schema.STREAMS))
        table = schema.STREAMS[stream]
        row = pick(connection, random, table)
        name = column or random.choice(SEARCHED[stream])
        return set_to(connection, table, row, **{name: other(random, row._mapping[name])})

    return mutate


def _column(table: Table, *names: str) -> Mutation:
    """Alter one column of a row."""

    def mutate(connection: Connection, random: Random) -> str:
        name = random.choice(names)
        row = pick(connection, random, table, table.c[name].is_not(None))
        return set_to(connection, table, row, **{name: other(random, row._mapping[name])})

    return mutate


def move(connection: Connection, random: Random) -> str:
    """Put an entry at another position, of its own writer or of another one."""
    table = schema.STREAMS[random.choice(sorted(schema.STREAMS))]
    row = pick(connection, random, table)
    position = step(row.position, random.choice((-1, 1, -100_000, 10_000_000))) + random.choice((0, 0, 1, -1))
    return set_to(connection, table, row, position=position)


def remove_entry(connection: Connection, random: Random) -> str:
    return _remove(connection, random, schema.STREAMS[random.choice(sorted(schema.STREAMS))])


def _removal(table: Table, *where: Any) -> Mutation:
    return lambda connection, random: _remove(connection, random, table, *where)


def _remove(connection: Connection, random: Random, table: Table, *where: Any) -> str:
    row = pick(connection, random, table, *where)
    assert connection.execute(delete(table).where(*same(table, row))).rowcount == 1
    return f"{table.name} {row[:4]} is gone"


def remove_checkpoint(connection: Connection, random: Random) -> str:
    """Remove any checkpoint but the last one."""
    table = schema.checkpoint
    last = connection.execute(select(func.max(table.c.number))).scalar_one()
    return _remove(connection, random, table, table.c.number < last)


def swap_entries(connection: Connection, random: Random) -> str:
    """Let two entries of one stream take each other's place."""
    table = schema.STREAMS[random.choice(("decision", "event"))]
    one = pick(connection, random, table)
    two = pick(connection, random, table, table.c.position != one.position)
    for where, position in ((one.position, 1), (two.position, one.position), (1, two.position)):
        connection.execute(update(table).where(table.c.position == where).values(position=position))
    return f"{table.name}: {one.position} and {two.position} change places"


def swap_bodies(connection: Connection, random: Random) -> str:
    """Let two entries of one stream have each other's content and hash, so that only the order changes."""
    stream = random.choice(sorted(schema.STREAMS))
    table = schema.STREAMS[stream]
    one = pick(connection, random, table)
    two = pick(connection, random, table, table.c.position != one.position)
    names = ["seq", "body", "hash"] + [name for name in SEARCHED[stream] if name != "number"]
    for row, values in ((one, two), (two, one)):
        connection.execute(
            update(table).where(*same(table, row)).values({name: values._mapping[name] for name in names})
        )
    return f"{stream}: {one.position} and {two.position} have each other's content"


def swap_checkpoints(connection: Connection, random: Random) -> str:
    table = schema.checkpoint
    one = pick(connection, random, table)
    two = pick(connection, random, table, table.c.number != one.number)
    names = ("body", "key_id", "signature")
    for row, values in ((one, two), (two, one)):
        connection.execute(
            update(table).where(*same(table, row)).values({name: values._mapping[name] for name in names})
        )
    return f"checkpoints {one.number} and {two.number} change places"


def put_in(connection: Connection, random: Random) -> str:
    """Add a copy of an entry, as if the same had happened once more."""
    stream = random.choice(sorted(schema.STREAMS))
    table = schema.STREAMS[stream]
    row = pick(connection, random, table)
    values = {**row._mapping, "position": step(row.position, random.choice((1, 2, 50, 10**12)))}
    if stream == "revision":
        values["number"] = 1000
    connection.execute(insert(table).values(values))
    return f"{stream}: a copy of {row.position} at {values['position']}"


def put_in_part(connection: Connection, random: Random) -> str:
    """Add a document to a revision, or to one that there is not."""
    number = random.choice((0, 1, 2, 1000))
    values = {
        "tenant": "default",
        "kind": "policy",
        "name": f"new-{random.random()}",
        "number": number,
        "document": b"{}",
    }
    connection.execute(insert(schema.part).values(values))
    return f"part: {values}"


def put_in_block(connection: Connection, random: Random) -> str:
    row = pick(connection, random, schema.block)
    first = step(row.first, random.choice((-1, 1)))
    connection.execute(insert(schema.block).values({**row._mapping, "first": first}))
    return f"block: a copy of {row.first} at {first}"


def put_in_key(connection: Connection, random: Random) -> str:
    """Add a key that nobody, or only itself, vouches for."""
    row = pick(connection, random, schema.audit_key)
    raw = random.randbytes(32)
    key_id = sha256(raw).hexdigest()[:16]
    voucher = random.choice(((None, None), (key_id, random.randbytes(64)), (row.key_id, random.randbytes(64))))
    values = {"key_id": key_id, "public_key": raw, "endorsed_by": voucher[0], "endorsement": voucher[1]}
    connection.execute(insert(schema.audit_key).values({**row._mapping, **values}))
    return f"audit_key: {values}"


def empty_part(connection: Connection, random: Random) -> str:
    row = pick(connection, random, schema.part, schema.part.c.document.is_not(None))
    return set_to(connection, schema.part, row, document=None)


def covered(connection: Connection, random: Random) -> tuple[Table, int, int]:
    """Pick a chain and an entry of it that the last checkpoint covers, and return table, writer and number."""
    body = (
        connection.execute(select(schema.checkpoint.c.body).order_by(schema.checkpoint.c.number.desc()))
        .scalars()
        .first()
    )
    assert body is not None
    ends = random.choice(msgspec.json.decode(bytes(body))["chains"])
    return schema.STREAMS[ends["stream"]], ends["writer"], random.randint(1, ends["seq"])


def of_writer(table: Table, writer: int) -> Any:
    return table.c.position.op("&")(MAX_WRITERS - 1) == writer


def recompute(connection: Connection, random: Random) -> str:
    """Alter an entry and compute every hash from there on anew, the head of the chain too."""
    table, writer, seq = covered(connection, random)
    query = select(table).where(of_writer(table, writer), table.c.seq >= seq - 1).order_by(table.c.seq)
    rows = list(connection.execute(query))
    hashed = bytes(rows.pop(0).hash) if seq > 1 else bytes(32)
    for number, row in enumerate(rows):
        body = bytes(row.body) if number else other(random, bytes(row.body))
        hashed = entry_hash(hashed, row.position, row.seq, body)
        connection.execute(update(table).where(*same(table, row)).values(body=body, hash=hashed))
    chain = schema.chain
    connection.execute(update(chain).where(chain.c.writer == writer, chain.c.stream == table.name).values(hash=hashed))
    return f"{table.name} of writer {writer} was computed anew from {seq}"


def cut_off(connection: Connection, random: Random) -> str:
    """Remove the end of a chain, and let its head say so."""
    table, writer, seq = covered(connection, random)
    connection.execute(delete(table).where(of_writer(table, writer), table.c.seq >= seq))
    last = connection.execute(
        select(table).where(of_writer(table, writer)).order_by(table.c.seq.desc()).limit(1)
    ).first()
    chain = schema.chain
    where = (chain.c.writer == writer, chain.c.stream == table.name)
    values = (last.seq, last.position, last.hash) if last else (0, 0, bytes(32))
    connection.execute(update(chain).where(*where).values(dict(zip(("seq", "position", "hash"), values, strict=True))))
    return f"{table.name} of writer {writer} ends before {seq}"


def cut_the_beginning(connection: Connection, random: Random) -> str:
    """Remove the beginning of a chain, and let its tail say so; that is what retention does, but it signs."""
    table, writer, seq = covered(connection, random)
    last = connection.execute(select(table).where(of_writer(table, writer), table.c.seq == seq)).one()
    removed = connection.execute(delete(table).where(of_writer(table, writer), table.c.seq <= seq)).rowcount
    chain = schema.chain
    where = (chain.c.writer == writer, chain.c.stream == table.name)
    values = {"tail_seq": seq, "tail_position": last.position, "tail_hash": last.hash, "tail_items": removed}
    connection.execute(update(chain).where(*where).values(values))
    return f"{table.name} of writer {writer} begins behind {seq}"


def remove_writer(connection: Connection, random: Random) -> str:
    """Remove everything that shows that a writer was there."""
    writer = pick(connection, random, schema.writer).number
    for table in schema.STREAMS.values():
        connection.execute(delete(table).where(of_writer(table, writer)))
    connection.execute(delete(schema.block).where(schema.block.c.first.op("&")(MAX_WRITERS - 1) == writer))
    connection.execute(delete(schema.chain).where(schema.chain.c.writer == writer))
    connection.execute(delete(schema.writer).where(schema.writer.c.number == writer))
    return f"writer {writer} is gone"


ANYWHERE: Mapping[str, Mutation] = {
    "body": _entry("body"),
    "hash": _entry("hash"),
    "seq": _entry("seq"),
    "column": _entry(None),
    "column again": _entry(None),
    "position": move,
    "entry gone": remove_entry,
    "entries swapped": swap_entries,
    "contents swapped": swap_bodies,
    "entry put in": put_in,
    "computed anew": recompute,
    "end cut off": cut_off,
    "beginning cut off": cut_the_beginning,
    "document": _column(schema.part, "document", "name", "kind", "number"),
    "document empty": empty_part,
    "document gone": _removal(schema.part),
    "document put in": put_in_part,
    "block": _column(schema.block, "first", "last", "count", "terms"),
    "block gone": _removal(schema.block),
    "block put in": put_in_block,
    "head": _column(schema.chain, "seq", "position", "hash", "items"),
    "tail": _column(schema.chain, "tail_seq", "tail_position", "tail_hash", "tail_items"),
    "name of a chain": _column(schema.chain, "writer", "stream"),
    "chain gone": _removal(schema.chain),
    "checkpoint": _column(schema.checkpoint, "number", "body", "key_id", "signature"),
    "checkpoint gone": remove_checkpoint,
    "checkpoints swapped": swap_checkpoints,
    "key": _column(schema.audit_key, "key_id", "public_key", "endorsed_by", "endorsement"),
    "key gone": _removal(schema.audit_key),
    "key put in": put_in_key,
    "registry": _removal(schema.writer),
    "name of the store": _column(schema.store, "store_id"),
    "store gone": _removal(schema.store),
    "writer gone": remove_writer,
}
"""Mutations that every database lets happen, by name."""


def _confusion(statement: str) -> Mutation:
    def mutate(connection: Connection, random: Random) -> str:
        stream = statement.split()[1]
        table = schema.metadata.tables[stream]
        row = pick(connection, random, table)
        keys = [column.name for column in table.primary_key.columns]
        where = " AND ".join(f"{name} = :{name}" for name in keys)
        done = connection.execute(text(f"{statement} WHERE {where}"), {name: row._mapping[name] for name in keys})
        assert done.rowcount == 1
        return f"{statement} where {[row._mapping[name] for name in keys]}"

    return mutate


IN_SQLITE: Mapping[str, Mutation] = {
    statement: _confusion(statement)
    for statement in (
        "UPDATE decision SET body = 'text'",
        "UPDATE event SET body = CAST(body AS TEXT)",
        "UPDATE event SET hash = hex(hash)",
        "UPDATE event SET type = CAST(x'ff' AS TEXT)",
        "UPDATE event SET type = CAST(type AS BLOB)",
        "UPDATE decision SET count = 1.5",
        "UPDATE decision SET count = CAST(count AS TEXT) || 'x'",
        "UPDATE decision SET terms = hex(terms)",
        "UPDATE event SET seq = 'first'",
        "UPDATE event SET position = 'first'",
        "UPDATE event SET position = -position",
        "UPDATE event SET tenant = 'other'",
        "UPDATE revision SET digest = x'00'",
        "UPDATE part SET document = CAST(coalesce(document, '') AS TEXT)",
        "UPDATE part SET name = CAST(x'ff' AS TEXT)",
        "UPDATE block SET terms = 'none'",
        "UPDATE block SET first = 'x'",
        "UPDATE chain SET hash = 'x'",
        "UPDATE chain SET seq = -1",
        "UPDATE chain SET items = 'many'",
        "UPDATE chain SET writer = 'x'",
        "UPDATE writer SET number = 'x'",
        "UPDATE checkpoint SET body = CAST(body AS TEXT)",
        "UPDATE checkpoint SET number = -1",
        "UPDATE checkpoint SET key_id = CAST(x'ff' AS TEXT)",
        "UPDATE audit_key SET public_key = 'x'",
        "UPDATE audit_key SET public_key = x'00'",
        "UPDATE audit_key SET endorsement = 'x', endorsed_by = 1",
        "UPDATE store SET store_id = 'x'",
    )
}
"""Mutations that a database lets happen which does not insist on types."""
