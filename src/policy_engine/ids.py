"""UUIDs of version 7 (RFC 9562), cheaply: a decision cannot afford a system call for its id."""

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
