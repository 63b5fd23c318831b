"""The interpreter itself: the tables of the documentation, row by row."""

from __future__ import annotations

from typing import Any

import pytest
from tests.interpreter.conditions import Evaluator, Failure
from tests.interpreter.interpreter import Request, decide, key_state

from policy_engine.model.decision import Outcome
from policy_engine.model.errors import InvalidRequestError


def nested(depth: int) -> Any:
    return {"x": [] if depth == 1 else nested(depth - 1)}


def outcome(rules: list[dict[str, Any]], context: dict[str, Any] | None = None, **kind: Any) -> Outcome:
    document = {"types": {"t": kind}, "policies": {"p": {"type": "t", "rules": rules}}}
    return decide(document, "t", context or {}, {"current_hour": 5})


@pytest.mark.parametrize(
    ("key", "expected", "value", "state"),
    [
        ("dst_port", 80, 80, "true"),
        ("dst_port", 80, "80", "true"),
        ("dst_port", "22-79,81-90", 80, "false"),
        ("dst_port_range", "22-79,81-90", 81, "true"),
        ("destination_port", ["1", "80-81"], 81, "true"),
        ("dst_port", 80, "080", "malformed"),
        ("dst_port", 80, 65536, "malformed"),
        ("dst_port", 1, True, "malformed"),
        ("dst_port", 80, [443, None], "malformed"),
        ("dst_port", 80, ["x", 80], "true"),
        ("dst_port", 80, [], "false"),
        ("dst_port", 80, None, "false"),
        ("dst_port", "any", "x", "true"),
        ("dst_port", [80, "*"], None, "true"),
        ("src_ip", "10.0.0.0/8", "10.1.2.3", "true"),
        ("src_ip", "10.0.0.0/8", "::ffff:10.1.2.3", "true"),
        ("src_ip", "::/0", "10.1.2.3", "false"),
        ("src_ip", "::ffff:10.0.0.0/104", "10.1.2.3", "true"),
        ("source_ip_range", "10.0.0.1 - 10.0.0.9, fd00::/8", "FD00::1", "true"),
        ("src_ip", "10.0.0.1", "10.0.0.01", "malformed"),
        ("src_ip", "fe80::1", "fe80::1%eth0", "malformed"),
        ("protocol", "TCP", "tcp", "true"),
        ("protocol", ["udp", "tcp"], 6, "malformed"),
        ("level", 1, True, "false"),
        ("level", 1, 1.0, "true"),
        ("level", 1, "1", "false"),
        ("level", [1, True], [None, True], "true"),
        ("level", 1, {"a": 1}, "false"),
    ],
)
def test_match_keys(key: str, expected: Any, value: Any, state: str) -> None:
    names = {"destination_port": "dst_port", "source_ip_range": "src_ip", "dst_port_range": "dst_port"}
    assert key_state(key, expected, Request({names.get(key, key): value}, {})) == state


def test_dotted_keys_and_facts() -> None:
    request = Request({"client": {"region": "eu"}, "current_hour": 3, "src_type": "claimed"}, {"src_type": "known"})
    assert key_state("client.region", "eu", request) == "true"
    assert key_state("client.region.x", "eu", request) == "false"
    assert key_state("current_hour", 3, request) == "false"
    assert key_state("src_type", "known", request) == "true"


CONTEXT = {
    "n": 5,
    "r": 0.5,
    "s": "abc",
    "yes": True,
    "none": None,
    "m": {"a": 1, "deep": {"b": 2}},
    "xs": [1, 2.0, "x"],
    "huge": 2**63,
    "holder": {"huge": 2**63},
    "top": 2**63 - 1,
    "current_minute": 7,
    "src_ip": "10.0.0.1",
}


@pytest.mark.parametrize(
    ("source", "result"),
    [
        ("n > 4 AND r < 1", True),
        ("n == 5.0", True),
        ("yes == 1", False),
        ("s == 1", False),
        ("1 in m", False),
        ("none == null", True),
        ("limit == 3 && bounds.low == 1", True),
        ("current_hour == 5", True),
        ("source_ip == '10.0.0.1'", True),
        ("has(m.a) && !has(m.b)", True),
        ("has(m.deep.b)", True),
        ("has(bounds.low) && !has(bounds.high)", True),
        ("xs[0.0] == 1", True),
        ("1 in xs && 2 in xs && 'a' in m", True),
        ("xs[2] == 'x'", True),
        ("n / -2 == -2 && -n % 2 == -1", True),
        ("r / 0.0 > 1.0", True),
        ("s + 'd' == 'abcd' && s.contains('b') && size(s) == 3", True),
        ("yes ? n == 5 : gone == 1", True),
        ("gone == 1 || yes", True),
        ("gone == 1 && n == 4", False),
        ("s && n == 4", False),
        ("NOT n == 4", True),
        ("int('-7') == -7 && double('2.5') == 2.5 && int(r) == 0", True),
        ("tuned > 0.5", True),
    ],
)
def test_conditions(source: str, result: bool) -> None:  # noqa: FBT001 - a row of the table
    assert evaluated(source) is result


@pytest.mark.parametrize(
    ("source", "kind", "attribute"),
    [
        ("gone > 1", "missing", "gone"),
        ("m.gone == 1", "missing", "m.gone"),
        ("source_port == 1", "missing", "src_port"),
        ("current_minute == 7", "missing", "current_minute"),
        ("bounds.high == 1", "missing", "bounds.high"),
        ("n.x == 1", "wrong_type", "n.x"),
        ("has(gone.x)", "missing", "gone.x"),
        ("has(n.x)", "wrong_type", "n.x"),
        ("huge > 1", "overflow", "huge"),
        ("holder == null", "overflow", "holder"),
        ("n < s", "wrong_type", "n"),
        ("limit < s", "wrong_type", "s"),
        ("n * r > 0.0", "wrong_type", "n"),
        ("top + 1 > n", "overflow", "top"),
        ("limit / zero == 1", "divide_by_zero", None),
        ("n % zero == 1", "divide_by_zero", "n"),
        ("n", "wrong_type", "n"),
        ("s && yes", "wrong_type", "s"),
        ("gone == 1 || n < s", "missing", "gone"),
        ("(n < s) || gone == 1", "wrong_type", "n"),
        ("xs[3] == 1", "index_out_of_range", "xs"),
        ("m['b'] == 1", "no_such_key", "m"),
        ("m[1] == 1", "no_such_key", "m"),
        ("m[none] == 1", "wrong_type", "m"),
        ("none in m", "wrong_type", "none"),
        ("xs[r] == 1", "wrong_type", "xs"),
        ("s.startsWith(n)", "wrong_type", "s"),
        ("int(s) == 1", "invalid_argument", "s"),
        ("wrong == 1", "wrong_type", "wrong"),
    ],
)
def test_errors_of_conditions(source: str, kind: str, attribute: str | None) -> None:
    with pytest.raises(Failure) as raised:
        evaluated(source)
    assert (raised.value.kind, raised.value.attribute) == (kind, attribute)


def evaluated(source: str) -> bool:
    parameters = {"limit": 3, "bounds": {"low": 1}, "zero": 0}
    context = {**CONTEXT, "tuned": 1, "wrong": None}
    return Evaluator(parameters, {"current_hour": 5}, context, {"tuned": "double", "wrong": "int"}).holds([source])


@pytest.mark.parametrize(
    "context",
    [
        [],
        {"a.b": 1},
        {"a": [{"b.": 1}]},
        {"a": {1: 2}},
        {"src_ip": "10.0.0.1", "source_ip": "10.0.0.2"},
        {"dest_port": 1, "destination_port": True},
        {"dest_port": 1, "dst_port": 1.0},
        nested(32),
    ],
)
def test_what_cannot_be_normalised(context: Any) -> None:
    with pytest.raises(InvalidRequestError):
        decide({"policies": {}}, "security", context, {})


@pytest.mark.parametrize("context", [{"src_ip": "x", "source_ip": "x"}, {"": 1}, nested(31)])
def test_what_can_be_normalised(context: Any) -> None:
    assert decide({"policies": {}}, "security", context, {}).reason_code == "default_allow"


@pytest.mark.parametrize(
    ("action", "match", "allowed", "code", "obligations", "errors"),
    [
        ("grant", {}, True, "rule_allow", 0, 0),
        ("isolate", {}, False, "rule_deny", 0, 0),
        ("tune", {}, True, "duty_permit", 1, 0),
        ("check", {}, True, "duty_permit", 1, 0),
        ("mock", {}, False, "default_deny", 0, 0),
        ("grant", {"condition": "gone"}, False, "default_deny", 0, 1),
        ("isolate", {"condition": "gone"}, False, "rule_error", 0, 1),
        ("tune", {"condition": "gone"}, False, "default_deny", 0, 1),
        ("check", {"condition": "gone"}, False, "default_deny", 0, 1),
        ("mock", {"condition": "gone"}, False, "default_deny", 0, 1),
        ("isolate", {"port": 1}, False, "rule_error", 0, 1),
        ("isolate", {"port": 1, "operation": "x", "condition": "gone"}, False, "default_deny", 0, 0),
    ],
)
def test_effects(  # noqa: PLR0917 - a row of the table
    action: str,
    match: dict[str, Any],
    allowed: bool,  # noqa: FBT001
    code: str,
    obligations: int,
    errors: int,
) -> None:
    found = outcome([{"action": action, "match": match}], {"port": "x"})
    assert (found.allowed, found.reason_code) == (allowed, code)
    assert (len(found.obligations), len(found.errors)) == (obligations, errors)


def test_a_restrictive_duty_in_error_is_imposed_on_what_others_permit() -> None:
    limit = {"action": "limit", "condition": "gone > 1", "parameters": {"a": 1}}
    found = outcome([limit, {"action": "allow", "parameters": {"b": 1}}])
    assert [(item.id, item.verb, item.required, item.indeterminate) for item in found.obligations] == [
        ("p#0", "limit", True, True)
    ]
    assert (found.reason_code, found.parameters) == ("rule_allow", {"a": 1, "b": 1})


def test_first_applicable_stops_where_it_is_decided() -> None:
    rules: list[dict[str, Any]] = [
        {"action": "log"},
        {"action": "tune", "parameters": {"a": 1}},
        {"action": "allow", "match": {"port": 1}},
        {"action": "allow", "condition": "gone"},
        {"action": "deny", "match": {"port": 2}, "parameters": {"a": 2}},
        {"action": "deny", "condition": "gone"},
    ]
    kind: dict[str, Any] = {"combining": "first-applicable", "default": "allow"}
    allowed = outcome(rules, {"port": 1}, **kind)
    assert (allowed.rule_index, allowed.parameters, len(allowed.errors)) == (2, {"a": 1}, 0)
    denied = outcome(rules, {"port": 2}, **kind)
    assert (denied.rule_index, denied.parameters, len(denied.errors), denied.obligations) == (4, {"a": 2}, 1, ())
    undecided = outcome(rules[:2], **kind)
    assert (undecided.reason_code, len(undecided.obligations), len(undecided.observations)) == ("default_allow", 1, 1)


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ({"action": "block"}, "policy `p` rule 0: block"),
        ({"action": "block", "description": "no"}, "policy `p` rule 0: no"),
        ({"action": "block", "condition": "gone"}, "policy `p` rule 0: block (attribute `gone` is missing)"),
        ({"action": "block", "condition": "n < s"}, "policy `p` rule 0: block (attribute `n` has the wrong type)"),
        ({"action": "block", "match": {"port": 1}}, "policy `p` rule 0: block (attribute `port` is malformed)"),
        ({"action": "block", "condition": "n % 0 == n"}, "policy `p` rule 0: block (attribute `n`: divide_by_zero)"),
        (
            {"action": "block", "condition": "1 / a == 1", "parameters": {"a": 0}},
            "policy `p` rule 0: block (divide_by_zero)",
        ),
        ({"action": "log"}, "no rule of type `t` decides: denied by default"),
    ],
)
def test_reasons(rule: dict[str, Any], reason: str) -> None:
    assert outcome([rule], {"n": 1, "s": "x", "port": "x"}).reason == reason


def test_priorities_order_candidates_and_merge_parameters() -> None:
    policies = {
        name: {"type": "t", "priority": priority, "rules": [{"action": "allow", "parameters": parameters}]}
        for name, priority, parameters in (
            ("low", 1, {"a": 1, "b": 1, "c": 1}),
            ("b", 9, {"a": 2, "b": 2}),
            ("a", 9, {"a": 3}),
        )
    }
    found = decide({"policies": policies}, "t", {}, {})
    assert (found.policy_id, found.parameters, found.policies_checked) == ("a", {"a": 3, "b": 2, "c": 1}, 3)


@pytest.mark.parametrize(
    ("own", "every", "context", "code"),
    [
        (None, {}, {}, "type_undeclared"),
        ({}, {}, {}, "default_deny"),
        ({}, {"default": "allow"}, {}, "default_allow"),
        ({"default": "deny"}, {"default": "allow"}, {}, "default_deny"),
        ({"required": ["a"]}, {"required": ["source_ip"]}, {"a": 1}, "missing_attribute"),
        ({"required": ["a.b"]}, {}, {"a": {"b": None}}, "missing_attribute"),
        ({"required": ["current_hour"]}, {}, {"current_hour": 1}, "missing_attribute"),
        ({"required": ["a"]}, {"required": ["source_ip"]}, {"a": 1, "source_ip": 1}, "default_deny"),
    ],
)
def test_types(own: dict[str, Any] | None, every: dict[str, Any], context: dict[str, Any], code: str) -> None:
    types = {"*": every} if own is None else {"t": own, "*": every}
    assert decide({"types": types, "policies": {}}, "t", context, {}).reason_code == code


@pytest.mark.parametrize(
    ("kind", "rule", "code"),
    [
        ({}, {}, "rule_error"),
        ({"on_missing": "skip"}, {}, "default_deny"),
        ({"on_missing": "skip"}, {"on_missing": "error"}, "rule_error"),
        ({}, {"on_missing": "skip"}, "default_deny"),
        ({}, {"on_missing": "skip", "condition": "n < s"}, "rule_error"),
    ],
)
def test_on_missing(kind: dict[str, Any], rule: dict[str, Any], code: str) -> None:
    assert outcome([{"action": "deny", "condition": "gone", **rule}], {"n": 1, "s": ""}, **kind).reason_code == code


def test_shadow_policies_are_told_and_change_nothing() -> None:
    policies = {
        "real": {"type": "t", "rules": [{"action": "allow"}]},
        "trial": {"type": "t", "mode": "shadow", "rules": [{"action": "deny", "condition": "gone"}]},
    }
    found = decide({"policies": policies}, "t", {}, {})
    assert (found.reason_code, found.errors, found.policies_checked) == ("rule_allow", (), 1)
    assert found.shadow is not None
    assert (found.shadow.reason_code, found.shadow.policy_id, found.shadow.differs) == ("rule_error", "trial", True)
    assert decide({"policies": {"real": policies["real"]}}, "t", {}, {}).shadow is None


@pytest.mark.parametrize(
    ("result", "code", "reason"),
    [
        ({"allowed": True}, "function_allow", "policy `f`: allowed"),
        ({"allowed": False, "reason": "no"}, "function_deny", "policy `f`: no"),
        ({"allowed": 1}, "function_error", "policy `f`: (function_error)"),
        (None, "function_error", "policy `f`: (function_error)"),
    ],
)
def test_functions(result: Any, code: str, reason: str) -> None:
    document = {"policies": {"f": {"type": "t", "function_id": "judge"}}}
    found = decide(document, "t", {}, {}, {"judge": lambda _: result})
    assert (found.reason_code, found.reason, found.rule_index) == (code, reason, None)
