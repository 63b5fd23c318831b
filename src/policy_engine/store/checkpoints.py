"""Signed checkpoints: where every chain of every writer stood at a time."""

from __future__ import annotations

import time
from base64 import b64decode, b64encode
from collections.abc import Collection
from hashlib import sha256
from typing import Any, TypeAlias

import msgspec
from sqlalchemy import Connection, insert, select

from policy_engine.model.errors import StateError
from policy_engine.signing import PublicKey, SigningKey
from policy_engine.store import schema
from policy_engine.store.database import serialise, serialise_now
from policy_engine.store.keys import KeyDirectory
from policy_engine.store.options import DEFAULT_TENANT

PAYLOAD_TYPE = "application/vnd.flopynet.policy-engine.checkpoint+json"
KEY_PAYLOAD_TYPE = "application/vnd.flopynet.policy-engine.audit-key+json"
ChainKey: TypeAlias = tuple[str, int]
"""A stream and a writer."""

EVERY_ENTRIES = 1000
EVERY_SECONDS = 5.0


class ChainEnds(msgspec.Struct, frozen=True, kw_only=True):
    """Both ends of one chain; hashes in hex."""

    writer: int
    stream: str
    seq: int
    position: int
    hash: str
    tail_seq: int
    tail_position: int
    tail_hash: str
    tail_items: int


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """What is signed.

    Attributes:
        time: Seconds since 1970.
        previous: SHA-256 of the body of the checkpoint before, in hex; "" for the first.
    """

    tenant: str
    store_id: int
    number: int
    time: float
    previous: str
    chains: list[ChainEnds]


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """One signature of an envelope."""

    keyid: str
    sig: str


class Envelope(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A DSSE envelope."""

    payload_type: str
    payload: str
    signatures: list[Signature]


class Signer:
    """Adds checkpoints as entries come in; one a writer.

    Attributes:
        problem: Why it cannot sign, "" when it can.
    """

    def __init__(self, tenant: str, store_id: int, keys: KeyDirectory) -> None:
        self._tenant = tenant
        self._store_id = store_id
        self._keys = keys
        self._entries = 0
        self._last = 0.0
        self.problem = ""

    def due(self, appended: int) -> bool:
        """Whether a checkpoint should be made with these further entries."""
        waiting = self._entries + appended
        if not waiting or (self.problem and not self._passed()):
            return False
        return waiting >= EVERY_ENTRIES or self._passed()

    @property
    def waits(self) -> bool:
        """Whether entries wait for a checkpoint."""
        return bool(self._entries)

    def _passed(self) -> bool:
        return time.monotonic() - self._last >= EVERY_SECONDS

    def hurry(self) -> None:
        """Let a checkpoint be due as soon as there is anything to sign."""
        self._last = 0.0

    def committed(self, appended: int, *, signed: bool) -> None:
        """Note what became lasting."""
        self._entries = 0 if signed else self._entries + appended
        if signed or self.problem:
            self._last = time.monotonic()

    def sign(self, connection: Connection, moved: Collection[ChainKey] = ()) -> bool:
        """Add a checkpoint over all chains as they are now; return whether there is one.

        Without `problem` there is none because it is another process's turn.

        Args:
            connection: In the transaction that changed the chains.
            moved: The chains of which this transaction removed the beginning.
        """
        if not serialise_now(connection):
            return False  # another process changes or signs something: soon
        try:
            self._sign(connection, moved)
        except StateError as error:
            self.problem = str(error)
            return False
        self.problem = ""
        return True

    def _sign(self, connection: Connection, moved: Collection[ChainKey]) -> None:
        key = self._keys.current()
        if not knows_key(connection, self._tenant, key.public):
            raise StateError(
                f"the audit key `{key.public.key_id}` is not one of this store: all processes of a store share one"
                " `key_dir`, and a key is replaced with `policy-engine audit rotate-key`"
            )
        add_checkpoint(connection, self._tenant, self._store_id, key, moved)


def add_checkpoint(
    connection: Connection, tenant: str, store_id: int, key: SigningKey, moved: Collection[ChainKey] = ()
) -> None:
    """Add a checkpoint over all chains as they are in this transaction.

    Raises:
        StateError: A chain does not go on from where the checkpoint before says: what is signed would be a forgery.
    """
    serialise(connection)  # the one before, and the chains, have to be of one moment
    table = schema.checkpoint
    last = connection.execute(
        select(table.c.number, table.c.body).where(table.c.tenant == tenant).order_by(table.c.number.desc()).limit(1)
    ).first()
    ends = read_ends(connection, tenant)
    if last is not None:
        _check_unbroken(msgspec.json.decode(bytes(last.body), type=Checkpoint), ends, moved)
    body = msgspec.json.encode(
        Checkpoint(
            tenant=tenant,
            store_id=store_id,
            number=last.number + 1 if last else 1,
            time=round(time.time(), 3),
            previous=sha256(last.body).hexdigest() if last else "",
            chains=ends,
        )
    )
    row = {
        "tenant": tenant,
        "number": last.number + 1 if last else 1,
        "body": body,
        "key_id": key.public.key_id,
        "signature": key.sign(PAYLOAD_TYPE, body),
    }
    connection.execute(insert(table), row)


def _check_unbroken(before: Checkpoint, ends: list[ChainEnds], moved: Collection[ChainKey]) -> None:
    present = {(end.stream, end.writer): end for end in ends}
    for old in before.chains:
        key = (old.stream, old.writer)
        new = present.get(key)
        goes_on = new is not None and (new.seq > old.seq or (new.seq == old.seq and new.hash == old.hash))
        if new is None or not goes_on or not (key in moved or _begin(new) == _begin(old)):
            raise StateError(
                f"the chain of writer {old.writer} in `{old.stream}` is not what checkpoint {before.number} says: it"
                " was altered, and nothing is signed any more; see `policy-engine audit verify`"
            )


def _begin(end: ChainEnds) -> tuple[int, int, str, int]:
    return end.tail_seq, end.tail_position, end.tail_hash, end.tail_items


def read_ends(connection: Connection, tenant: str) -> list[ChainEnds]:
    """Return both ends of every chain that has entries."""
    chain = schema.chain
    query = select(chain).where(chain.c.tenant == tenant, chain.c.seq > 0).order_by(chain.c.writer, chain.c.stream)
    return [
        ChainEnds(
            writer=row.writer,
            stream=row.stream,
            seq=row.seq,
            position=row.position,
            hash=bytes(row.hash).hex(),
            tail_seq=row.tail_seq,
            tail_position=row.tail_position,
            tail_hash=bytes(row.tail_hash).hex(),
            tail_items=row.tail_items,
        )
        for row in connection.execute(query)
    ]


def register_key(connection: Connection, tenant: str, key: PublicKey) -> None:
    """Make a key the first one of a store that has none."""
    table = schema.audit_key
    if connection.execute(select(table.c.key_id).where(table.c.tenant == tenant).limit(1)).first() is None:
        _insert_key(connection, tenant, key, None, None)


def endorse_key(connection: Connection, tenant: str, key: PublicKey, by: SigningKey) -> None:
    """Add a key that one which is known vouches for."""
    _insert_key(connection, tenant, key, by.public.key_id, by.sign(KEY_PAYLOAD_TYPE, key.raw))


def _insert_key(
    connection: Connection, tenant: str, key: PublicKey, endorsed_by: str | None, endorsement: bytes | None
) -> None:
    connection.execute(
        insert(schema.audit_key).values(
            tenant=tenant,
            key_id=key.key_id,
            public_key=key.raw,
            endorsed_by=endorsed_by,
            endorsement=endorsement,
            since=time.time_ns() // 1000,
        )
    )


def knows_key(connection: Connection, tenant: str, key: PublicKey) -> bool:
    """Whether a key is one of those that sign for this store."""
    table = schema.audit_key
    query = select(table.c.public_key).where(table.c.tenant == tenant, table.c.key_id == key.key_id)
    return connection.execute(query).scalar() == key.raw


def trusted_keys(connection: Connection, tenant: str, roots: list[PublicKey]) -> dict[str, PublicKey]:
    """Return the keys that may have signed: those that are trusted anyway, and what these vouch for, step by step."""
    table = schema.audit_key
    trusted = {key.key_id: key for key in roots}
    rows: list[Any] = list(connection.execute(select(table).where(table.c.tenant == tenant)))
    rows = [row for row in rows if isinstance(row.public_key, (bytes, memoryview))]
    found = True
    while found:
        found = False
        for row in rows:
            voucher = trusted.get(row.endorsed_by or "")
            key = PublicKey.of(bytes(row.public_key))
            if key.key_id in trusted or voucher is None or row.endorsement is None:
                continue
            if voucher.verifies(KEY_PAYLOAD_TYPE, key.raw, bytes(row.endorsement)):
                trusted[key.key_id] = key
                found = True
    return trusted


def envelope(body: bytes, key_id: str, signature: bytes) -> bytes:
    """Return a checkpoint as a DSSE envelope, to be kept elsewhere."""
    sealed = Envelope(
        payload_type=PAYLOAD_TYPE,
        payload=b64encode(body).decode(),
        signatures=[Signature(keyid=key_id, sig=b64encode(signature).decode())],
    )
    return msgspec.json.format(msgspec.json.encode(sealed), indent=2) + b"\n"


def open_envelope(content: bytes, trusted: dict[str, PublicKey]) -> Checkpoint:
    """Return the checkpoint in an envelope.

    Raises:
        StateError: It is none, or no trusted key signed it.
    """
    try:
        sealed = msgspec.json.decode(content, type=Envelope)
        body = b64decode(sealed.payload, validate=True)
        signatures = [b64decode(item.sig, validate=True) for item in sealed.signatures]
        checkpoint = msgspec.json.decode(body, type=Checkpoint)
    except (msgspec.MsgspecError, ValueError) as error:
        raise StateError("this is not an exported checkpoint") from error
    signed = any(
        key.verifies(sealed.payload_type, body, signature) for key in trusted.values() for signature in signatures
    )
    if sealed.payload_type != PAYLOAD_TYPE or not signed:
        raise StateError("the exported checkpoint is not signed by a trusted key")
    return checkpoint


def latest(connection: Connection, tenant: str = DEFAULT_TENANT) -> bytes | None:
    """Return the last checkpoint as an envelope."""
    table = schema.checkpoint
    query = select(table).where(table.c.tenant == tenant).order_by(table.c.number.desc()).limit(1)
    row = connection.execute(query).first()
    return envelope(bytes(row.body), row.key_id, bytes(row.signature)) if row else None
