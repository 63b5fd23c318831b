"""What a decision means for a caller that can carry out some duties and not others."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest

from policy_engine import PolicyEngine
from policy_engine.integrations.ruling import Carried, Ruling, ruling, scalars

ALL = Carried(settings=True, weights=True)


def ruled(rules: list[dict[str, Any]], carried: Carried = ALL) -> Ruling:
    document = {"policies": {"p": {"type": "fl_client_training", "rules": [{"match": {}, **each} for each in rules]}}}
    return ruling(PolicyEngine.from_document(document, reuse_seconds=2).check("fl_client_training", {}), carried)


def test_scalars_are_what_every_framework_can_carry() -> None:
    fit = {"a": True, "b": 2**63 - 1, "c": 0.5, "d": "text"}
    unfit: dict[str, Any] = {"e": None, "f": [1], "g": {}, "h": 2**63, "i": nan, "j": inf, "": 1, "k": 1}
    assert scalars({**fit, **unfit}, reserved=("k",)) == fit


def test_an_allow_hands_its_parameters_on() -> None:
    found = ruled([{"action": "allow", "parameters": {"epochs": 2, "layers": [1]}}])
    assert found.allowed
    assert found.settings == {"epochs": 2}
    assert found.weight == 1
    assert found.reusable_seconds == 2


def test_a_deny_hands_nothing_on() -> None:
    found = ruled([{"action": "allow", "parameters": {"epochs": 2}}, {"action": "deny", "description": "no"}])
    assert (found.allowed, found.settings, found.reason) == (False, {}, "policy `p` rule 1: no")


@pytest.mark.parametrize(("value", "weight"), [(0.25, 0.25), (0, 0), (1, 1), (2, 0), ("half", 0), (None, 0), (True, 0)])
def test_weights_are_reduced_and_nonsense_weighs_nothing(value: Any, weight: float) -> None:
    rule = {"action": "weight_reduction", "parameters": {"weight_multiplier": value}}
    assert ruled([rule]).weight == weight
    refused = ruled([rule], Carried(settings=True))
    assert not refused.allowed
    assert refused.reason == "the duty `weight_reduction` of policy `p` cannot be carried out here"


def test_the_smallest_weight_counts() -> None:
    rules = [{"action": "weight_reduction", "parameters": {"weight_multiplier": value}} for value in (0.5, 0.25, 0.75)]
    assert ruled(rules).weight == 0.25


@pytest.mark.parametrize("action", ["limit", "throttle", "enforce", "apply"])
def test_limits_are_carried_out_by_settings(action: str) -> None:
    rule = {"action": action, "parameters": {"epochs": 2}}
    assert ruled([rule]).settings == {"epochs": 2}
    assert not ruled([rule], Carried(weights=True)).allowed
    assert not ruled([{"action": action}]).allowed
    assert not ruled([{"action": action, "parameters": {"epochs": 2, "layers": [1]}}]).allowed


def test_a_limit_that_another_rule_overrides_is_not_carried_out() -> None:
    rules = [{"action": "limit", "parameters": {"epochs": 1}}, {"action": "configure", "parameters": {"epochs": 9}}]
    assert not ruled(rules).allowed


@pytest.mark.parametrize("action", ["verify", "validate", "authorize", "filter"])
def test_other_restrictions_deny(action: str) -> None:
    assert not ruled([{"action": action, "parameters": {"epochs": 2}}]).allowed


@pytest.mark.parametrize("action", ["configure", "checkpoint", "retry", "monitor"])
def test_duties_that_do_not_restrict_may_be_passed_over(action: str) -> None:
    assert ruled([{"action": action}]).allowed
