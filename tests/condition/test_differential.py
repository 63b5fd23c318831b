"""The same conditions and contexts, here and in Google's implementation of CEL: the same answer, or an error on both sides."""

from __future__ import annotations

import os
import random
from collections import Counter
from typing import Any

import pytest
from cel_expr_python import cel

from policy_engine.language.condition import ConditionError, EvaluationError, compile_condition, parse
from tests.condition.generator import NAMES, Generator

ERROR = "error"


def _seed() -> int:
    given = os.environ.get("POLICY_ENGINE_TEST_SEED")
    return int(given) if given else random.SystemRandom().randrange(2**32)


@pytest.fixture(scope="module")
def environment() -> Any:
    return cel.NewEnv(variables={name: cel.Type.DYN for name in NAMES})


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
