"""Positions: where an entry stands among all entries of all writers; and cursors, which are one position a writer.

A position is a 64-bit number: microseconds since 1970, then ten bits for the writer. Each writer hands out rising
positions, so entries sort by time, and those of one writer exactly in the order in which it made them.
"""

from __future__ import annotations

import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Mapping
from time import time_ns
from typing import TypeAlias

WRITER_BITS = 10
MAX_WRITERS = 1 << WRITER_BITS
_WRITER = MAX_WRITERS - 1

Vector: TypeAlias = Mapping[int, int]
"""Writer -> the last position of its that was seen."""

_PREFIX = "c"
_STORE = struct.Struct(">Q")
_PAIR = struct.Struct(">Q")


def position_at(microseconds: int, writer: int = 0) -> int:
    """Return the position of a writer at a time."""
    return microseconds << WRITER_BITS | writer


def writer_of(position: int) -> int:
    """Return the number of the writer that made an entry."""
    return position & _WRITER


def microseconds_of(position: int) -> int:
    """Return when an entry was made, in microseconds since 1970."""
    return position >> WRITER_BITS


def step(position: int, count: int) -> int:
    """Return the position that the same writer hands out some microseconds later."""
    return position + (count << WRITER_BITS)


class Positions:
    """Hands out the positions of one writer; not thread-safe."""

    def __init__(self, writer: int, after: int = 0) -> None:
        """Begin behind a position that was handed out before."""
        self.writer = writer
        self._last = microseconds_of(after)

    @property
    def last(self) -> int:
        """The last position that was handed out."""
        return self._last << WRITER_BITS | self.writer

    def take(self, count: int = 1) -> int:
        """Return the last of `count` consecutive positions, which are now taken."""
        self._last = max(time_ns() // 1000, self._last + count)
        return self._last << WRITER_BITS | self.writer


def encode_cursor(store_id: int, vector: Vector) -> str:
    """Return a vector as an opaque text."""
    packed = b"".join(_PAIR.pack(position) for _, position in sorted(vector.items()))
    return _PREFIX + urlsafe_b64encode(_STORE.pack(store_id) + packed).decode().rstrip("=")


def decode_cursor(text: str, store_id: int) -> dict[int, int] | None:
    """Return the vector behind a text, None when it is no cursor of this store."""
    if not text.startswith(_PREFIX):
        return None
    try:
        content = urlsafe_b64decode(text[1:] + "=" * (-len(text[1:]) % 4))
    except ValueError:
        return None
    if len(content) % _PAIR.size or content[: _STORE.size] != _STORE.pack(store_id):
        return None
    return vector_of(position for (position,) in _PAIR.iter_unpack(content[_STORE.size :]))


def vector_at(position: int, writers: Iterable[int]) -> dict[int, int]:
    """Return the vector that has seen everything up to a position."""
    moment, last = microseconds_of(position), writer_of(position)
    return {writer: position_at(moment if writer <= last else max(moment - 1, 0), writer) for writer in writers}


def vector_of(positions: Iterable[int]) -> dict[int, int]:
    """Return the vector of the highest position of each writer."""
    vector: dict[int, int] = {}
    for position in positions:
        writer = writer_of(position)
        vector[writer] = max(position, vector.get(writer, 0))
    return vector
