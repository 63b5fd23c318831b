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


def uuid7() -> str:
    """Return a new UUID in its usual text form; it begins with the time in milliseconds."""
    value = f"{(time_ns() // 1_000_000 << 80) | (_bits(80) & _RANDOM_BITS) | _VERSION_AND_VARIANT:032x}"
    return f"{value[:8]}-{value[8:12]}-{value[12:16]}-{value[16:20]}-{value[20:]}"
