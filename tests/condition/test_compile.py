"""What a compiled condition tells about itself, and how conditions share code."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from math import inf
from threading import Thread
from typing import Any

import pytest
from tests.condition.exact import exact
from tests.condition.generator import NAMES, Generator

from policy_engine.language.condition import Comparison, EvaluationError, compile_condition, compiler, parse


def compared(source: str, **parameters: object) -> tuple[list[tuple[str, str, int | float]], bool]:
    condition = compile_condition(parse(source), parameters=parameters)
    return [(item.path, item.operator, item.constant) for item in condition.comparisons], condition.conjunction


@pytest.mark.parametrize(
    ("source", "comparisons", "conjunction"),
    [
        ("a > 1", [("a", ">", 1)], True),
        ("1 < a", [("a", ">", 1)], True),
        ("1.5 >= a.b", [("a.b", "<=", 1.5)], True),
        ("5 == a", [("a", "==", 5)], True),
        ("a <= -2", [("a", "<=", -2)], True),
        ("a > 1 && (b < 2 AND c >= 3)", [("a", ">", 1), ("b", "<", 2), ("c", ">=", 3)], True),
        ("a > 1 && b", [("a", ">", 1)], False),
        ("a > p && a < q", [("a", ">", 3), ("a", "<", 2.5)], True),
        ("p < a", [("a", ">", 3)], True),
        ("a != 1", [], False),
        ("a > 1 || b > 2", [], False),
        ("!(a > 1)", [], False),
        ("a > b", [], False),
        ("a == 'x'", [], False),
        ("a == true", [], False),
        ("a == t", [], False),
        ("a < huge", [], False),
        ("p < 5", [], False),
        ("a + 1 > 2", [], False),
        ("xs.all(x, x > 1)", [], False),
    ],
)
def test_comparisons_with_numbers_are_listed(source: str, comparisons: list[Any], conjunction: bool) -> None:  # noqa: FBT001
    assert compared(source, p=3, q=2.5, t=True, huge=inf) == (comparisons, conjunction)


def test_a_comparison_keeps_the_type_of_its_constant() -> None:
    (comparison,) = compile_condition(parse("a > 1.0")).comparisons
    assert comparison == Comparison(path="a", operator=">", constant=1.0)
    assert isinstance(comparison.constant, float)


def test_reads_are_what_is_looked_up_at_run_time() -> None:
    condition = compile_condition(
        parse("c.d > max && xs.all(x, x.y > a.b) && has(c.e) && source_ip == 'x' && src_ip != ''"),
        parameters={"max": 3},
    )
    assert condition.reads == ("c.d", "xs", "a.b", "c.e", "src_ip")
    assert condition.source.startswith("c.d > max")


def test_conditions_of_one_shape_keep_their_own_constants() -> None:
    conditions = [
        compile_condition(parse(f"a > {n} && b == 's{n}' && c in [{n}, {n}.5] && d < p"), parameters={"p": n})
        for n in range(50)
    ]
    for n, condition in enumerate(conditions):
        assert condition.evaluate({"a": n + 1, "b": f"s{n}", "c": n + 0.5, "d": n - 1}, {})
        assert not condition.evaluate({"a": n, "b": f"s{n}", "c": n + 0.5, "d": n - 1}, {})
        assert exact(condition)({"a": n + 1, "b": f"s{n}", "c": n, "d": n - 1}, {})


def test_conditions_of_one_shape_share_their_code() -> None:
    one, two = (compile_condition(parse(source)) for source in ("shape_a > 1 && b == 'x'", "shape_a>2 AND b=='y'"))
    assert one.evaluate.__code__ is two.evaluate.__code__


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"p": 1}, {"p": "1"}),
        ({"p": 1}, {"p": 1.0}),
        ({"p": 1}, {"p": True}),
        ({"p": 1}, {}),
        ({"p": [1]}, {"p": {"k": 1}}),
        ({"p": None}, {"p": 0}),
    ],
)
def test_parameters_of_other_types_get_other_code(first: dict[str, object], second: dict[str, object]) -> None:
    for parameters in (first, second):
        condition = compile_condition(parse("a == p"), parameters=parameters)
        context = {"a": parameters.get("p", 7), "p": 7}
        assert condition.evaluate(context, {}) is True
        assert condition.evaluate({**context, "a": "other"}, {}) is False


def test_the_facts_that_are_known_belong_to_the_code() -> None:
    parsed = parse("hour > 3")
    plain = compile_condition(parsed)
    known = compile_condition(parsed, facts=frozenset({"hour"}))
    reserved = compile_condition(parsed, facts=frozenset({"hour"}), reserved=frozenset({"hour"}))
    assert plain.evaluate({"hour": 5}, {"hour": 1}) is True
    assert known.evaluate({"hour": 5}, {"hour": 1}) is False
    assert known.evaluate({"hour": 5}, {}) is True
    with pytest.raises(EvaluationError, match="`hour`: the attribute is missing"):
        reserved.evaluate({"hour": 5}, {})


def test_many_shapes_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "_MAX_PLANS", 10)
    monkeypatch.setattr(compiler, "_PLANS", {})
    for n in range(35):
        assert compile_condition(parse(f"name_{n} > 1")).evaluate({f"name_{n}": 2}, {})
        assert len(compiler._PLANS) <= 10


def test_words_of_a_condition_never_get_into_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str] = []
    make = compiler._make

    def spy(text: str) -> Any:
        texts.append(text)
        return make(text)

    monkeypatch.setattr(compiler, "_make", spy)
    monkeypatch.setattr(compiler, "_PLANS", {})
    word = "zq9"
    source = f"""{word}.{word}x == "{word}')\\n" && {word}s.all({word}v, {word}v.{word}f > 7777) && has({word}.{word}h)
        && {word}m["{word}"] == {{"{word}": "{word}"}} && {word}n.matches("{word}")
        && {word}p in ["{word}", "{word}2"]"""
    condition = compile_condition(parse(source), parameters={f"{word}p": word})
    with pytest.raises(EvaluationError):
        condition.evaluate({}, {})
    assert len(texts) == 2
    assert not any(word in text or "7777" in text for text in texts)


@pytest.mark.parametrize(
    "name", ["print", "type", "__class__", "k0", "n", "r", "context", "facts", "evaluate", "None", "lambda", "def"]
)
def test_names_of_python_are_names_like_others(name: str) -> None:
    condition = compile_condition(parse(f"{name} == 1 && {name}2.{name} == 2 && [3].all({name}, {name} == 3)"))
    assert condition.evaluate({name: 1, f"{name}2": {name: 2}}, {})


def test_conditions_are_evaluated_by_many_threads() -> None:
    condition = compile_condition(parse("xs.all(x, x < limit) || missing"), parameters={"limit": 100})
    wrong: list[object] = []

    def work(start: int) -> None:
        for n in range(start, start + 200):
            try:
                if condition.evaluate({"xs": [n % 200]}, {}) is not (n % 200 < 100):
                    wrong.append(n)
            except EvaluationError as error:
                if error.kind != "missing" or n % 200 < 100:
                    wrong.append(n)

    threads = [Thread(target=work, args=(start,)) for start in range(0, 800, 50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_fast_code_agrees_with_the_exact_code() -> None:
    """The facts, parameters and declared types are what the comparison with the other implementation leaves out."""
    drawn = random.Random(20240229)
    kinds = ["int", "double", "string", "bool", "list", "map", "any", "timestamp"]
    for _ in range(1500):
        generator = Generator(drawn)
        source, context, other = generator.condition(), generator.context(), generator.context()
        facts = {name: other[name] for name in other if drawn.random() < 0.3}
        if drawn.random() < 0.1:
            facts["a"] = datetime(2024, 1, 1, tzinfo=UTC)
        facts.update({f"{name}.x": drawn.randrange(5) for name in NAMES if drawn.random() < 0.15})
        given: dict[str, Any] = {
            "facts": frozenset(facts) | {"b.y"},
            "reserved": frozenset(name for name in facts if drawn.random() < 0.5) | {"b.y"},
            "attributes": {name: drawn.choice(kinds) for name in NAMES if drawn.random() < 0.3},
            "parameters": {name: other[name] for name in other if drawn.random() < 0.15},
        }
        present = {name: value for name, value in facts.items() if drawn.random() < 0.8}
        try:
            condition = compile_condition(parse(source), **given)
        except ValueError:
            continue
        assert _outcome(condition.evaluate, context, present) == _outcome(exact(condition), context, present), source


def _outcome(evaluate: Any, context: dict[str, Any], facts: dict[str, Any]) -> object:
    try:
        return evaluate(context, facts)
    except EvaluationError as error:
        return error.kind, error.attribute
