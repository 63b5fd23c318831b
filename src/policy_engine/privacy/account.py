"""The account of one client in one federation: what is spent, what is reserved, and what that comes to."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from policy_engine.privacy.accounting import epsilon, spend_vector
from policy_engine.privacy.budget import Budget
from policy_engine.privacy.spend import Noise, Spend
from policy_engine.privacy.vector import ZERO, Vector, add


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """What is spent for good, apart by who added the noise.

    Attributes:
        server: By mechanisms whose noise the server added.
        declared: By those whose noise the client says it added.
    """

    server: Vector = ZERO
    declared: Vector = ZERO

    def spent(self, spend: Spend) -> Account:
        """Return the account when something more is spent."""
        vector = spend_vector(spend)
        if spend.noise is Noise.SERVER:
            return Account(server=add(self.server, vector), declared=self.declared)
        return Account(server=self.server, declared=add(self.declared, vector))

    def spent_all(self, spends: Iterable[Spend]) -> Account:
        """Return the account when several things more are spent."""
        account = self
        for spend in spends:
            account = account.spent(spend)
        return account

    @property
    def total(self) -> Vector:
        """Everything: what is declared is believed here, for nothing better is known."""
        return add(self.server, self.declared)

    @property
    def rests_on_declarations(self) -> bool:
        """Whether the total holds only if clients added the noise that they say they did."""
        return self.declared != ZERO


class Epsilons:
    """Computes epsilons and remembers them, so that what was computed before a transaction costs nothing in it."""

    def __init__(self) -> None:
        self._known: dict[tuple[Vector, float], float] = {}

    def of(self, vector: Vector, delta: float) -> float:
        """Return the epsilon of a vector.

        Raises:
            MissingExtraError: dp-accounting is not installed.
        """
        key = (vector, delta)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = epsilon(vector, delta)
        return found


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether something may be spent.

    Attributes:
        allowed: Whether it may.
        reason: Why not: "exceeded", "declared_noise" or "no_budget"; "" when it may.
        epsilon: What would be spent in all, with what is reserved; None where no budget says at which delta.
    """

    allowed: bool
    reason: str
    epsilon: float | None


NO_BUDGET = Verdict(allowed=False, reason="no_budget", epsilon=None)


def judge(held: Account, spend: Spend, budget: Budget | None, epsilons: Epsilons) -> Verdict:
    """Say whether a spend fits into a budget.

    Args:
        held: What is spent and what is reserved.
        spend: What is to be spent besides.
        budget: None allows nothing.
        epsilons: Computes.

    Raises:
        MissingExtraError: dp-accounting is not installed.
    """
    if budget is None:
        return NO_BUDGET
    would_be = epsilons.of(held.spent(spend).total, budget.delta)
    if spend.noise is Noise.DECLARED and not budget.accept_declared:
        return Verdict(allowed=False, reason="declared_noise", epsilon=would_be)
    if not budget.allows(would_be):
        return Verdict(allowed=False, reason="exceeded", epsilon=would_be)
    return Verdict(allowed=True, reason="", epsilon=would_be)
