from __future__ import annotations

import subprocess
import sys
from typing import Any

import dp_accounting
import dp_accounting.pld
import dp_accounting.rdp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy_engine.model.errors import InvalidRequestError, MissingExtraError
from policy_engine.privacy import accounting
from policy_engine.privacy.account import Account, Epsilons
from policy_engine.privacy.accounting import MAX_PLD_MECHANISMS, epsilon, pld_epsilon, spend_vector, step_vector, total
from policy_engine.privacy.spend import Mechanism, Noise, Spend
from policy_engine.privacy.vector import ORDERS, ZERO, add, pack, times, unpack

DELTA = 1e-5


def spend(noise_multiplier: float = 1.0, sampling_rate: float = 0.01, steps: int = 10, noise: str = "server") -> Spend:
    return Spend(noise_multiplier=noise_multiplier, sampling_rate=sampling_rate, steps=steps, noise=Noise(noise))


def google(spends: list[Spend], delta: float, accountant: Any = None) -> float:
    """Return the epsilon of spends as dp-accounting's own accountant has it."""
    accountant = accountant or dp_accounting.rdp.RdpAccountant()
    for each in spends:
        gaussian = dp_accounting.GaussianDpEvent(each.noise_multiplier)
        sampled = dp_accounting.PoissonSampledDpEvent(each.sampling_rate, gaussian)
        accountant.compose(dp_accounting.SelfComposedDpEvent(sampled, each.steps))
    return float(accountant.get_epsilon(delta))


def ours(spends: list[Spend], delta: float) -> float:
    return epsilon(Account().spent_all(spends).total, delta)


SPENDS = st.lists(
    st.builds(
        Spend,
        noise_multiplier=st.sampled_from((0.3, 0.5, 0.8, 1.0, 1.1, 2.0, 5.0, 20.0, 100.0)),
        sampling_rate=st.sampled_from((1e-4, 0.001, 0.01, 0.05, 0.2, 0.5, 0.99, 1.0)),
        steps=st.integers(1, 5000),
        noise=st.sampled_from(Noise),
    ),
    max_size=6,
)


@settings(max_examples=60, deadline=None)
@given(spends=SPENDS, delta=st.sampled_from((1e-9, 1e-6, 1e-5, 1e-3, 0.1)))
def test_epsilon_is_that_of_dp_accounting(spends: list[Spend], delta: float) -> None:
    assert ours(spends, delta) == pytest.approx(google(spends, delta), rel=1e-9, abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(noise_multiplier=st.floats(0.05, 50.0), sampling_rate=st.floats(1e-4, 1.0), steps=st.integers(1, 1000))
def test_epsilon_of_any_mechanism_is_that_of_dp_accounting(
    noise_multiplier: float, sampling_rate: float, steps: int
) -> None:
    one = spend(noise_multiplier, sampling_rate, steps)
    assert ours([one], DELTA) == pytest.approx(google([one], DELTA), rel=1e-9, abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(
    noise_multiplier=st.one_of(st.sampled_from((1e-2, 1e6)), st.floats(1e-2, 1e6)),
    sampling_rate=st.one_of(st.sampled_from((1e-9, 1.0, 1 - 2**-53)), st.floats(1e-9, 1.0)),
    steps=st.sampled_from((1, 10_000_000)),
)
def test_extremes_give_a_number_from_zero_on(noise_multiplier: float, sampling_rate: float, steps: int) -> None:
    found = ours([spend(noise_multiplier, sampling_rate, steps)], DELTA)
    assert found >= 0


@given(spends=SPENDS)
@settings(max_examples=25, deadline=None)
def test_more_is_never_less(spends: list[Spend]) -> None:
    spent = [ours(spends[:count], DELTA) for count in range(len(spends) + 1)]
    assert spent[0] == 0.0
    assert spent == sorted(spent)


def test_the_orders_are_those_of_dp_accounting() -> None:
    assert list(ORDERS) == dp_accounting.rdp.RdpAccountant().orders.tolist()


def test_vectors_add_up_and_can_be_stored() -> None:
    vector = step_vector(Mechanism(1.1, 0.01))
    assert unpack(pack(vector)) == vector
    assert len(pack(vector)) == 1248
    assert add(vector, ZERO) == vector
    assert add(vector, vector) == times(2, vector)
    assert total([(Mechanism(1.1, 0.01), 10)]) == spend_vector(spend(1.1, 0.01, 10))
    with pytest.raises(ValueError, match="1240"):
        unpack(pack(vector)[:-8])


def test_a_vector_of_one_mechanism_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    step_vector(Mechanism(1.23, 0.0456))
    monkeypatch.setattr(accounting, "_library", _unavailable)
    assert step_vector(Mechanism(1.23, 0.0456)) == step_vector(Mechanism(1.23, 0.0456))


def test_epsilons_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    epsilons, vector = Epsilons(), spend_vector(spend())
    found = epsilons.of(vector, DELTA)
    monkeypatch.setattr(accounting, "_library", _unavailable)
    assert epsilons.of(vector, DELTA) == found
    with pytest.raises(AssertionError):
        epsilons.of(vector, DELTA / 2)


def _unavailable() -> None:
    raise AssertionError


def test_without_the_library_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    accounting._library.cache_clear()
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    try:
        with pytest.raises(MissingExtraError, match=r'pip install "flopynet-policy-engine\[privacy\]"'):
            epsilon(spend_vector(spend(1.3579)), DELTA)
        assert epsilon(ZERO, DELTA) == 0.0
    finally:
        accounting._library.cache_clear()


def test_the_library_is_loaded_only_when_it_is_needed() -> None:
    code = (
        "import sys, policy_engine.service, policy_engine.http.app, policy_engine.privacy.account\n"
        "print(*sorted({'dp_accounting', 'numpy', 'scipy'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


# Privacy loss distributions


@pytest.mark.parametrize(
    "spends",
    [
        {Mechanism(1.1, 0.01): 1000},
        {Mechanism(1.0, 1.0): 10},
        {Mechanism(2.0, 0.05): 100, Mechanism(5.0, 0.2): 50},
    ],
)
def test_pld_is_that_of_dp_accounting_and_tighter_than_rdp(spends: dict[Mechanism, int]) -> None:
    listed = [spend(*mechanism, steps) for mechanism, steps in spends.items()]
    found = pld_epsilon(spends, DELTA)
    assert found == pytest.approx(google(listed, DELTA, dp_accounting.pld.PLDAccountant()), rel=1e-9)
    assert 0 < found < ours(listed, DELTA)


def test_nothing_spent_is_nothing_by_pld() -> None:
    assert pld_epsilon({}, DELTA) == 0.0


@pytest.mark.parametrize(
    ("spends", "said"),
    [
        ({Mechanism(0.2, 0.01): 1}, "noise multiplier 0.2"),
        ({Mechanism(1.0, 1e-6): 100_001}, "100001 steps"),
        ({Mechanism(1.0 + extra, 0.01): 1 for extra in range(MAX_PLD_MECHANISMS + 1)}, "21 different mechanisms"),
        ({Mechanism(0.5, 1.0): 100}, "epsilon is"),
    ],
)
def test_pld_that_would_take_all_memory_is_refused(spends: dict[Mechanism, int], said: str) -> None:
    with pytest.raises(InvalidRequestError, match=said) as refused:
        pld_epsilon(spends, DELTA)
    assert refused.value.pointer == "/method"
