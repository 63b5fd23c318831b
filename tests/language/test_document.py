"""Documents that are accepted: both shapes, what is kept, and the digest that names them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest
from tests.cases.places import policy_file

from policy_engine.language.canonical import digest
from policy_engine.language.document import Document, parse_document, read_document, read_single
from policy_engine.model.clause import Kind
from policy_engine.model.policy import Combining, Effect

POLICY: dict[str, Any] = {
    "name": "n",
    "type": "fl_security",
    "description": "d",
    "priority": 7,
    "enabled": True,
    "mode": "enforce",
    "rules": [
        {
            "action": "deny",
            "description": "r",
            "match": {"a": [1, "x"], "dst_port": "1-2", "condition": "b > c"},
            "condition": "d",
            "parameters": {"c": 1, "nest": {"e": 2.5}},
            "severity": "high",
            "on_missing": "skip",
            "counts_against": "client",
        },
        {"action": "log"},
    ],
    "tags": ["t"],
    "metadata": {"m": 1},
}
DOCUMENT: dict[str, Any] = {
    "version": 2,
    "types": {"mine": {"default": "allow", "required": ["a"], "attributes": {"b": "int"}}},
    "policies": {"p": POLICY, "q": {"type": "mine", "rules": []}},
}


def read(value: Any) -> Document:
    return parse_document(json.dumps(value))


def named(value: Any) -> str:
    return digest(read(value).policy_set)


def as_list(value: dict[str, Any]) -> dict[str, Any]:
    return {**value, "policies": [{"id": key, **item} for key, item in value["policies"].items()]}


def with_policy(value: dict[str, Any], policy: dict[str, Any]) -> dict[str, Any]:
    return {**value, "policies": {**value["policies"], "p": policy}}


def upside_down(value: Any) -> Any:
    """Return a value with the keys of every object in reverse."""
    if isinstance(value, dict):
        return {key: upside_down(item) for key, item in reversed(value.items())}
    return [upside_down(item) for item in value] if isinstance(value, list) else value


def test_every_field_is_read() -> None:
    policy_set = read(DOCUMENT).policy_set
    policy = policy_set.policies["p"]
    assert (policy.id, policy.name, policy.type, policy.description) == ("p", "n", "fl_security", "d")
    assert (policy.priority, policy.enabled, policy.shadow, policy.order) == (7, True, False, (-7, "p"))
    first, second = policy.rules
    assert (first.index, first.action, first.verb, first.effect) == (0, "deny", "deny", Effect.DENY)
    assert [(item.attribute, item.kind, item.expected) for item in first.clauses] == [
        ("a", Kind.PLAIN, [1, "x"]),
        ("dst_port", Kind.PORT, "1-2"),
    ]
    assert (first.conditions, first.parameters) == (("b > c", "d"), {"c": 1, "nest": {"e": 2.5}})
    assert (first.severity, first.skip_missing, first.counts_against) == ("high", True, "client")
    assert (second.index, second.severity, second.skip_missing, second.parameters) == (1, "medium", None, {})
    spec = policy_set.types["mine"]
    assert (spec.default, spec.required, spec.attributes, spec.declared) == (True, ("a",), {"b": "int"}, True)
    assert spec.combining is Combining.DENY_OVERRIDES


def test_what_is_not_given_has_its_default() -> None:
    policy = read({"policies": {"p": {"type": "t", "rules": []}}}).policy_set.policies["p"]
    assert (policy.name, policy.priority, policy.enabled, policy.shadow) == ("p", 100, True, False)


def test_both_shapes_are_the_same_policies() -> None:
    first, second = read(DOCUMENT).policy_set, read(as_list(DOCUMENT)).policy_set
    assert first.policies == second.policies
    assert first.types == second.types
    assert digest(first) == digest(second)


def test_text_bytes_and_values_are_the_same_document() -> None:
    text = json.dumps(DOCUMENT)
    ways = [parse_document(text), parse_document(text.encode()), parse_document(b"\xef\xbb\xbf" + text.encode())]
    assert {digest(way.policy_set) for way in [*ways, read_document(DOCUMENT)]} == {named(DOCUMENT)}


def test_the_source_is_kept_as_it_was() -> None:
    assert read(as_list(DOCUMENT)).source == as_list(DOCUMENT)


def test_a_value_that_is_handed_in_is_neither_changed_nor_held() -> None:
    value = copy.deepcopy(DOCUMENT)
    document = read_document(value)
    assert value == DOCUMENT
    value["policies"]["p"]["rules"][0]["match"]["a"].append(3)
    assert digest(document.policy_set) == named(DOCUMENT)


@pytest.mark.parametrize("identifier", ["a", "0", "a.b-c_D", "a" * 128])
def test_ids(identifier: str) -> None:
    assert list(read({"policies": {identifier: {"type": "t", "rules": []}}}).policy_set.policies) == [identifier]


@pytest.mark.parametrize("version", [1, 2])
def test_languages_that_are_known(version: int) -> None:
    assert read({"version": version, "policies": []}).policy_set.policies == {}


@pytest.mark.parametrize("priority", [0, 1000])
def test_priorities_at_the_ends(priority: int) -> None:
    assert (
        read_single({"id": "p", "priority": priority, "type": "t", "rules": []}).policy_set.policies["p"].priority
        == priority
    )


@pytest.mark.parametrize(
    ("value", "intervals"),
    [
        (22, ((22, 22),)),
        ("22", ((22, 22),)),
        ("22-79,81-8079", ((22, 79), (81, 8079))),
        ([8080, "1-3", "2-5", "6"], ((1, 6), (8080, 8080))),
        (" 1 - 2 , 4 ", ((1, 2), (4, 4))),
        ("0-65535", ((0, 65535),)),
        ("5-5", ((5, 5),)),
    ],
)
def test_ports(value: Any, intervals: Any) -> None:
    for key in ("dst_port", "dst_port_range", "peer.port"):
        (rule,) = (
            read_single({"id": "p", "type": "t", "rules": [{"action": "deny", "match": {key: value}}]})
            .policy_set.policies["p"]
            .rules
        )
        assert rule.clauses[0].intervals == intervals


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [
        ("10.0.0.0/8", 10 << 24, (11 << 24) - 1),
        ("10.0.0.1", (10 << 24) + 1, (10 << 24) + 1),
        ("0.0.0.0-10.0.0.0", 0, 10 << 24),
        ("0.0.0.0/0", 0, 2**32 - 1),
        ("::/0", 2**32, 2**32 + 2**128 - 1),
        ("::ffff:10.0.0.0/104", 10 << 24, (11 << 24) - 1),
        ("::1", 2**32 + 1, 2**32 + 1),
        (["10.0.0.0/9", "10.128.0.0/9"], 10 << 24, (11 << 24) - 1),
    ],
)
def test_addresses(value: Any, low: int, high: int) -> None:
    for key in ("src_ip", "src_ip_range", "peer.ip"):
        (rule,) = (
            read_single({"id": "p", "type": "t", "rules": [{"action": "deny", "match": {key: value}}]})
            .policy_set.policies["p"]
            .rules
        )
        assert rule.clauses[0].intervals == ((low, high),)


@pytest.mark.parametrize(
    "change",
    [
        upside_down,
        as_list,
        lambda value: {**value, "policies": dict(reversed(value["policies"].items()))},
        lambda value: {**value, "history": [1], "updated_at": 5},
        lambda value: {**value, "version": 1},
        lambda value: with_policy(value, {"id": "p", **POLICY}),
        lambda value: with_policy(value, {**POLICY, "version": 3, "created_at": 1, "updated_at": "x"}),
        lambda value: json.loads(json.dumps(value).replace('"c": 1', '"c": 1.0')),
    ],
)
def test_the_digest_does_not_depend_on(change: Callable[[Any], Any]) -> None:
    assert change(DOCUMENT) is not DOCUMENT
    assert named(change(DOCUMENT)) == named(DOCUMENT)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("types", "mine", "default"), "deny"),
        (("types", "mine", "required"), []),
        (("types", "mine", "attributes", "b"), "double"),
        (("types", "other"), {}),
        (("policies", "r"), {"type": "t", "rules": []}),
        (("policies", "p", "name"), "m"),
        (("policies", "p", "type"), "mine"),
        (("policies", "p", "description"), "D"),
        (("policies", "p", "priority"), 8),
        (("policies", "p", "enabled"), False),
        (("policies", "p", "mode"), "shadow"),
        (("policies", "p", "rules"), []),
        (("policies", "p", "tags"), []),
        (("policies", "p", "metadata", "m"), 2),
        (("policies", "p", "rules", 0, "action"), "block"),
        (("policies", "p", "rules", 0, "description"), ""),
        (("policies", "p", "rules", 0, "match", "a"), ["x", 1]),
        (("policies", "p", "rules", 0, "match", "a", 0), True),
        (("policies", "p", "rules", 0, "match", "dst_port"), "1-3"),
        (("policies", "p", "rules", 0, "match", "condition"), "b >= c"),
        (("policies", "p", "rules", 0, "condition"), "!d"),
        (("policies", "p", "rules", 0, "parameters", "nest", "e"), 2.6),
        (("policies", "p", "rules", 0, "severity"), "low"),
        (("policies", "p", "rules", 0, "on_missing"), "error"),
        (("policies", "p", "rules", 1, "counts_against"), "client"),
    ],
)
def test_the_digest_depends_on(path: tuple[Any, ...], value: Any) -> None:
    changed = copy.deepcopy(DOCUMENT)
    here = changed
    for segment in path[:-1]:
        here = here[segment]
    here[path[-1]] = value
    assert named(changed) != named(DOCUMENT)


def test_the_digest_depends_on_the_order_of_rules() -> None:
    changed = copy.deepcopy(DOCUMENT)
    changed["policies"]["p"]["rules"].reverse()
    assert named(changed) != named(DOCUMENT)


def test_the_digest_is_of_the_canonical_text() -> None:
    value = {"policies": {"b": {"type": "t", "rules": []}}, "types": {"t": {"description": "ä"}}}
    text = '{"policies":{"b":{"id":"b","rules":[],"type":"t"}},"types":{"t":{"description":"ä"}}}'
    assert named(value) == f"sha256:{sha256(text.encode()).hexdigest()}"


@pytest.mark.parametrize("name", ["flopynet/policies.json", "flopynet/default_policies.json"])
def test_the_files_that_flopynet_ships_load(name: str) -> None:
    document = parse_document(policy_file(name).read_bytes())
    policies = document.policy_set.policies
    assert (len(policies), sum(len(policy.rules) for policy in policies.values())) == (20, 103)
    places = {
        policy.id: f"/policies/{number if name.endswith('default_policies.json') else policy.id}"
        for number, policy in enumerate(policies.values())
    }
    told = {(item.pointer, item.detail.split("`")[1]) for item in document.warnings if "not a parameter" in item.detail}
    assert told == {
        (f"{places['security-enhanced-012']}/rules/3", "high_threat_threshold"),
        (f"{places['time-based-013']}/rules/2", "business_start"),
        (f"{places['time-based-013']}/rules/2", "business_end"),
    }
    rest = [item for item in document.warnings if "not a parameter" not in item.detail]
    assert all("allows by default" in item.detail for item in rest)


def test_the_shapes_of_a_real_file_have_one_digest() -> None:
    value = json.loads(policy_file("flopynet/policies.json").read_text())
    assert named(as_list(value)) == named(value) == digest(read_document(upside_down(value)).policy_set)


def test_the_projects_own_file_loads_without_a_doubt() -> None:
    document = parse_document(policy_file("policies.json").read_bytes())
    assert document.warnings == ()
    assert len(document.policy_set.policies) == 7
