"""Compiling a policy set, and what a new revision takes over from the last."""

from __future__ import annotations

from typing import Any

import pytest

from policy_engine.engine.decide import decide
from policy_engine.engine.program import Program, compile_program
from policy_engine.language.document import build_policy_set, read_document, read_single
from policy_engine.model.policy import Policy, PolicySet

TYPES: dict[str, Any] = {"a": {"default": "allow"}, "b": {"default": "allow"}}
POLICIES = {
    "a1": {"type": "a", "rules": [{"action": "deny", "match": {"x": 1}}]},
    "a2": {"type": "a", "mode": "shadow", "rules": [{"action": "deny", "match": {"y": 1}}]},
    "b1": {"type": "b", "rules": [{"action": "deny", "match": {"x": 1}}]},
    "b2": {"type": "b", "enabled": False, "rules": [{"action": "deny"}]},
}


@pytest.fixture
def before() -> Program:
    return compile_program(read_document({"types": TYPES, "policies": POLICIES}).policy_set)


def changed(
    before: Program, *new: Policy, without: tuple[str, ...] = (), types: dict[str, Any] | None = None
) -> Program:
    kept = {name: item for name, item in before.policy_set.policies.items() if name not in without}
    kept |= {policy.id: policy for policy in new}
    policy_set: PolicySet = build_policy_set(
        kept.values(), before.policy_set.type_documents if types is None else types
    )
    return compile_program(policy_set, previous=before)


def policy(document: dict[str, Any]) -> Policy:
    (only,) = read_single(document).policy_set.policies.values()
    return only


def taken_over(before: Program, after: Program) -> list[bool]:
    return [after.types[name] is before.types[name] for name in ("a", "b")]


def test_nothing_changed(before: Program) -> None:
    assert taken_over(before, changed(before)) == [True, True]


def test_a_policy_changed(before: Program) -> None:
    after = changed(before, policy({"id": "b1", "type": "b", "rules": [{"action": "deny", "match": {"x": 2}}]}))
    assert taken_over(before, after) == [True, False]
    assert [decide(after, "b", {"x": value}, {}).allowed for value in (1, 2)] == [True, False]
    assert [decide(before, "b", {"x": value}, {}).allowed for value in (1, 2)] == [False, True]
    assert not decide(after, "a", {"x": 1}, {}).allowed


def test_a_policy_was_added(before: Program) -> None:
    after = changed(before, policy({"id": "b0", "type": "b", "rules": [{"action": "deny", "match": {"z": 1}}]}))
    assert taken_over(before, after) == [True, False]
    assert decide(after, "b", {"z": 1}, {}).policy_id == "b0"
    assert decide(after, "b", {"z": 1}, {}).policies_checked == 2


def test_a_policy_was_removed(before: Program) -> None:
    after = changed(before, without=("b1",))
    assert taken_over(before, after) == [True, False]
    assert decide(after, "b", {"x": 1}, {}).allowed
    assert decide(after, "b", {"x": 1}, {}).policies_checked == 0


def test_a_shadow_policy_was_removed(before: Program) -> None:
    after = changed(before, without=("a2",))
    assert taken_over(before, after) == [False, True]
    assert decide(after, "a", {"y": 1}, {}).shadow is None
    shadow = decide(before, "a", {"y": 1}, {}).shadow
    assert shadow is not None
    assert shadow.differs


def test_a_policy_was_switched_on(before: Program) -> None:
    after = changed(before, policy({"id": "b2", "type": "b", "rules": [{"action": "deny"}]}))
    assert taken_over(before, after) == [True, False]
    assert not decide(after, "b", {}, {}).allowed


def test_a_policy_moved_to_another_type(before: Program) -> None:
    after = changed(before, policy({"id": "b1", "type": "a", "rules": [{"action": "deny", "match": {"w": 1}}]}))
    assert taken_over(before, after) == [False, False]
    assert decide(after, "a", {"w": 1}, {}).policy_id == "b1"
    assert decide(after, "b", {"x": 1}, {}).allowed


def test_a_type_was_declared_otherwise(before: Program) -> None:
    after = changed(before, types={**TYPES, "b": {"default": "deny"}})
    assert taken_over(before, after) == [True, False]
    assert not decide(after, "b", {}, {}).allowed


def test_the_last_policy_of_an_undeclared_type_takes_the_type_with_it() -> None:
    before = compile_program(
        read_document({"policies": {"p": {"type": "t", "rules": [{"action": "allow"}]}}}).policy_set
    )
    after = compile_program(build_policy_set((), {}), previous=before)
    assert decide(before, "t", {}, {}).allowed
    assert decide(after, "t", {}, {}).reason_code == "type_undeclared"


@pytest.mark.parametrize(("mode", "count"), [("enforce", 1), ("shadow", 0)])
def test_an_enabled_policy_without_rules_counts(mode: str, count: int) -> None:
    document = {"policies": {"p": {"type": "t", "mode": mode, "rules": []}}}
    outcome = decide(compile_program(read_document(document).policy_set), "t", {}, {})
    assert outcome.policies_checked == count
    assert (outcome.shadow is not None) is (mode == "shadow")


@pytest.mark.parametrize("rules", [0, 1, 63, 64, 65, 200])
def test_any_number_of_rules(rules: int) -> None:
    document = {
        "types": {"t": {"combining": "first-applicable", "default": "allow"}},
        "policies": {
            "p": {"type": "t", "rules": [{"action": "deny", "match": {"n": number}} for number in range(rules)]}
        },
    }
    program = compile_program(read_document(document).policy_set)
    for number in {0, rules // 2, rules - 1, rules}:
        outcome = decide(program, "t", {"n": number}, {})
        assert outcome.rule_index == (number if 0 <= number < rules else None)
