"""An emergency stop of one federation, or of everything."""

from __future__ import annotations

import msgspec

EVERYTHING = "all"
"""The scope of a freeze that stops everything; no federation is stopped under that name alone."""

MAX_FREEZES = 1000
"""How many may be in force at a time."""


class Freeze(msgspec.Struct, frozen=True, kw_only=True):
    """One emergency stop.

    Attributes:
        freeze_id: A UUID.
        scope: EVERYTHING, or the federation that is stopped.
        reason: What callers are told.
        author: Who stopped it.
        at: Since when, in seconds since 1970.
        expires: When it ends by itself, in seconds since 1970; None for never.
        policies: Which policies stay in force; none of them: everything is denied.
    """

    freeze_id: str
    scope: str
    reason: str
    author: str
    at: float
    expires: float | None = None
    policies: tuple[str, ...] = ()

    def holds_at(self, now: float) -> bool:
        """Whether it has not expired."""
        return self.expires is None or now < self.expires
