"""Budgets: how much may be spent of a client's privacy in a federation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec

ANY_FEDERATION = "*"
"""The name under which the settings hold the budget of every federation that they do not name."""

TOLERANCE = 1e-9
"""By how much, of itself, a budget may be exceeded: sums of floating-point numbers depend on their order."""


class Budget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The budget of each client of a federation, and how it may be used.

    Attributes:
        epsilon: How much may be spent.
        delta: At which delta.
        accept_declared: Whether what rests on noise that clients say they add may be reserved at all.
        reservation_seconds: After how long a reservation that was neither committed nor released counts as released.
    """

    epsilon: Annotated[float, msgspec.Meta(gt=0.0, le=1e6)]
    delta: Annotated[float, msgspec.Meta(ge=1e-15, le=0.5)]
    accept_declared: bool = True
    reservation_seconds: Annotated[float, msgspec.Meta(ge=1.0, le=31_536_000.0)] = 3600.0

    def allows(self, epsilon: float) -> bool:
        """Whether that much may be spent in all."""
        return epsilon <= self.epsilon * (1 + TOLERANCE)

    def remaining(self, epsilon: float) -> float:
        """Return what is left when that much is spent."""
        return max(0.0, self.epsilon - epsilon)


def budget_of(budgets: Mapping[str, Budget], federation: str) -> Budget | None:
    """Return the budget of a federation: its own, else that of `*`; None where there is neither."""
    return budgets.get(federation) or budgets.get(ANY_FEDERATION)
