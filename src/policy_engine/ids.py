"""UUIDs (RFC 9562): cheap ones of version 7 for decisions; ones of version 8, which are cursors, for events."""

from __future__ import annotations

import os
from random import Random
from time import time_ns

_random = Random(os.urandom(32))  # noqa: S311 - ids have to be unique, not secret
_bits = _random.getrandbits

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _random.seed(os.urandom(32)))

_VERSION_AND_VARIANT = 0x7000_8000_0000_0000_0000
_RANDOM_BITS = 0x0FFF_3FFF_FFFF_FFFF_FFFF

_prefix: tuple[int, str] = (0, "")


def uuid7() -> str:
    """Return a new UUID in its usual text form; it begins with the time in milliseconds."""
    milliseconds = time_ns() // 1_000_000
    known, prefix = _prefix
    if known != milliseconds:
        prefix = _renew(milliseconds)
    rest = f"{(_bits(80) & _RANDOM_BITS) | _VERSION_AND_VARIANT:020x}"
    return f"{prefix}{rest[:4]}-{rest[4:8]}-{rest[8:]}"


def _renew(milliseconds: int) -> str:
    """Return the text of the time, which many ids share; the pair is replaced as one, so threads may race."""
    global _prefix  # noqa: PLW0603 - a cache of one
    digits = f"{milliseconds:012x}"
    prefix = f"{digits[:8]}-{digits[8:]}-"
    _prefix = (milliseconds, prefix)
    return prefix


PREFIX_BITS = 60


class SequenceIds:
    """UUIDs (version 8) for the numbered entries of one store: each says which store and which number.

    The first 60 free bits name the store, the other 62 are the number; so ids sort as the entries do, and an id is a
    cursor even when its entry is gone.
    """

    def __init__(self, prefix: int) -> None:
        """Name the store by a number of 60 bits."""
        self._prefix = f"{prefix >> 12:012x}8{prefix & 0xFFF:03x}"

    def text(self, number: int) -> str:
        """Return the id of the entry with this number."""
        digits = f"{self._prefix}{number | _VARIANT:016x}"
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    def number(self, text: str) -> int | None:
        """Return the number behind an id, None when it does not belong to this sequence."""
        digits = text.replace("-", "").lower()
        if len(digits) != len(self._prefix) + 16 or not digits.startswith(self._prefix):
            return None
        try:
            number = int(digits[len(self._prefix) :], 16) ^ _VARIANT
        except ValueError:
            return None
        return number if self.text(number) == text.lower() else None


_VARIANT = 0x8000_0000_0000_0000
