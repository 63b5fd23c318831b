"""What a condition may cost when it is evaluated."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.condition.exact import exact

from policy_engine.language.condition import EvaluationError, compile_condition, parse


def kind_of(source: str, context: dict[str, Any]) -> object:
    """Return the value or the kind of the error; both kinds of generated code agree."""
    condition = compile_condition(parse(source))
    found: list[object] = []
    for evaluate in (condition.evaluate, exact(condition)):
        try:
            found.append(evaluate(context, {}))
        except EvaluationError as error:
            found.append(error.kind)
    assert found[0] == found[1]
    return found[0]


@pytest.mark.parametrize("name", ["all", "exists", "exists_one", "filter", "map"])
def test_iterations_are_bounded(name: str) -> None:
    body, result = {"all": ("true", ""), "exists": ("false", "== false"), "exists_one": ("x == 0", "")}.get(
        name, ("true", ".size() > 0")
    )
    source = f"xs.{name}(x, {body}) {result}"
    assert kind_of(source, {"xs": list(range(10_000))}) is True
    assert kind_of(source, {"xs": list(range(10_001))}) == "limit"


def test_iterations_of_all_macros_count_together() -> None:
    assert kind_of("xs.all(x, xs.all(y, y < 100))", {"xs": list(range(99))}) is True
    assert kind_of("xs.all(x, xs.all(y, y < 100))", {"xs": list(range(100))}) == "limit"
    assert kind_of("xs.all(x, true) && xs.all(x, true)", {"xs": [0] * 5001}) == "limit"


def test_each_evaluation_has_its_own_iterations() -> None:
    condition = compile_condition(parse("xs.all(x, x == 0)"))
    for _ in range(5):
        assert condition.evaluate({"xs": [0] * 9000}, {})


def test_a_macro_that_is_decided_early_costs_what_it_did() -> None:
    assert kind_of("xs.exists(x, x == 5)", {"xs": list(range(100_000))}) is True


def test_strings_that_are_built_are_bounded() -> None:
    half = "x" * 32_768
    assert kind_of("size(a + a) == 65536", {"a": half}) is True
    assert kind_of("size(a + a) > 0", {"a": half + "x"}) == "limit"
    assert kind_of("size(a + a) > 0", {"a": "é" * 16_385}) == "limit"


def test_lists_that_are_built_are_bounded() -> None:
    assert kind_of("size(a + a) == 65536", {"a": [0] * 32_768}) is True
    assert kind_of("size(a + a) > 0", {"a": [0] * 32_769}) == "limit"


@pytest.mark.parametrize(
    "source",
    [
        "xs.map(x, big + big).size() > 0",
        "xs.all(x, big == other)",
        "xs.all(x, x in ys)",
        "xs.all(x, !big.contains('y'))",
        "xs.all(x, !big.matches('y$'))",
        "xs.all(x, ys == zs)",
        "xs.all(x, xs.all(y, ys == zs))",
        "ys.map(y, ys.map(z, ys)).size() > 0",
        "xs.all(x, missing > 1)",
        "xs.all(x, xs.all(y, missing > 1))",
    ],
)
def test_no_evaluation_takes_long(source: str) -> None:
    context = {
        "xs": [0] * 10_000,
        "big": "x" * 30_000,
        "other": "x" * 30_000,
        "ys": list(range(1, 20_000)),
        "zs": [*range(1, 19_999), 0],
    }
    condition = compile_condition(parse(source))
    start = time.perf_counter()
    for evaluate in (condition.evaluate, exact(condition)):
        try:
            evaluate(context, {})
        except EvaluationError as error:
            assert error.kind in {"limit", "missing"}  # noqa: PT017 - either outcome is right, slowness is not
    assert time.perf_counter() - start < 2


# What is repeated before `a`, what after it, how often, and what stands behind it all.
DEEP = {
    "parentheses": ("(", ")", 30, "== b"),
    "not": ("!(", ")", 31, ""),
    "lists": ("[", "]", 30, "== b"),
    "and, or": ("(a && (a || ", "))", 15, ""),
    "ternary": ("(a ? a : ", ")", 15, "== b"),
    "ternary condition": ("(", " ? a : a)", 30, "== b"),
    "sums": ("(a + ", ")", 30, "== b"),
    "sums on the left": ("(", " + a)", 30, "== b"),
    "products": ("(a * 0.5 - ", ")", 15, "> 0.5"),
    "comparisons": ("(a < ", ")", 31, ""),
    "comparisons on the left": ("(", " < a)", 31, ""),
    "equality": ("(true == ", ")", 31, ""),
    "indexes": ("a[", "]", 30, "== b"),
    "calls": ("string(", ")", 30, "== b"),
    "tests of strings": ("(string(a.contains('x') || ", ").matches('x'))", 10, ""),
    "macros": ("a.map(x, ", ")", 30, "== b"),
    "quantifiers": ("a.all(x, a && ", ")", 15, ""),
    "predicates": ("a.filter(x, x == ", ")", 15, "== b"),
    "maps": ("{'k': ", "}", 30, "== b"),
    "fields": ("(", ").k", 30, "== b"),
    "in": ("(a in [", "])", 15, ""),
}


@pytest.mark.parametrize(("opening", "closing", "depth", "behind"), DEEP.values(), ids=DEEP)
def test_the_deepest_conditions_compile(opening: str, closing: str, depth: int, behind: str) -> None:
    condition = compile_condition(parse(f"{opening * depth}a{closing * depth} {behind}"))
    for value in (True, 1, "x", [1], 1.5, {"k": 1}):
        assert _kind(condition.evaluate, value) == _kind(exact(condition), value)


def _kind(evaluate: Callable[[dict[str, Any], Any], bool], value: object) -> object:
    try:
        return evaluate({"a": value, "b": value}, {})
    except EvaluationError as error:
        return error.kind


def test_the_longest_conditions_compile() -> None:
    for operator in ("&&", "||"):
        condition = compile_condition(parse(f" {operator} ".join(["a"] * 500)))
        assert condition.evaluate({"a": True}, {}) is True
        assert exact(condition)({"a": False}, {}) is False
    assert compile_condition(parse("a in [" + ",".join(["1"] * 900) + ",2]")).evaluate({"a": 2}, {})
