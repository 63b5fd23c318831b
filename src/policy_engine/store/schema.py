"""The tables. Every one of them is keyed by tenant first.

A *stream* is a table of chained entries: each row has its `position`, its `seq` in its writer's chain, its `body` (the
stored bytes) and its `hash`. The other columns of a stream repeat what the body says, so that it can be searched.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, Index, Integer, LargeBinary, MetaData, SmallInteger, Table, Text

metadata = MetaData()


def _tenant() -> Column[str]:
    return Column("tenant", Text, primary_key=True)


def _chained() -> tuple[Column[int], Column[bytes], Column[bytes]]:
    return (
        Column("seq", BigInteger, nullable=False),
        Column("body", LargeBinary, nullable=False),
        Column("hash", LargeBinary, nullable=False),
    )


def _number(name: str, *, key: bool = False) -> Column[int]:
    return Column(name, BigInteger, primary_key=key, autoincrement=False, nullable=False)


store = Table(
    "store",
    metadata,
    _tenant(),
    _number("store_id"),
    _number("subject_generation"),
)
"""One row: what names this store, and a counter that tells every process that keys were deleted."""

writer = Table(
    "writer",
    metadata,
    _tenant(),
    Column("number", SmallInteger, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    _number("since"),
)
"""The registry of writers: who holds, or held last, which number."""

chain = Table(
    "chain",
    metadata,
    _tenant(),
    Column("writer", SmallInteger, primary_key=True, autoincrement=False),
    Column("stream", Text, primary_key=True),
    _number("seq"),
    _number("position"),
    Column("hash", LargeBinary, nullable=False),
    _number("items"),
    _number("tail_seq"),
    _number("tail_position"),
    Column("tail_hash", LargeBinary, nullable=False),
    _number("tail_items"),
)
"""Where each chain ends (head) and after which entry it begins (tail, what retention removed last)."""

decision = Table(
    "decision",
    metadata,
    _tenant(),
    _number("position", key=True),
    Column("count", Integer, nullable=False),
    Column("terms", LargeBinary, nullable=False),
    *_chained(),
    sqlite_with_rowid=False,
)
"""A row holds `count` decisions, compressed, made in one stretch; `terms` says what it can be found by."""

block = Table(
    "block",
    metadata,
    _tenant(),
    _number("first", key=True),
    _number("last"),
    Column("count", Integer, nullable=False),
    Column("terms", LargeBinary, nullable=False),
    Index("block_by_last", "tenant", "last"),
    sqlite_with_rowid=False,
)
"""The index of decisions: which terms occur in a run of about a thousand decisions of one writer."""

event = Table(
    "event",
    metadata,
    _tenant(),
    _number("position", key=True),
    Column("type", Text, nullable=False),
    *_chained(),
    sqlite_with_rowid=False,
)

revision = Table(
    "revision",
    metadata,
    _tenant(),
    _number("position"),
    _number("number", key=True),
    Column("digest", Text, nullable=False),
    Column("language_version", Integer, nullable=False),
    *_chained(),
    sqlite_with_rowid=False,
)

part = Table(
    "part",
    metadata,
    _tenant(),
    Column("kind", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    _number("number", key=True),
    Column("document", LargeBinary),
    Index("part_by_revision", "tenant", "number"),
    sqlite_with_rowid=False,
)
"""What a revision changed: a policy or a type as it was from then on; no document means that it was removed."""

imported = Table(
    "imported",
    metadata,
    _tenant(),
    Column("path", Text, primary_key=True),
    Column("fingerprint", Text, nullable=False),
    _number("number"),
)
"""What was imported last from each policy file, and the revision that came of it."""

checkpoint = Table(
    "checkpoint",
    metadata,
    _tenant(),
    _number("number", key=True),
    Column("body", LargeBinary, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("signature", LargeBinary, nullable=False),
)

audit_key = Table(
    "audit_key",
    metadata,
    _tenant(),
    Column("key_id", Text, primary_key=True),
    Column("public_key", LargeBinary, nullable=False),
    Column("endorsed_by", Text),
    Column("endorsement", LargeBinary),
    _number("since"),
)
"""Public keys that sign checkpoints; a later one is endorsed by one before it."""

subject = Table(
    "subject",
    metadata,
    _tenant(),
    Column("name", Text, primary_key=True),
    Column("key", LargeBinary, nullable=False),
    Column("pseudonym", Text, nullable=False),
    Index("subject_by_pseudonym", "tenant", "pseudonym", unique=True),
)
"""Whom personal data is about, and the key under which it is stored; without the row nobody can read it."""

trust_federation = Table(
    "trust_federation",
    metadata,
    _tenant(),
    Column("federation", Text, primary_key=True),
    _number("seq"),
    _number("last_round"),
    _number("override_seq"),
)
"""Where the trust entries of each federation end: the last one, the last round, the last one that was an override."""

trust_entry = Table(
    "trust_entry",
    metadata,
    _tenant(),
    Column("federation", Text, primary_key=True),
    _number("seq", key=True),
    Column("kind", Text, nullable=False),
    Column("once", Text),
    Column("round", BigInteger),
    Column("at", Double, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("answer", LargeBinary),
    Column("summary", LargeBinary),
    Index("trust_entry_once", "tenant", "federation", "once", unique=True),
)
"""Everything that trust follows from, in order. `once` names what may be there only once; clients are pseudonyms."""

trust_standing = Table(
    "trust_standing",
    metadata,
    _tenant(),
    Column("federation", Text, primary_key=True),
    Column("client", Text, primary_key=True),
    _number("seq"),
    Column("trust", Double, nullable=False),
    Column("participation", Double, nullable=False),
    Column("update_quality", Double, nullable=False),
    Column("behavioral_consistency", Double, nullable=False),
    Column("compliance", Double, nullable=False),
    Column("usual_ln_ratio", Double),
    Column("usual_cosine", Double),
    Column("answered", BigInteger, nullable=False),
    Column("excluded_in", BigInteger),
    Column("recent", LargeBinary, nullable=False),
    Index("trust_standing_by_seq", "tenant", "federation", "seq"),
)
"""What follows from the entries: where each client stands, and the entry that moved it last."""

trust_override = Table(
    "trust_override",
    metadata,
    _tenant(),
    Column("federation", Text, primary_key=True),
    Column("client", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("body", LargeBinary, nullable=False),
)
"""What people and policies decided about clients and did not take back."""

trust_job = Table(
    "trust_job",
    metadata,
    _tenant(),
    Column("job", Text, primary_key=True),
    _number("started"),
    _number("updated"),
    Column("body", LargeBinary, nullable=False),
)
"""Recalculations, under way or done, in microseconds since 1970."""

privacy_account = Table(
    "privacy_account",
    metadata,
    _tenant(),
    Column("federation", Text, primary_key=True),
    Column("client", Text, primary_key=True),
    _number("seq"),
    Column("server", LargeBinary),
    Column("declared", LargeBinary),
    Column("delta", Double, nullable=False),
    Column("spent", Double, nullable=False),
    Column("held", Double, nullable=False),
    _number("until"),
    Index("privacy_account_by_seq", "tenant", "seq"),
)
"""What each client, by its pseudonym, has spent of its privacy: RDP vectors, and the epsilons that follow at `delta`.
`held` counts what is reserved too, of which the last expires at `until`. `seq` rises with each change of the table."""

privacy_reservation = Table(
    "privacy_reservation",
    metadata,
    _tenant(),
    Column("reservation", Text, primary_key=True),
    Column("federation", Text, nullable=False),
    Column("client", Text, nullable=False),
    _number("round"),
    Column("state", Text, nullable=False),
    Column("noise", Text, nullable=False),
    Column("noise_multiplier", Double, nullable=False),
    Column("sampling_rate", Double, nullable=False),
    _number("steps"),
    _number("at"),
    _number("expires"),
    Index("privacy_reservation_by_state", "tenant", "federation", "client", "state"),
    Index("privacy_reservation_by_round", "tenant", "federation", "round", "client"),
)
"""What was reserved of clients' privacy, and what became of it; in microseconds since 1970."""

bundle = Table(
    "bundle",
    metadata,
    _tenant(),
    Column("name", Text, primary_key=True),
    _number("version"),
    Column("digest", Text, nullable=False),
    Column("body", LargeBinary),
    Column("refused", Text, nullable=False),
)
"""The signed bundle of each name that was accepted last, version 0 when none was; and what was refused since."""

api_key = Table(
    "api_key",
    metadata,
    _tenant(),
    Column("key_id", Text, primary_key=True),
    Column("prefix", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("roles", LargeBinary, nullable=False),
    Column("client_id", Text),
    Column("author", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("last_used_at", Double),
    Column("revoked_at", Double),
    _number("seq"),
    Index("api_key_by_prefix", "tenant", "prefix", unique=True),
)
"""API keys, in seconds since 1970. `seq` rises with each change of the table, but for when a key was last used."""

emergency_stop = Table(
    "emergency_stop",
    metadata,
    _tenant(),
    Column("freeze_id", Text, primary_key=True),
    Column("body", LargeBinary, nullable=False),
)
"""The emergency stops in force, and those that have expired and were not cleared away yet."""

erased = Table("erased", metadata, _tenant(), Column("pseudonym", Text, primary_key=True))
"""What is left of subjects whose key was deleted: no backup may bring them back."""

STREAMS = {"decision": decision, "event": event, "revision": revision}
"""Every chained table by the name of its stream."""
