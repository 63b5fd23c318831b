"""Where names get their values from: parameters, facts, the context; reserved names, overlays, spelling variants."""

from __future__ import annotations

from collections import OrderedDict
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from tests.condition.exact import exact

from policy_engine.language.condition import EvaluationError, compile_condition, parse
from policy_engine.model.alias import ALIASES
from policy_engine.model.frozen import freeze

VOCABULARY = frozenset({"now", "current_hour", "src_type", "client.trust", "client.budget.left", "budget"})
RESERVED = frozenset({"now", "current_hour", "client.trust"})


def outcome(
    source: str, context: dict[str, Any] | None = None, facts: dict[str, Any] | None = None, **given: Any
) -> object:
    """Return the value, or the kind of the error and its attribute; both kinds of generated code agree."""
    condition = compile_condition(parse(source), facts=VOCABULARY, reserved=RESERVED, **given)
    found: list[object] = []
    for evaluate in (condition.evaluate, exact(condition)):
        try:
            found.append(evaluate(context or {}, facts or {}))
        except EvaluationError as error:
            found.append((error.kind, error.attribute))
    assert found[0] == found[1]
    return found[0]


@pytest.mark.parametrize(
    ("source", "context", "facts", "parameters", "expected"),
    [
        # Parameters come first, the whole path or nothing.
        ("a == 1", {"a": 2}, {}, {"a": 1}, True),
        ("now == 1", {"now": 3}, {"now": 2}, {"now": 1}, True),
        ("a.b == 1", {"a": {"b": 2}}, {}, {"a": {"b": 1}}, True),
        ("a.c == 2", {"a": {"c": 2}}, {}, {"a": {"b": 1}}, True),
        ("a == {'b': 1}", {"a": {"c": 2}}, {}, {"a": {"b": 1}}, True),
        ("a.b == 1", {}, {}, {"a": 1}, ("missing", "a.b")),
        ("max_clients > max", {"max_clients": 5, "max": 9}, {}, {"max": 3}, True),
        ("max > 3", {"max": 9}, {}, {"max_clients": 3}, True),
        ("a == null", {"a": 2}, {}, {"a": None}, True),
        # Then the facts, then the context.
        ("src_type == 'server'", {"src_type": "client"}, {"src_type": "server"}, {}, True),
        ("src_type == 'client'", {"src_type": "client"}, {}, {}, True),
        ("client.trust == 0.5", {"client": {"trust": 1.0}}, {"client.trust": 0.5}, {}, True),
        # A reserved name never comes from the context, whichever way it is written.
        ("current_hour == 3", {"current_hour": 3}, {}, {}, ("missing", "current_hour")),
        ("client.trust == 1.0", {"client": {"trust": 1.0}}, {}, {}, ("missing", "client.trust")),
        ("client['trust'] == 1.0", {"client": {"trust": 1.0}}, {}, {}, ("no_such_key", "client")),
        ("(client).trust == 1.0", {"client": {"trust": 1.0}}, {}, {}, ("no_such_key", "client")),
        ("client.exists(k, k == 'trust')", {"client": {"trust": 1.0}}, {}, {}, False),
        ("[client].exists(c, has(c.trust))", {"client": {"trust": 1.0}}, {}, {}, False),
        ("now.x == 1", {"now": {"x": 1}}, {}, {}, ("missing", "now.x")),
        ("now.x == 1", {"now": {"x": 1}}, {"now": "text"}, {}, ("wrong_type", "now.x")),
        ("budget.x == 1", {"budget": {"x": 2}}, {"budget": {"x": 1}}, {}, True),
        ("budget.x == 1", {"budget": {"x": 1}}, {"budget": 5}, {}, ("wrong_type", "budget.x")),
        ("budget.x == 1", {"budget": {"x": 1}}, {}, {}, True),
        # A name that stands before facts is the map of the context with the facts laid over it.
        ("client == {'r': 'eu', 'trust': 0.5}", {"client": {"r": "eu", "trust": 1.0}}, {"client.trust": 0.5}, {}, True),
        ("client.region == 'eu'", {"client": {"region": "eu"}}, {"client.trust": 0.5}, {}, True),
        ("client == {'trust': 0.5}", {}, {"client.trust": 0.5}, {}, True),
        ("client == {'trust': 0.5}", {"client": "text"}, {"client.trust": 0.5}, {}, True),
        ("client == 'text'", {"client": "text"}, {}, {}, True),
        ("client == {}", {"client": {"trust": 1.0}}, {}, {}, True),
        ("client.budget == {'left': 1, 'x': 2}", {"client": {"budget": {"x": 2}}}, {"client.budget.left": 1}, {}, True),
        ("client == {'budget': {'left': 1}}", {"client": {"budget": {"left": 9}}}, {"client.budget.left": 1}, {}, True),
        ("client.budget == {'left': 9, 'x': 2}", {"client": {"budget": {"x": 2, "left": 9}}}, {}, {}, True),
        ("client.budget == {'left': 1}", {"client": {}}, {"client.budget.left": 1}, {}, True),
        ("client == 1", {}, {}, {}, ("missing", "client")),
        ("client.region == 1", {"client": 1}, {}, {}, ("wrong_type", "client.region")),
        ("a.b.c == 1", {"a": {"b": None}}, {}, {}, ("wrong_type", "a.b.c")),
        ("a.b.c == 1", {"a": {}}, {}, {}, ("missing", "a.b.c")),
        # has() goes the same way.
        ("has(client.trust)", {"client": {"trust": 1.0}}, {}, {}, False),
        ("has(client.trust)", {}, {"client.trust": 0.5}, {}, True),
        ("has(client.region)", {}, {"client.trust": 0.5}, {}, False),
        ("has(client.region)", {}, {}, {}, ("missing", "client.region")),
        ("has(client.region)", {"client": {"region": None}}, {}, {}, True),
        ("has(client.budget)", {"client": {}}, {"client.budget.left": 1}, {}, True),
        ("has((client).trust)", {"client": {"trust": 1.0}}, {}, {}, False),
        ("has(a.b)", {}, {}, {"a": {"b": None}}, True),
        ("has(a.c)", {}, {}, {"a": {"b": 1}}, False),
        ("has(a.c)", {"a": {"c": 1}}, {}, {"a": {"b": 1}}, True),
        ("has(now.x)", {"now": {"x": 1}}, {}, {}, ("missing", "now.x")),
        ("has(now.x)", {}, {"now": "text"}, {}, ("wrong_type", "now.x")),
        ("has(budget.y)", {}, {"budget": {"x": 1}}, {}, False),
        # What the vocabulary does not list is no fact.
        ("other == 1", {"other": 1}, {"other": 2}, {}, True),
    ],
)  # fmt: skip
def test_resolution(
    source: str, context: dict[str, Any], facts: dict[str, Any], parameters: dict[str, Any], expected: object
) -> None:
    assert outcome(source, context, facts, parameters=parameters) == expected


@pytest.mark.parametrize(("variant", "name"), ALIASES.items())
def test_variants_of_a_name_are_read_by_the_canonical_one(variant: str, name: str) -> None:
    condition = compile_condition(parse(f"{variant} == 'x' && {name} == 'x'"))
    assert condition.reads == (name,)
    assert condition.evaluate({name: "x", variant: "ignored"}, {})
    with pytest.raises(EvaluationError) as failed:
        condition.evaluate({variant: "x"}, {})
    assert (failed.value.kind, failed.value.attribute) == ("missing", name)


def test_variants_elsewhere_are_ordinary_names() -> None:
    assert (
        outcome("a.source_ip == 'x' && source_ip == 'p'", {"a": {"source_ip": "x"}}, parameters={"source_ip": "p"})
        is True
    )
    assert outcome("source_type == 'server'", {}, {"src_type": "server"}) is True
    assert compile_condition(parse("source_port > 5")).comparisons[0].path == "src_port"


def test_variants_can_be_declared_either_way() -> None:
    for declared in ("source_port", "src_port"):
        assert outcome("source_port / 2.0 == 1.5", {"src_port": 3}, attributes={declared: "double"}) is True


def test_the_context_and_the_parameters_are_not_changed() -> None:
    context = {"client": {"trust": 1.0, "budget": {"left": 5, "x": 1}}}
    facts = {"client.budget.left": 2}
    assert outcome("client.budget.left == 2 && client == {'budget': {'left': 2, 'x': 1}}", context, facts) is True
    assert context == {"client": {"trust": 1.0, "budget": {"left": 5, "x": 1}}}
    assert facts == {"client.budget.left": 2}


def test_read_only_values_are_like_others() -> None:
    given = freeze({"xs": [1, {"y": [2]}], "m": {"k": "v"}})
    source = "xs == [1, {'y': [2]}] && xs[1].y.all(y, y == 2) && m == {'k': 'v'} && 1 in xs"
    assert outcome(source, parameters=given) is True
    assert outcome(source, dict(given)) is True
    assert outcome("m.k == 'v'", OrderedDict(m=OrderedDict(k="v"))) is True


@pytest.mark.parametrize("value", [(1, 2), {1}, b"x", object(), 1j, [(1,)], {"k": b""}, {1: 2}, datetime(2024, 1, 1)])  # noqa: DTZ001
def test_other_python_values_are_of_the_wrong_type(value: object) -> None:
    for source in ("v == 1", "v == 'x'", "v == null", "v in [1]", "v", "v > 1", "[v] == []", "[1].all(x, v == x)"):
        assert outcome(source, {"v": value}) == ("wrong_type", "v")


def test_timestamps_and_durations_can_be_facts() -> None:
    moment = datetime(2024, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    assert outcome("now.getHours() == 10", {}, {"now": moment}) is True
    assert outcome("now > timestamp('2024-01-01T09:59:59Z')", {}, {"now": moment}) is True
    assert outcome("budget > duration('59m')", {}, {"budget": timedelta(hours=1)}) is True
    assert outcome("budget > duration('59m')", {}, {"budget": timedelta.max}) == ("overflow", "budget")
    early = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=2)))
    assert outcome("now > timestamp(0)", {}, {"now": early}) == ("overflow", "now")
    assert outcome("now == timestamp(0)", {}, {"now": datetime(1970, 1, 1, tzinfo=UTC)}) is True


DECLARED = [
    ("double", 1, True), ("double", 1.5, True), ("double", True, False), ("double", "1", False),
    ("double", None, False), ("int", 1, True), ("int", 1.0, False), ("int", False, False), ("string", "x", True),
    ("string", 1, False), ("bool", True, True), ("bool", 1, False), ("list", [1], True), ("list", {}, False),
    ("map", {}, True), ("map", [], False), ("timestamp", "2024-01-01T00:00:00Z", True), ("timestamp", 5, False),
    ("duration", "5s", True), ("duration", 5, False), ("any", None, True), ("any", 1, True),
]  # fmt: skip


@pytest.mark.parametrize(("declared", "value", "fits"), DECLARED)
@pytest.mark.parametrize("source", ["v == v", "[v] != []", "[1].all(x, v == v)"])
def test_declared_types(declared: str, value: object, fits: bool, source: str) -> None:  # noqa: FBT001
    expected = True if fits else ("wrong_type", "v")
    assert outcome(source, {"v": value}, attributes={"v": declared}) == expected


def test_a_malformed_declared_timestamp() -> None:
    assert outcome("v == v", {"v": "yesterday"}, attributes={"v": "timestamp"}) == ("invalid_argument", "v")


def test_integers_of_more_than_64_bits_are_refused_wherever_they_stand() -> None:
    for big in (2**63, -(2**63) - 1, 2**70):
        for source in (
            "v > 1",
            "v == 1",
            "v != 'x'",
            "v in [1, 2]",
            "v == null",
            "v == true",
            "v + 1 > 1",
            "[v] == []",
        ):
            assert outcome(source, {"v": big}) == ("overflow", "v")
        for value in ([big], [[{"k": big}]], {"k": big}):
            assert outcome("v == 1", {"v": value}) == ("overflow", "v")
            assert outcome("size(v) == 1", {"v": value}) == ("overflow", "v")
            assert outcome("v == 1", {"v": value}, attributes={"v": "any"}) == ("overflow", "v")
        assert outcome("v == 1.0", {"v": big}, attributes={"v": "double"}) == ("overflow", "v")
    assert outcome("v > 1 && w < 1", {"v": 2**63 - 1, "w": -(2**63)}) is True


def test_values_nested_without_end_are_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert outcome("v == 1", {"v": endless}) == ("limit", "v")


def test_the_attribute_to_blame_is_the_first_that_the_operator_reads() -> None:
    given = {"parameters": {"p": "text", "q": [1]}}
    context = {"a": 1, "b": "x", "c": True}
    assert outcome("c && a + b > 0", context, **given) == ("wrong_type", "a")
    assert outcome("c && q[0] + (size(b) + b) > 0", context, **given) == ("wrong_type", "b")
    assert outcome("(c ? a : b) > p", context, **given) == ("wrong_type", "c")
    assert outcome("q[5 + a] == 1", context, **given) == ("index_out_of_range", "a")
    assert outcome("q[1] == 1", context, **given) == ("index_out_of_range", None)
    assert outcome("b.contains(string(c)) || b.size() > 0 && has(x.y)", context, **given) == ("missing", "x.y")
    assert outcome("!b", context, **given) == ("wrong_type", "b")
    assert outcome("-c > 0", context, **given) == ("wrong_type", "c")
