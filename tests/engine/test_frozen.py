"""An answer that was prebuilt for many callers cannot be changed by one of them."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from policy_engine.model.decision import Decision
from policy_engine.pdp import PolicyEngine

PARAMETERS = {"x": 1, "nest": {"list": [1, {"a": 1}]}}
RULES = [
    {"action": "allow", "parameters": PARAMETERS},
    {"action": "limit", "parameters": PARAMETERS},
    {"action": "log"},
]


@pytest.fixture
def decision() -> Decision:
    return PolicyEngine.from_document({"policies": {"p": {"type": "t", "rules": RULES}}}).check("t", {})


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.__setitem__("x", 2),
        lambda value: value.update(x=2),
        lambda value: value.pop("x"),
        lambda value: value.popitem(),
        lambda value: value.clear(),
        lambda value: value.setdefault("y", 2),
        lambda value: value.__delitem__("x"),
        lambda value: value.__ior__({"x": 2}),
        lambda value: value["nest"].update(y=1),
        lambda value: value["nest"]["list"].append(1),
        lambda value: value["nest"]["list"].__setitem__(0, 2),
        lambda value: value["nest"]["list"].__iadd__([1]),
        lambda value: value["nest"]["list"].__imul__(2),
        lambda value: value["nest"]["list"].sort(),
        lambda value: value["nest"]["list"].reverse(),
        lambda value: value["nest"]["list"][1].update(a=2),
    ],
)
def test_changes_are_refused(decision: Decision, change: Callable[[Any], Any]) -> None:
    for parameters in (decision.parameters, decision.obligations[0].parameters):
        with pytest.raises(TypeError, match="read-only"):
            change(parameters)
        assert parameters == PARAMETERS


@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value)), lambda value: json.loads(json.dumps(value))],  # noqa: S301 - its own bytes
)
def test_a_deep_copy_can_be_changed(decision: Decision, copied: Callable[[Any], Any]) -> None:
    mine = copied(decision.parameters)
    mine["nest"]["list"].append(2)
    mine["x"] = 2
    assert decision.parameters == PARAMETERS
    assert mine == {"x": 2, "nest": {"list": [1, {"a": 1}, 2]}}


@pytest.mark.parametrize("copied", [copy.copy, dict, lambda value: value.copy(), lambda value: value | {}])
def test_a_shallow_copy_can_be_changed_at_the_top(decision: Decision, copied: Callable[[Any], Any]) -> None:
    mine = copied(decision.parameters)
    mine["x"] = 2
    assert decision.parameters["x"] == 1


@pytest.mark.parametrize("field", ["allowed", "parameters", "reason"])
def test_fields_cannot_be_set(decision: Decision, field: str) -> None:
    with pytest.raises(AttributeError):
        setattr(decision, field, None)


def test_the_policy_that_was_handed_in_is_not_held(decision: Decision) -> None:
    document: dict[str, Any] = {
        "policies": {"p": {"type": "t", "rules": [{"action": "allow", "parameters": {"a": [1]}}]}}
    }
    engine = PolicyEngine.from_document(document)
    document["policies"]["p"]["rules"][0]["parameters"]["a"].append(2)
    document["policies"]["p"]["rules"].clear()
    assert engine.check("t", {}).parameters == {"a": [1]}
    assert decision.parameters == PARAMETERS
