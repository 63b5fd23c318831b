"""What a trace says beside what the decision says."""

from __future__ import annotations

import random
from typing import Any

from tests.engine import random_policies

from policy_engine.engine.explain import explain
from policy_engine.engine.program import compile_program
from policy_engine.language.document import read_document
from policy_engine.model.policy import Combining
from policy_engine.model.trace import RuleTrace
from policy_engine.pdp import PolicyEngine


def trace(rules: list[dict[str, Any]], context: dict[str, Any], **spec: Any) -> tuple[RuleTrace, ...]:
    document = {"types": {"t": spec}, "policies": {"p": {"type": "t", "rules": rules}}}
    _, traces = explain(compile_program(read_document(document).policy_set), "t", context, {})
    return traces


def test_traces_of_random_requests_fit_their_outcomes() -> None:
    decisive = 0
    for number in range(60):
        drawn = random.Random(f"trace {number}")
        compiled = random_policies.program(drawn)
        kind = compiled.types[random_policies.TYPE]
        for _ in range(20):
            context, facts = random_policies.request(drawn)
            outcome, traces = explain(compiled, random_policies.TYPE, context, facts)
            if outcome.reason_code == "missing_attribute":
                assert traces == ()
                continue
            rules = (kind.shadow or kind).rules
            assert [(item.policy_id, item.rule_index) for item in traces] == [(r.policy.id, r.index) for r in rules]
            enforced = [item for item in traces if item.mode == "enforce"]
            named = [(item.policy_id, item.rule_index) for item in traces if item.decisive]
            assert named == ([] if outcome.policy_id is None else [(outcome.policy_id, outcome.rule_index)])
            assert [(item.policy_id, item.rule_index) for item in enforced if item.status == "error"] == [
                (item.policy_id, item.rule_index) for item in outcome.errors
            ]
            last = kind.spec.combining is Combining.FIRST_APPLICABLE and bool(named)
            for item in enforced:
                check_rule(item, after_the_decision=last and place(enforced, item) > place(enforced, named[0]))
            decisive += bool(named)
    assert decisive > 300


def place(traces: list[RuleTrace], of: RuleTrace | tuple[str, int | None]) -> int:
    key = of if isinstance(of, tuple) else (of.policy_id, of.rule_index)
    return [(item.policy_id, item.rule_index) for item in traces].index(key)


def check_rule(item: RuleTrace, *, after_the_decision: bool) -> None:
    """Derive the status of a rule from its clauses and its condition alone."""
    results = [clause.result for clause in item.clauses]
    if after_the_decision:
        assert item.status == "not_reached"
        return
    if {"false", "absent"} & set(results):
        assert item.status == "not_applied"
    elif "malformed" in results:
        assert item.status == "error"
        assert item.condition is None
    else:
        result = "true" if item.condition is None else item.condition.result
        known = {"true": {"applied"}, "false": {"not_applied"}, "missing": {"skipped", "error"}}
        assert item.status in known.get(result, {"error"})


def test_a_trace_names_what_was_wanted_and_what_was_there() -> None:
    rules = [
        {"action": "limit", "description": "d", "match": {"dst_port": "1-9", "a": [1, 2]}, "condition": "x > y"},
        {"action": "deny", "match": {"dst_port": 22, "b": 1}},
    ]
    first, second = trace(rules, {"dst_port": "7", "a": 2, "x": 3, "y": 4})
    assert (first.action, first.effect, first.description, first.status) == (
        "limit",
        "restrictive_duty",
        "d",
        "not_applied",
    )
    assert [(item.key, item.expected, item.actual, item.result) for item in first.clauses] == [
        ("dst_port", "1-9", "7", "true"),
        ("a", [1, 2], 2, "true"),
    ]
    assert first.condition is not None
    assert (first.condition.source, first.condition.reads, first.condition.result) == (
        "x > y",
        {"x": 3, "y": 4},
        "false",
    )
    assert [item.result for item in second.clauses] == ["false", "absent"]
    assert second.condition is None


def test_two_conditions_are_shown_as_one() -> None:
    (only,) = trace([{"action": "deny", "match": {"condition": "a || b"}, "condition": "c"}], {"a": True, "c": True})
    assert only.condition is not None
    assert only.condition.source == "(a || b) && (c)"


def test_a_rule_that_is_skipped_says_so() -> None:
    (only,) = trace([{"action": "deny", "condition": "a > 1", "on_missing": "skip"}], {})
    assert (only.status, only.condition and only.condition.result) == ("skipped", "missing")


def test_rules_behind_the_decision_are_not_reached() -> None:
    rules = [{"action": "log"}, {"action": "allow"}, {"action": "deny"}]
    traces = trace(rules, {}, combining="first-applicable")
    assert [(item.status, item.decisive) for item in traces] == [
        ("applied", False),
        ("applied", True),
        ("not_reached", False),
    ]


def test_secrets_are_masked() -> None:
    rules = [
        {
            "action": "deny",
            "match": {"api_key": "k", "user.password": "p", "list": [1]},
            "condition": "auth.access_token != session && session == 'hidden' && user.name == 'n'",
        }
    ]
    context = {
        "api_key": "k",
        "user": {"password": "p", "name": "n"},
        "list": [1, {"secret": "hidden"}],
        "auth": {"access_token": "hidden"},
        "session": {"cookie": "hidden", "id": 7},
    }
    (only,) = trace(rules, context)
    assert [item.actual for item in only.clauses] == ["***", "***", [1, {"secret": "***"}]]
    assert only.condition is not None
    assert only.condition.reads == {
        "auth.access_token": "***",
        "session": {"cookie": "***", "id": 7},
        "user.name": "n",
    }


def test_a_policy_in_shadow_mode_is_traced_as_such() -> None:
    document = {
        "policies": [
            {"id": "p", "type": "t", "rules": [{"action": "allow"}]},
            {"id": "q", "type": "t", "mode": "shadow", "priority": 900, "rules": [{"action": "deny"}]},
        ]
    }
    decision = PolicyEngine.from_document(document).check("t", {}, explain=True)
    assert decision.explanation is not None
    assert [(item.policy_id, item.mode, item.status, item.decisive) for item in decision.explanation] == [
        ("q", "shadow", "applied", False),
        ("p", "enforce", "applied", True),
    ]


def test_changing_an_explanation_changes_no_policy() -> None:
    engine = PolicyEngine.from_document(
        {"policies": {"p": {"type": "t", "rules": [{"action": "deny", "match": {"a": [1]}}]}}}
    )
    for _ in range(2):
        decision = engine.check("t", {"a": 1}, explain=True)
        assert decision.explanation is not None
        (clause,) = decision.explanation[0].clauses
        assert clause.expected == [1]
        try:
            clause.expected.append(2)
        except TypeError:
            return
