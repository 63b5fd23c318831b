"""Policies whose answer comes from a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from policy_engine.facts.inventory import Component
from policy_engine.model.decision import Decision
from policy_engine.model.errors import FunctionBusyError
from policy_engine.model.fact import FACTS
from policy_engine.pdp import PolicyEngine


def check(function: Callable[[dict[str, Any]], Any] | None, context: dict[str, Any], **options: Any) -> Decision:
    document = {
        "types": {"t": {"default": "allow"}},
        "policies": [
            {"id": "f", "name": "the judge", "type": "t", "function_id": "judge"},
            {
                "id": "r",
                "type": "t",
                "rules": [{"action": "allow"}, {"action": "limit", "parameters": {"a": 1, "b": 1}}],
            },
        ],
    }
    functions = {} if function is None else {"judge": function}
    return PolicyEngine.from_document(document, functions=functions, **options).check("t", context)


def raising(error: Exception) -> Callable[[dict[str, Any]], Any]:
    def function(_context: dict[str, Any]) -> Any:
        raise error

    return function


@pytest.mark.parametrize(
    ("answer", "code", "reason"),
    [
        ({"allowed": True}, "function_allow", "policy `the judge`: allowed"),
        ({"allowed": False}, "function_deny", "policy `the judge`: denied"),
        ({"allowed": False, "reason": "too big", "more": 1}, "function_deny", "policy `the judge`: too big"),
    ],
)
def test_a_clear_answer_decides(answer: Any, code: str, reason: str) -> None:
    decision = check(lambda _: answer, {})
    assert (decision.allowed, decision.reason_code, decision.reason) == (answer["allowed"], code, reason)
    assert (decision.policy_id, decision.policy_name, decision.rule_index) == ("f", "the judge", None)
    assert decision.errors == ()
    assert decision.policies_checked == 2


@pytest.mark.parametrize(
    "answer",
    [
        None,
        5,
        "allow",
        [],
        {},
        {"allowed": 1},
        {"allowed": "true"},
        {"allowed": None},
        {"allowed": True, "reason": None},
        {"allowed": True, "reason": 5},
        {"allowed": True, "parameters": [1]},
        {"allowed": True, "parameters": "x"},
    ],
)
def test_nonsense_denies(answer: Any) -> None:
    failed(check(lambda _: answer, {}), "function_error")


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (None, "function_error"),
        (raising(ValueError("a secret")), "function_error"),
        (raising(RecursionError()), "function_error"),
        (raising(FunctionBusyError()), "function_busy"),
    ],
)
def test_failures_deny(function: Callable[[dict[str, Any]], Any] | None, kind: str) -> None:
    failed(check(function, {}), kind)


def failed(decision: Decision, kind: str) -> None:
    assert (decision.allowed, decision.reason_code) == (False, kind)
    assert decision.reason == f"policy `the judge`: ({kind})"
    assert [(item.policy_id, item.rule_index, item.attribute, item.kind) for item in decision.errors] == [
        ("f", None, None, kind)
    ]
    assert [(item.policy_id, item.rule_index) for item in decision.violations] == [("f", None)]
    assert decision.obligations == ()


def test_parameters_of_an_allow_are_those_of_its_rule() -> None:
    decision = check(lambda _: {"allowed": True, "parameters": {"a": 2}}, {})
    assert decision.parameters == {"a": 2, "b": 1}


def test_parameters_of_a_deny_come_on_top() -> None:
    decision = check(lambda _: {"allowed": False, "parameters": {"b": {"c": 2}}}, {})
    assert decision.parameters == {"a": 1, "b": {"c": 2}}


def test_an_answer_that_is_changed_later_does_not_change_the_decision() -> None:
    answer = {"allowed": True, "parameters": {"a": [1]}}
    decision = check(lambda _: answer, {})
    answer["parameters"] = {}
    assert decision.parameters["a"] == [1]
    with pytest.raises(TypeError):
        decision.parameters["a"].append(2)


def test_a_function_sees_the_context_with_the_facts_over_it() -> None:
    seen: dict[str, Any] = {}

    def look(context: dict[str, Any]) -> dict[str, Any]:
        seen.update(context)
        return {"allowed": True}

    component = Component(id="c", type="fl-client", addresses=("10.0.0.1",))
    check(look, {"src_ip": "10.0.0.1", "src_type": "fl-server", "current_hour": 99, "x": 1}, components=[component])
    assert (seen["src_type"], seen["x"]) == ("fl-client", 1)
    assert seen["current_hour"] in range(24)


def test_a_caller_claims_no_reserved_fact_to_a_function() -> None:
    seen: dict[str, Any] = {}

    def look(context: dict[str, Any]) -> dict[str, Any]:
        seen.update(context)
        return {"allowed": True}

    reserved = [name for name, fact in FACTS.items() if fact.reserved]
    claimed: dict[str, Any] = {"client": {"region": "eu"}, "src_type": "fl-server", "trust": 1}
    for name in reserved:
        parent, _, leaf = name.rpartition(".")
        (claimed[parent] if parent else claimed)[leaf] = "forged"
    check(look, claimed)
    assert (seen["client"], seen["src_type"], seen["trust"]) == ({"region": "eu"}, "fl-server", 1)
    assert "forged" not in seen.values()
    assert not {"client_reputation", "trust_score_change"} & seen.keys(), "there is no such client"
    assert claimed["client_reputation"] == "forged", "the caller's object is not changed"


def test_a_function_is_denied_by_a_forged_trust_as_a_rule_is() -> None:
    def trusting(context: dict[str, Any]) -> dict[str, Any]:
        return {"allowed": context["client"]["trust_score"] > 0.9}

    forged = {"client": {"trust_score": 0.99}}
    failed(check(trusting, forged), "function_error")
    assert not check(trusting, {**forged, "client_id": "x"}).allowed, "nobody has seen it"


def test_a_function_cannot_change_the_request() -> None:
    def change(context: dict[str, Any]) -> dict[str, Any]:
        context["client"]["rank"] = 2
        context["new"] = 1
        return {"allowed": True}

    context = {"client": {"rank": 1}}
    check(change, context)
    assert context == {"client": {"rank": 1}}


@pytest.mark.parametrize("parameters", [{"a": object()}, {1: 2}, {"a": {1, 2}}, {"a": float("nan")}])
def test_parameters_that_are_not_json_are_a_failure(parameters: dict[Any, Any]) -> None:
    failed(check(lambda _: {"allowed": True, "parameters": parameters}, {}), "function_error")


def test_an_answer_of_a_function_is_not_to_be_reused() -> None:
    decision = check(lambda _: {"allowed": True}, {})
    assert decision.valid_until == decision.timestamp


def test_in_first_applicable_a_function_stands_in_its_place() -> None:
    calls = []

    def judge(_context: dict[str, Any]) -> dict[str, Any]:
        calls.append(1)
        return {"allowed": True}

    document = {
        "types": {"t": {"combining": "first-applicable"}},
        "policies": [
            {"id": "first", "type": "t", "priority": 9, "rules": [{"action": "deny", "match": {"a": 1}}]},
            {"id": "judge", "type": "t", "priority": 8, "function_id": "judge"},
            {"id": "last", "type": "t", "priority": 7, "rules": [{"action": "deny"}]},
        ],
    }
    engine = PolicyEngine.from_document(document, functions={"judge": judge})
    assert engine.check("t", {"a": 1}).policy_id == "first"
    assert calls == []
    assert engine.check("t", {}).policy_id == "judge"
    assert calls == [1]
