"""What is signed: the keys and the checkpoints of a store, checked one by one."""

from __future__ import annotations

from array import array
from base64 import b64decode
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, NamedTuple, TypeAlias

import msgspec
from sqlalchemy import Connection

from policy_engine.signing import PublicKey
from policy_engine.store import schema
from policy_engine.store.chain import START, Link
from policy_engine.store.checkpoints import (
    KEY_PAYLOAD_TYPE,
    PAYLOAD_TYPE,
    ChainEnds,
    Checkpoint,
    Envelope,
    open_envelope,
    trusted_keys,
)
from policy_engine.store.faults import Fault, Faults, What
from policy_engine.store.raw import is_number, rows

Key: TypeAlias = tuple[str, int]
"""A stream and a writer: what names a chain."""

_HASH_BYTES = len(START)

_decode = msgspec.json.Decoder(Checkpoint).decode


class Head(NamedTuple):
    """Where a chain stood, as a checkpoint states it."""

    seq: int
    hash: bytes
    checkpoint: int


class Heads:
    """Every head of one chain that some checkpoint states, in order; a few bytes each, for there may be millions."""

    def __init__(self) -> None:
        self._seqs = array("q")
        self._checkpoints = array("q")
        self._hashes = bytearray()

    def __len__(self) -> int:
        return len(self._seqs)

    def __getitem__(self, place: int) -> Head:
        place %= len(self)
        hashed = bytes(self._hashes[place * _HASH_BYTES : (place + 1) * _HASH_BYTES])
        return Head(self._seqs[place], hashed, self._checkpoints[place])

    def append(self, head: Head) -> None:
        """Add a head that is above those before."""
        self._seqs.append(head.seq)
        self._checkpoints.append(head.checkpoint)
        self._hashes += head.hash

    def forget_below(self, seq: int) -> None:
        """Drop heads whose entries were removed; the last one stays."""
        count = 0
        while count < len(self) - 1 and self._seqs[count] < seq:
            count += 1
        del self._seqs[:count], self._checkpoints[:count], self._hashes[: count * _HASH_BYTES]


class Exported(NamedTuple):
    """A checkpoint that was kept elsewhere."""

    body: bytes
    checkpoint: Checkpoint


class Signed:
    """What the checkpoints of a store state.

    Attributes:
        heads: For each chain, what all checkpoints say about it.
        tails: For each chain, where the last checkpoint says that it begins.
        count: How many checkpoints there are.
    """

    def __init__(self, tenant: str, store_id: int | None, exported: Exported | None, faults: Faults) -> None:
        self.heads: dict[Key, Heads] = {}
        self.tails: dict[Key, Link] = {}
        self.count = 0
        self._tenant = tenant
        self._store_id = store_id
        self._exported = exported
        self._faults = faults
        self._before: tuple[int, str] | None = None
        self._reported: set[Key] = set()

    def read(self, connection: Connection, trusted: dict[str, PublicKey], known: set[str]) -> None:
        """Check all checkpoints and take in what those state that are signed.

        Args:
            connection: Where they are.
            trusted: The keys that may have signed.
            known: The ids of the keys that the store lists.
        """
        table = schema.checkpoint
        found = self._exported is None
        for row in rows(connection, table, table.c.tenant == self._tenant, order=(table.c.number,)):
            self.count += 1
            self._take(row, trusted, known)
            found = found or (self._exported is not None and row[1] == self._exported.body)
        if self._exported is not None and not found:
            number = self._exported.checkpoint.number
            self._fault("checkpoint_missing", number, f"checkpoint {number} is not, or not any more, the exported one")

    def exported_head(self, key: Key) -> Head | None:
        """Return what the exported checkpoint says about a chain."""
        for ends in self._exported.checkpoint.chains if self._exported else ():
            if (ends.stream, ends.writer) == key:
                return Head(ends.seq, bytes.fromhex(ends.hash), 0)
        return None

    @property
    def chains(self) -> set[Key]:
        """The chains that some checkpoint states."""
        exported = self._exported.checkpoint.chains if self._exported else ()
        return self.heads.keys() | {(ends.stream, ends.writer) for ends in exported}

    def _take(self, row: Sequence[Any], trusted: dict[str, PublicKey], known: set[str]) -> None:
        number, body, key_id, signature = row
        if not (is_number(number) and type(body) is type(signature) is bytes and type(key_id) is str):
            self._fault("checkpoint_altered", None, f"checkpoint {number} was altered")
            self._before = None
            return
        previous = self._check_number(number)
        self._before = (number, sha256(body).hexdigest())
        key = trusted.get(key_id)
        if key_id not in known:
            self._fault("key", number, f"the key `{key_id}` that signed checkpoint {number} is not in the store")
        if key is None:
            self._fault("unsigned", number, f"checkpoint {number} is signed with `{key_id}`, which is no trusted key")
        elif not key.verifies(PAYLOAD_TYPE, body, signature):
            self._fault("unsigned", number, f"checkpoint {number} or its signature was altered: they do not fit")
        else:
            self._accept(number, body, previous)

    def _check_number(self, number: int) -> str | None:
        """Find out whether checkpoints are missing before this one; return the digest of the one before, if known."""
        if self._before is None and self.count > 1:
            return None
        last, digest = self._before or (0, "")
        if number == last + 1:
            return digest
        names = f"checkpoint {last + 1} is" if number == last + 2 else f"checkpoints {last + 1} to {number - 1} are"
        self._fault("checkpoint_missing", last + 1, f"{names} missing")
        return None

    def _accept(self, number: int, body: bytes, previous: str | None) -> None:
        """Take in a checkpoint that is signed."""
        try:
            checkpoint = _decode(body)
            stated = {(ends.stream, ends.writer): _both_ends(ends, number) for ends in checkpoint.chains}
        except (msgspec.MsgspecError, ValueError):
            self._fault("checkpoint_altered", number, f"checkpoint {number} cannot be read")
            return
        if (checkpoint.number, checkpoint.tenant, checkpoint.store_id) != (number, self._tenant, self._store_id):
            self._fault("checkpoint_altered", number, f"what stands as checkpoint {number} was signed as another one")
            return
        if previous is not None and checkpoint.previous != previous:
            self._fault("checkpoint_altered", number, f"checkpoint {number} does not follow the one before it")
        for key in sorted(self.heads.keys() - stated.keys()):
            self._contradicts(key, number, f"checkpoints before {number} state it, and this one does not")
        for key, (head, tail) in stated.items():
            self._compare(key, head)
            self._begin(key, tail)

    def _compare(self, key: Key, head: Head) -> None:
        heads = self.heads.setdefault(key, Heads())
        last = heads[-1] if len(heads) else Head(0, START, 0)
        if head.seq > last.seq:
            heads.append(head)
        elif head[:2] != last[:2]:
            self._contradicts(key, head.checkpoint, f"checkpoint {head.checkpoint} contradicts {last.checkpoint}")

    def _begin(self, key: Key, tail: Link) -> None:
        if tail != self.tails.get(key):
            self.tails[key] = tail
            self.heads[key].forget_below(tail.seq)

    def _contradicts(self, key: Key, number: int, text: str) -> None:
        if key in self._reported:
            return
        self._reported.add(key)
        stream, writer = key
        text = f"the chain of writer {writer} in `{stream}` was altered: {text}"
        self._faults.add(Fault(what="chain", text=text, stream=stream, writer=writer, checkpoint=number))

    def _fault(self, what: What, number: int | None, text: str) -> None:
        self._faults.add(Fault(what=what, text=text, checkpoint=number))


def _both_ends(ends: ChainEnds, checkpoint: int) -> tuple[Head, Link]:
    head, tail = bytes.fromhex(ends.hash), bytes.fromhex(ends.tail_hash)
    if not len(head) == len(tail) == _HASH_BYTES:
        raise ValueError("a hash is cut off")
    return Head(ends.seq, head, checkpoint), Link(ends.tail_seq, ends.tail_position, tail, ends.tail_items)


def open_exported(content: bytes, trusted: dict[str, PublicKey]) -> Exported:
    """Return the checkpoint in a file that was kept elsewhere.

    Raises:
        StateError: It is none, or no trusted key signed it.
    """
    checkpoint = open_envelope(content, trusted)
    return Exported(b64decode(msgspec.json.decode(content, type=Envelope).payload), checkpoint)


class Keys(NamedTuple):
    """The keys of a store.

    Attributes:
        trusted: Those that may have signed, by id.
        listed: The ids of those that the store lists.
    """

    trusted: dict[str, PublicKey]
    listed: set[str]


def read_keys(connection: Connection, tenant: str, roots: list[PublicKey], faults: Faults) -> Keys:
    """Check the keys that a store lists and return those that may sign."""
    table = schema.audit_key
    listed = list(rows(connection, table, table.c.tenant == tenant, order=(table.c.since, table.c.key_id)))
    malformed = [row for row in listed if not _is_key(row)]
    for row in malformed:
        faults.add(Fault(what="key", text=f"the key `{row[0]}` was altered"))
    trusted = {key.key_id: key for key in roots} if malformed else trusted_keys(connection, tenant, roots)
    for key_id, raw, endorsed_by, endorsement, _ in (row for row in listed if row not in malformed):
        key = PublicKey.of(raw)
        voucher = trusted.get(endorsed_by or "")
        vouched = key_id in trusted if endorsement is None else _vouches(voucher, key, endorsement)
        if key.key_id != key_id:
            faults.add(Fault(what="key", text=f"the key `{key_id}` was altered: it does not have this id"))
        elif not vouched:
            faults.add(Fault(what="key", text=f"no trusted key vouches for the key `{key_id}`"))
    return Keys(trusted, {row[0] for row in listed})


def _is_key(row: Sequence[Any]) -> bool:
    key_id, raw, endorsed_by, endorsement, since = row
    endorsed = (endorsed_by is None and endorsement is None) or (
        type(endorsed_by) is str and type(endorsement) is bytes
    )
    return type(key_id) is str and type(raw) is bytes and endorsed and is_number(since)


def _vouches(voucher: PublicKey | None, key: PublicKey, endorsement: bytes) -> bool:
    return voucher is not None and voucher.verifies(KEY_PAYLOAD_TYPE, key.raw, endorsement)
