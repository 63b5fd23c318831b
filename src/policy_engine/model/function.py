"""Custom policy functions as checked values; what runs them is elsewhere."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import msgspec

from policy_engine.model.frozen import EMPTY

FUNCTION_OWNED = ("created_at", "updated_at", "last_used", "hash", "version")
"""Fields of a function that are read and kept without meaning; callers do not set them."""


class StoredFunction(msgspec.Struct, frozen=True, kw_only=True):
    """One custom policy function.

    Attributes:
        code: Its source, at most 64 KB of UTF-8.
        entry: The name of the function in the source that is called with the context.
        inputs: The attributes that its answer depends on, by dotted path; None when it does not say, so that its
            answers cannot be kept.
        metadata: What its author notes besides; `entry` and `inputs` are declared there.
        document: The function as it was written, for those who read it back.
    """

    id: str
    name: str
    code: str
    entry: str
    description: str = ""
    inputs: tuple[str, ...] | None = None
    metadata: dict[str, Any] = EMPTY
    document: dict[str, Any] = EMPTY

    @property
    def digest(self) -> str:
        """A digest of all that its answers depend on besides the context."""
        return sha256("\0".join((self.entry, *(self.inputs or ()), "", self.code)).encode()).hexdigest()
