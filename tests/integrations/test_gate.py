"""The gate asks, sifts and gives up, whatever framework runs the federation."""

from __future__ import annotations

from typing import Any

import pytest

from policy_engine import PolicyEngine
from policy_engine.integrations.gate import Asking, Gate, Invited
from policy_engine.integrations.step import Journal
from policy_engine.model.errors import (
    BusyError,
    EngineRefusedError,
    EngineUnavailableError,
    RunStoppedError,
    StoreUnavailableError,
)
from policy_engine.trust.observation import ClientUpdate, RoundObservation

POLICIES: dict[str, Any] = {
    "admission": {
        "type": "fl_client_start",
        "rules": [
            {
                "action": "allow",
                "match": {"operation": "client_registration", "condition": "active_clients < max_clients"},
                "parameters": {"max_clients": 3},
            }
        ],
    }
}


class Failing:
    """An engine that fails some times before it answers."""

    def __init__(self, engine: PolicyEngine, error: Exception, times: int) -> None:
        self._engine = engine
        self._error = error
        self.times = times

    def __getattr__(self, name: str) -> Any:
        def asked(*arguments: Any) -> Any:
            if self.times:
                self.times -= 1
                raise self._error
            return getattr(self._engine, name)(*arguments)

        return asked


def gate(engine: Any, journal: Journal | None = None) -> Gate:
    return Gate(engine, journal or Journal(), federation="f", asking=Asking(attempts=3, wait_seconds=0))


def made(**policies: Any) -> PolicyEngine:
    return PolicyEngine.from_document({"policies": {**POLICIES, **policies}}, reuse_seconds=60)


def excluded(engine: PolicyEngine, name: str, others: tuple[str, ...] = ("a", "b")) -> int:
    """Let a client lose its trust; return the round in which it did."""
    for number in range(1, 20):
        updates = [ClientUpdate(client_id=other, norm=1.0, cos_ref=0.6) for other in others]
        bad = ClientUpdate(client_id=name, norm=1.0, cos_ref=-0.6)
        engine.observe(RoundObservation(federation="f", round=number, clients=(*updates, bad)))
        if engine.calculate_trust_score(name, "f") < 0.3:
            return number
    raise AssertionError


def test_no_more_are_admitted_than_there_is_room_for() -> None:
    journal, engine = Journal(), made()
    asked = gate(engine, journal)
    assert list(asked.invite(1, ["a", "b", "c", "d", "e"]).settings) == ["a", "b", "c"]
    assert set(journal.steps[0].refused) == {"d", "e"}
    assert list(asked.invite(2, ["f", "a"]).settings) == ["a"]  # those of before still have their places


def test_who_is_excluded_is_left_out_and_probed() -> None:
    engine = made()
    number = excluded(engine, "bad")
    asked = gate(engine)
    found = asked.invite(number + 1, ["a", "b", "bad"])
    assert found == Invited({"a": {}, "b": {}}, left_out=("bad",), on_probation=found.on_probation)
    found = asked.invite(number + 3, ["a", "b", "bad"])
    assert found == Invited({"a": {}, "b": {}, "bad": {}}, frozenset({"bad"}), on_probation=found.on_probation)
    assert list(asked.evaluators(number + 3, ["a", "b", "bad"]).settings) == ["a", "b"]


def test_who_is_new_is_told() -> None:
    assert gate(made()).invite(1, ["a", "b"]).on_probation == {"a", "b"}


def test_who_is_not_admitted_for_its_trust_counts_as_left_out() -> None:
    rules = [{"action": "exclude_client", "condition": "client.trust_score < 0.3"}]
    engine = made(trusted={"type": "fl_client_start", "rules": rules})
    number = excluded(engine, "bad")
    for later in (number + 1, number + 3):
        found = gate(engine).invite(later, ["a", "bad"])
        assert (list(found.settings), found.probed, found.left_out) == (["a"], frozenset(), ("bad",))
    assert gate(engine).invite(number + 1, ["a", "b", "c", "late"]).left_out == ()  # there was no room for that one


def test_a_policy_may_refuse_probes() -> None:
    rules = [{"action": "deny", "match": {"operation": "probe"}}]
    engine = made(probes={"type": "fl_client_selection", "rules": rules})
    number = excluded(engine, "bad")
    found = gate(engine).invite(number + 3, ["a", "bad"])
    assert (list(found.settings), found.probed) == (["a"], frozenset())


def test_policies_see_trust() -> None:
    rules = [
        {
            "action": "weight_reduction",
            "match": {"condition": "client.trust_score < 0.9"},
            "parameters": {"weight_multiplier": 0.25},
        }
    ]
    found = gate(made(low={"type": "fl_client_selection", "rules": rules})).invite(1, ["a"])
    assert found.weights == {"a": 0.25}


def test_a_round_that_is_denied_stops_the_run() -> None:
    rules = [{"action": "deny", "description": "over", "match": {"condition": "current_round >= 3"}}]
    asked = gate(made(end={"type": "fl_server_control", "rules": rules}))
    asked.begin(3, {"current_round": 2})
    with pytest.raises(RunStoppedError, match="round 4 does not begin: policy `end` rule 0: over"):
        asked.begin(4, {"current_round": 3})


@pytest.mark.parametrize(
    "error", [EngineUnavailableError("away"), BusyError("busy"), StoreUnavailableError("no store")]
)
def test_it_is_tried_again(error: Exception) -> None:
    engine = Failing(made(), error, times=2)
    assert list(gate(engine).invite(1, ["a"]).settings) == ["a"]
    engine.times = 3
    with pytest.raises(EngineUnavailableError, match="no answer in 3 attempts"):
        gate(engine).invite(1, ["a"])
    assert engine.times == 0


def test_a_refusal_is_not_tried_again() -> None:
    engine = Failing(made(), EngineRefusedError(401, "the key is not valid"), times=1)
    with pytest.raises(EngineRefusedError):
        gate(engine).invite(1, ["a"])
    assert engine.times == 0


def test_nobody_is_asked_about_nobody() -> None:
    engine = Failing(made(), AssertionError("asked"), times=0)
    assert gate(engine).invite(1, []) == Invited({})
