"""How what trust consists of is stored: standings as columns, entries and advice as compressed JSON."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, Table, delete, insert, select, text
from sqlalchemy.dialects import postgresql, sqlite

from policy_engine.store import schema
from policy_engine.trust.advice import RoundAdvice
from policy_engine.trust.entry import Entry
from policy_engine.trust.override import Override
from policy_engine.trust.settings import TrustSettings
from policy_engine.trust.standing import Standing, Usual, trust_score

CHUNK = 500
"""How many names one statement asks for."""

_encode = msgspec.json.Encoder().encode
_decode_entry = msgspec.json.Decoder(Entry).decode
_decode_advice = msgspec.json.Decoder(RoundAdvice).decode
_decode_override = msgspec.json.Decoder(Override).decode


def packed(value: Any) -> bytes:
    """Return a value as compressed JSON."""
    return zlib.compress(_encode(value), 1)


def entry_of(body: bytes) -> Entry:
    """Return a stored entry; whom it is about is told by pseudonyms."""
    entry: Entry = _decode_entry(zlib.decompress(body))
    return entry


def advice_of(body: bytes) -> RoundAdvice:
    """Return stored advice; whom it is about is told by pseudonyms."""
    return _decode_advice(zlib.decompress(body))


# Standings

STANDING_COLUMNS = tuple(column for column in schema.trust_standing.c if column.name not in {"tenant", "federation"})


def standing_values(standing: Standing, settings: TrustSettings) -> dict[str, Any]:
    """Return the columns of a standing."""
    usual = standing.usual
    return {
        "trust": trust_score(standing, settings),
        "participation": standing.participation,
        "update_quality": standing.update_quality,
        "behavioral_consistency": standing.behavioral_consistency,
        "compliance": standing.compliance,
        "usual_ln_ratio": usual.ln_ratio if usual else None,
        "usual_cosine": usual.cosine if usual else None,
        "answered": standing.answered,
        "excluded_in": standing.excluded_in,
        "recent": struct.pack(f"<{len(standing.recent)}d", *standing.recent),
    }


def standing_of(row: Row[Any]) -> Standing:
    """Return the standing that columns hold."""
    usual = None if row.usual_ln_ratio is None else Usual(row.usual_ln_ratio, row.usual_cosine)
    recent = bytes(row.recent)
    return Standing(
        participation=row.participation,
        update_quality=row.update_quality,
        behavioral_consistency=row.behavioral_consistency,
        compliance=row.compliance,
        usual=usual,
        answered=row.answered,
        excluded_in=row.excluded_in,
        recent=struct.unpack(f"<{len(recent) // 8}d", recent),
    )


def put_standings(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write standings, those that are there already too."""
    _upsert(connection, schema.trust_standing, rows)


def put_federation(connection: Connection, row: Mapping[str, Any]) -> None:
    """Write where the entries of a federation end."""
    _upsert(connection, schema.trust_federation, [row])


def _upsert(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        return
    dialect: Any = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(table)
    keys = [column.name for column in table.primary_key]
    changed = {column.name: statement.excluded[column.name] for column in table.c if column.name not in keys}
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=changed), list(rows))


def find_standings(connection: Connection, tenant: str, federation: str, names: Sequence[str]) -> dict[str, Row[Any]]:
    """Return the rows of these clients' standings by name, each with the client's pseudonym; those that have one."""
    subject, standing = schema.subject, schema.trust_standing
    query = (
        select(subject.c.name, *STANDING_COLUMNS)
        .join(standing, (standing.c.tenant == subject.c.tenant) & (standing.c.client == subject.c.pseudonym))
        .where(subject.c.tenant == tenant, standing.c.federation == federation)
    )
    found: dict[str, Row[Any]] = {}
    for start in range(0, len(names), CHUNK):
        rows = connection.execute(query.where(subject.c.name.in_(names[start : start + CHUNK])))
        found.update((row.name, row) for row in rows)
    return found


# Overrides


def find_overrides(
    connection: Connection, tenant: str, federation: str, clients: Collection[str] | None = None
) -> dict[str, tuple[Override, ...]]:
    """Return the overrides of a federation by pseudonym; of some clients, or of all."""
    table = schema.trust_override
    query = select(table).where(table.c.tenant == tenant, table.c.federation == federation)
    found: dict[str, tuple[Override, ...]] = {}
    for row in connection.execute(query.order_by(table.c.client, table.c.kind)):
        if clients is None or row.client in clients:
            found[row.client] = (*found.get(row.client, ()), _decode_override(bytes(row.body)))
    return found


def put_overrides(
    connection: Connection, tenant: str, federation: str, client: str, overrides: Sequence[Override]
) -> None:
    """Write all that is decided about a client."""
    table = schema.trust_override
    key = {"tenant": tenant, "federation": federation, "client": client}
    connection.execute(delete(table).filter_by(**key))
    rows = [{**key, "kind": each.kind, "body": _encode(each)} for each in overrides]
    if rows:
        connection.execute(insert(table), rows)


def wake_others(connection: Connection, channel: str) -> None:
    """Tell other processes that there is something new, once the transaction is committed."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_notify(:channel, 'trust')"), {"channel": channel})
