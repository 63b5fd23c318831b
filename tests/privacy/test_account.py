from __future__ import annotations

import msgspec
import pytest

from policy_engine.privacy.account import Account, Epsilons, judge
from policy_engine.privacy.accounting import epsilon
from policy_engine.privacy.budget import Budget, budget_of
from policy_engine.privacy.spend import Noise, Spend

DELTA = 1e-5
STEP = Spend(noise_multiplier=1.0, sampling_rate=0.1, steps=10, noise=Noise.SERVER)
DECLARED = msgspec.structs.replace(STEP, noise=Noise.DECLARED)


def after(count: int) -> float:
    return epsilon(Account().spent_all([STEP] * count).total, DELTA)


def test_declared_and_server_noise_are_told_apart_and_count_together() -> None:
    account = Account().spent_all([STEP, DECLARED, DECLARED])
    assert epsilon(account.server, DELTA) == pytest.approx(after(1))
    assert epsilon(account.declared, DELTA) == pytest.approx(after(2))
    assert epsilon(account.total, DELTA) == pytest.approx(after(3))
    assert account.rests_on_declarations
    assert not Account().spent(STEP).rests_on_declarations


def test_a_budget_is_spent_to_its_end_and_not_beyond() -> None:
    budget = Budget(epsilon=after(3), delta=DELTA)
    account = Account()
    for count in range(1, 4):
        verdict = judge(account, STEP, budget, Epsilons())
        assert verdict.allowed
        assert verdict.epsilon == pytest.approx(after(count))
        account = account.spent(STEP)
    verdict = judge(account, STEP, budget, Epsilons())
    assert (verdict.allowed, verdict.reason) == (False, "exceeded")
    assert verdict.epsilon == pytest.approx(after(4))
    assert budget.remaining(after(4)) == 0.0
    assert budget.remaining(0.0) == budget.epsilon


def test_declared_noise_counts_unless_it_is_not_accepted() -> None:
    budget = Budget(epsilon=after(3), delta=DELTA)
    assert judge(Account().spent_all([DECLARED] * 2), DECLARED, budget, Epsilons()).allowed
    strict = msgspec.structs.replace(budget, accept_declared=False)
    refused = judge(Account(), DECLARED, strict, Epsilons())
    assert (refused.allowed, refused.reason) == (False, "declared_noise")
    assert refused.epsilon == pytest.approx(after(1))
    assert judge(Account(), STEP, strict, Epsilons()).allowed


def test_without_a_budget_nothing_may_be_spent() -> None:
    refused = judge(Account(), STEP, None, Epsilons())
    assert (refused.allowed, refused.reason, refused.epsilon) == (False, "no_budget", None)


def test_a_federation_has_its_own_budget_or_that_of_all() -> None:
    own, others = Budget(epsilon=1.0, delta=DELTA), Budget(epsilon=2.0, delta=DELTA)
    assert budget_of({"hospital": own, "*": others}, "hospital") is own
    assert budget_of({"hospital": own, "*": others}, "other") is others
    assert budget_of({"hospital": own}, "other") is None


@pytest.mark.parametrize(
    "given",
    [
        {"epsilon": 0.0, "delta": 1e-5},
        {"epsilon": -1.0, "delta": 1e-5},
        {"epsilon": 1.0, "delta": 0.0},
        {"epsilon": 1.0, "delta": 1.0},
        {"epsilon": 1.0},
        {"epsilon": 1.0, "delta": 1e-5, "reservation_seconds": 0.0},
        {"epsilon": 1.0, "delta": 1e-5, "accept_decalred": True},
    ],
)
def test_budgets_that_make_no_sense_are_refused(given: dict[str, float]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(given, Budget)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("noise_multiplier", 0.0),
        ("noise_multiplier", -1.0),
        ("noise_multiplier", float("nan")),
        ("noise_multiplier", float("inf")),
        ("sampling_rate", 0.0),
        ("sampling_rate", 1.1),
        ("sampling_rate", float("nan")),
        ("steps", 0),
        ("steps", 10_000_001),
        ("noise", "none"),
    ],
)
def test_spends_that_make_no_sense_are_refused(field: str, value: object) -> None:
    given = {"noise_multiplier": 1.0, "sampling_rate": 0.1, "steps": 1, "noise": "server", field: value}
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(given, Spend)
