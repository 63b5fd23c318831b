"""The hash chain of one stream of one writer. Pure."""

from __future__ import annotations

import struct
from hashlib import sha256
from typing import NamedTuple

START = bytes(32)
_PLACE = struct.Struct(">QQ")


class Link(NamedTuple):
    """The last entry of a chain, or of the part of it that was removed.

    Attributes:
        seq: How many entries the chain had up to and with this one.
        position: Its position; 0 before the first entry.
        hash: SHA-256 over the hash before, the position, the seq and the stored bytes.
        items: How many items the entries hold: a row of a batch holds many.
    """

    seq: int = 0
    position: int = 0
    hash: bytes = START
    items: int = 0


def entry_hash(previous: bytes, position: int, seq: int, body: bytes) -> bytes:
    """Return the hash of an entry that follows another one."""
    return sha256(previous + _PLACE.pack(position, seq) + body).digest()


def follow(link: Link, position: int, body: bytes, items: int = 1) -> Link:
    """Return the link that an entry makes behind another one."""
    seq = link.seq + 1
    return Link(seq, position, entry_hash(link.hash, position, seq, body), link.items + items)
