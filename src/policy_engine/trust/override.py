"""What a person or a policy decides about a client, whatever its updates say."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Literal

import msgspec

from policy_engine.trust.settings import Share

Kind = Literal["trust", "quarantine"]


class Override(msgspec.Struct, frozen=True, kw_only=True):
    """One decision about a client.

    Attributes:
        kind: "trust" sets the score, "quarantine" keeps the client out altogether.
        trust: The score that is set, 0 to 1; None for a quarantine.
        since: When it was decided, in seconds since 1970.
        expires_at: Until when it holds, in seconds since 1970; None until it is released.
    """

    kind: Kind
    author: str
    reason: str
    since: float
    trust: Share | None = None
    expires_at: float | None = None

    def __post_init__(self) -> None:
        """Check what the types do not say to who makes one in Python.

        Raises:
            ValueError: The score is not from 0 to 1, is missing or too much, or a time is not finite.
        """
        if (self.trust is None) is not (self.kind == "quarantine"):
            raise ValueError("an override of kind `trust` sets a score, and a quarantine does not")
        if self.trust is not None and not 0 <= self.trust <= 1:
            raise ValueError(f"the trust that is set ({self.trust}) is not from 0 to 1")
        if not isfinite(self.since) or (self.expires_at is not None and not isfinite(self.expires_at)):
            raise ValueError("a time is not finite")

    def holds(self, at: float) -> bool:
        """Whether it holds at a time."""
        return self.expires_at is None or at < self.expires_at


Overrides = Mapping[str, tuple[Override, ...]]
"""Client -> what was decided about it, at most one of each kind."""


def quarantined(overrides: Overrides, at: float) -> frozenset[str]:
    """Return who is in quarantine at a time."""
    return frozenset(
        name for name, found in overrides.items() if any(each.kind == "quarantine" and each.holds(at) for each in found)
    )


def fixed_scores(overrides: Overrides, at: float) -> dict[str, float]:
    """Return whose trust is set at a time, and to what."""
    return {
        name: each.trust
        for name, found in overrides.items()
        for each in found
        if each.trust is not None and each.holds(at)
    }
