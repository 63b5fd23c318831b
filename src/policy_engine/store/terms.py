"""Terms: what decisions are searched by, as 31-bit numbers that fit any database.

Two terms may share a number, so what is found by it is compared with what was asked for.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b

SIZE = 4
NONE = 0
_MASK = 0x7FFF_FFFF


@lru_cache(maxsize=1 << 16)
def term(kind: str, value: str | None) -> int:
    """Return the number of a value in one column; 0 for no value."""
    if value is None:
        return NONE
    digest = blake2b(f"{kind}\0{value}".encode("utf-8", "surrogatepass"), digest_size=SIZE).digest()
    return (int.from_bytes(digest, "big") & _MASK) or 1


def pack(numbers: frozenset[int] | set[int]) -> bytes:
    """Return terms as bytes in which one can be looked for."""
    return b"".join(number.to_bytes(SIZE, "big") for number in sorted(numbers))


def unpack(packed: bytes) -> set[int]:
    """Return the terms in packed bytes."""
    return {int.from_bytes(packed[place : place + SIZE], "big") for place in range(0, len(packed), SIZE)}


def may_hold(packed: bytes, number: int) -> bool:
    """Whether packed terms may hold one; across the border of two terms it may be wrong, but only by a yes."""
    return number.to_bytes(SIZE, "big") in packed
