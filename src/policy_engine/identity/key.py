"""API keys: `pe_PREFIX_SECRET`. The prefix finds the key, the hash of the whole proves it."""

from __future__ import annotations

import re
from secrets import token_hex, token_urlsafe
from typing import NamedTuple

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

_SECRET_BYTES = 32
_PREFIX_BYTES = 6
_KEY = re.compile(r"pe_(?P<prefix>[0-9a-f]{12})_(?P<secret>[A-Za-z0-9_-]{43})")

_hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
"""The least that OWASP's password storage cheat sheet allows: secrets of 256 random bits cannot be guessed anyway, and
whoever sends wrong ones makes the service compute this."""


class NewKey(NamedTuple):
    """A key that was made.

    Attributes:
        text: What its owner shows; it is kept nowhere.
        prefix: Its public part, 12 hexadecimal digits.
        hash: What the text can be verified with, in the format of argon2.
    """

    text: str
    prefix: str
    hash: str


def make_key() -> NewKey:
    """Return a new key."""
    prefix = token_hex(_PREFIX_BYTES)
    text = f"pe_{prefix}_{token_urlsafe(_SECRET_BYTES)}"
    return NewKey(text, prefix, _hasher.hash(text))


def prefix_of(text: str) -> str | None:
    """Return the prefix of a key, None for what has not the form of one."""
    found = _KEY.fullmatch(text)
    return found["prefix"] if found else None


def verifies(hashed: str, text: str) -> bool:
    """Whether a key is the one of a hash; it takes some 20 ms, in constant time."""
    try:
        return _hasher.verify(hashed, text)
    except (VerificationError, InvalidHashError):
        return False
