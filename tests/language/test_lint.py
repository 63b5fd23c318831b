"""What is dubious about a document that loads, and what is not."""

from __future__ import annotations

from typing import Any

import pytest

from policy_engine.language.document import read_document
from policy_engine.language.report import report_on

SPEC: dict[str, Any] = {
    "default": "allow",
    "required": ["op"],
    "attributes": {"load": "double", "client.score": "double"},
}


def warnings(*rules: dict[str, Any], policy_type: str = "t", **spec: Any) -> list[tuple[str, str, str]]:
    document = {"types": {"t": {**SPEC, **spec}}, "policies": {"p": {"type": policy_type, "rules": list(rules)}}}
    return [(item.pointer, item.detail, item.hint) for item in read_document(document).warnings]


def when(condition: str, **fields: Any) -> dict[str, Any]:
    return {"action": "deny", "match": {"op": 1}, "condition": condition, **fields}


HERE = "/policies/p/rules/0"
KIND = {"action": "deny", "match": {"kind": "x"}}
NESTED = {"action": "block", "match": {"op": 1, "client.id": 5}}


@pytest.mark.parametrize(
    ("rule", "place", "detail", "hint"),
    [
        (when("load > 1.0 AND load < 2.0 OR load > 3.0"), HERE, "mixes AND and OR", "AND binds tighter"),
        (when("load > 1.0 || load < 2.0 && load > 0.5"), HERE, "mixes AND and OR", "AND binds tighter"),
        (when("laod > 1.0", parameters={"load_limit": 1}), HERE, "`laod`", ""),
        (when("current_huor > 1"), HERE, "unknown name `current_huor`", "did you mean `current_hour`?"),
        (when("load > limits", parameters={"limit": 1.0}), HERE, "unknown name `limits`", "did you mean `limit`?"),
        (when("weight > 1"), HERE, "`weight` is not among the attributes that type `t` declares", ""),
        (KIND, f"{HERE}/match/kind", "a request without `kind` passes this deny", "list `kind` as required in `types`"),
        (NESTED, f"{HERE}/match/client.id", "passes this deny", "list `client.id`"),
        ({"action": "deny"}, HERE, "it applies to every request", ""),
        ({"action": "allow", "match": {"op": "any"}}, HERE, "it applies to every request", ""),
    ],
)
def test_a_doubt(rule: dict[str, Any], place: str, detail: str, hint: str) -> None:
    ((found_place, found_detail, found_hint),) = warnings(rule)
    assert found_place == place
    assert detail in found_detail
    assert hint in found_hint


@pytest.mark.parametrize(
    "rule",
    [
        when("load > 1.0"),
        when("(load > 1.0 AND load < 2.0) OR load > 3.0"),
        when("load > 1.0 AND (load < 2.0 OR load > 3.0)"),
        when("load > 1.0 AND load < 2.0 AND load > 0.5"),
        when("load > limit", parameters={"limit": 1.0}),
        when("load > limits.high", parameters={"limits": {"high": 1.0}}),
        when("client.score > 0.5"),
        when("has(client.score)"),
        when("current_hour > 1 && src_type == 'x'"),
        when("source_type == 'x'"),
        when("op == 1"),
        {"action": "deny", "match": {"op": 1, "src_type": "x"}},
        {"action": "allow", "match": {"kind": "x"}},
        {"action": "deny", "match": {"op": 1, "kind": "any"}},
        {"action": "log"},
    ],
)
def test_no_doubt(rule: dict[str, Any]) -> None:
    assert warnings(rule) == []


def test_a_key_that_is_not_required_is_no_doubt_where_the_default_denies() -> None:
    assert warnings({"action": "deny", "match": {"kind": "x"}}, default="deny") == []


def test_names_are_not_doubted_where_nothing_is_declared() -> None:
    assert warnings(when("weight > max_weight || min_weight > weight"), attributes={}, required=["op"]) == []


@pytest.mark.parametrize(("name", "known"), [("max_clients", "min_clients"), ("upload_rate", "download_rate")])
def test_a_name_that_is_merely_alike_is_no_typo(name: str, known: str) -> None:
    found = warnings(when(f"{name} == 1", parameters={known: 1}), attributes={})
    assert found == []


def test_a_parameter_of_a_sibling_is_told() -> None:
    found = warnings({"action": "log", "parameters": {"high": 1}}, when("load > high"))
    assert found == [
        (
            "/policies/p/rules/1",
            "`high` is not a parameter of this rule, but one of rule 0: it is read from the request",
            "",
        )
    ]


def test_a_type_that_nobody_declared_is_told() -> None:
    assert warnings({"action": "log"}, policy_type="newcomer") == [
        ("/policies/p/type", "type `newcomer` is not declared: deny-overrides, denied by default", "")
    ]


@pytest.mark.parametrize(("strict", "valid"), [(False, True), (True, False)])
def test_a_report_may_count_doubts_as_faults(strict: bool, valid: bool) -> None:  # noqa: FBT001 - data
    report = report_on(
        lambda: read_document({"policies": {"p": {"type": "x", "rules": [{"action": "log"}]}}}), strict=strict
    )
    assert (report.valid, report.policies, report.rules, len(report.warnings), report.errors) == (valid, 1, 1, 1, ())


def test_a_report_of_a_refused_document() -> None:
    report = report_on(lambda: read_document({}))
    assert (report.valid, report.policies, [item.detail for item in report.errors]) == (
        False,
        0,
        ["field `policies` is missing"],
    )
