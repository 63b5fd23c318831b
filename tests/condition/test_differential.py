"""The same conditions and contexts, here and in Google's implementation of CEL: the same answer, or two errors."""

from __future__ import annotations

import os
import random
from collections import Counter
from typing import Any

import pytest
from cel_expr_python import cel
from tests.condition.generator import ACCESSORS, NAMES, ZONES, Generator

from policy_engine.language.condition import ConditionError, EvaluationError, compile_condition, parse

ERROR = "error"


def _seed() -> int:
    given = os.environ.get("POLICY_ENGINE_TEST_SEED")
    return int(given) if given else random.SystemRandom().randrange(2**32)


@pytest.fixture(scope="module")
def environment() -> Any:
    return cel.NewEnv(variables=dict.fromkeys(NAMES, cel.Type.DYN))


def theirs(environment: Any, source: str, context: dict[str, Any], *, checked: bool) -> object:
    try:
        result = environment.compile(source, disable_check=not checked).eval(data=context)
    except (RuntimeError, ValueError):
        return ERROR
    if result.type() == cel.Type.ERROR or result.type() != cel.Type.BOOL:
        return ERROR
    return bool(result.value())


def ours(source: str, context: dict[str, Any]) -> tuple[object, str]:
    """Return the answer, and where an error was found: `text` or a kind of error."""
    try:
        condition = compile_condition(parse(source))
    except ConditionError as error:
        return ERROR, f"text: {error}"
    try:
        return condition.evaluate(context, {}), ""
    except EvaluationError as error:
        return ERROR, error.kind


def compare(environment: Any, cases: int, seed: int) -> Counter[str]:
    drawn = random.Random(seed)
    tally: Counter[str] = Counter()
    for number in range(cases):
        generator = Generator(drawn)
        source, context = generator.condition(), generator.context()
        mine, place = ours(source, context)
        # A type error that is certain from the text is one on both sides only if the other side looks at types as well.
        other = theirs(environment, source, context, checked=False)
        if mine == ERROR and place.startswith("text") and other != ERROR:
            other = theirs(environment, source, context, checked=True)
        if mine != other and place.startswith("text: ") and ("null" in place or "%" in source):
            continue
        shown = f"case {number} of seed {seed}: {source}\ncontext {context}\nhere {mine} ({place}), there {other}"
        assert mine == other, shown
        tally["text" if place.startswith("text") else place or str(mine)] += 1
    return tally


@pytest.mark.parametrize("part", range(2))
def test_two_thousand_random_conditions_have_the_same_value(environment: Any, part: int) -> None:
    seed = _seed() + part
    print(f"seed {seed}")  # noqa: T201 - to repeat a failure
    tally = compare(environment, 1000, seed)
    assert tally["True"] > 100
    assert tally["False"] > 100
    assert tally["wrong_type"] > 50


@pytest.mark.deep
def test_twenty_thousand_random_conditions_have_the_same_value(environment: Any) -> None:
    seed = _seed()
    print(f"seed {seed}")  # noqa: T201 - to repeat a failure
    print(compare(environment, 20_000, seed))  # noqa: T201 - the report of a long test


INTS = [0, 1, -1, 2, -7, 10, 3037000500, 2**62, -(2**62), 2**63 - 1, -(2**63), -(2**63) + 1]
FLOATS = [0.0, -0.0, 1.0, -1.5, 0.1, 1e308, -1e308, 5e-324, 2.0**53, 123456.789, 999999.5, 1e6, 1e-4, 1e-5]


@pytest.mark.parametrize("operator", ["+", "-", "*", "/", "%"])
@pytest.mark.parametrize("numbers", [INTS, FLOATS], ids=["int", "double"])
def test_arithmetic_at_the_ends_is_the_same(environment: Any, operator: str, numbers: list[Any]) -> None:
    source = f"string(a {operator} b)"
    asked = environment.compile(source)
    condition = compile_condition(parse(f"{source} == c"))
    for left in numbers:
        for right in numbers:
            result = asked.eval(data={"a": left, "b": right})
            if result.type() == cel.Type.ERROR:
                with pytest.raises(EvaluationError):
                    condition.evaluate({"a": left, "b": right, "c": ""}, {})
            else:
                expected = result.value().replace("-nan", "nan")  # the sign of NaN depends on the processor
                assert condition.evaluate({"a": left, "b": right, "c": expected}, {}), (left, right, expected)


def test_doubles_are_written_the_same(environment: Any) -> None:
    drawn = random.Random(_seed())
    asked = environment.compile("string(a)")
    condition = compile_condition(parse("string(a) == b && double(b) == a"))
    for _ in range(1000):
        number = drawn.choice([drawn.uniform(-1e7, 1e7), drawn.gauss(0, 1) * 10.0 ** drawn.randrange(-300, 300)])
        number = drawn.choice([number, round(number, 2), float(round(number))])
        text = asked.eval(data={"a": number}).value()
        assert condition.evaluate({"a": number, "b": text}, {}), (number, text)


@pytest.mark.parametrize("name", ACCESSORS)
def test_timestamps_are_taken_apart_the_same(environment: Any, name: str) -> None:
    drawn = random.Random(_seed())
    for zone in ["", *ZONES]:
        argument = f'"{zone}"' if zone else ""
        source = f"timestamp(a).{name}({argument})"
        asked, condition = environment.compile(source), compile_condition(parse(f"{source} == b"))
        for _ in range(30):
            second = drawn.randrange(-4_000_000_000, 6_000_000_000)
            expected = asked.eval(data={"a": second}).value()
            assert condition.evaluate({"a": second, "b": expected}, {}), (second, zone, expected)
