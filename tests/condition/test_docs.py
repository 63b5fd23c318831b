"""docs/conditions.md says all there is, and what it shows works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from policy_engine.language.condition import ConditionError, parse
from policy_engine.language.condition.function import FUNCTIONS, MACROS
from policy_engine.language.condition.lexer import KEYWORDS, RESERVED

TEXT = (Path(__file__).parents[2] / "docs" / "conditions.md").read_text("utf-8")
EXAMPLES = re.findall(r"^```cel\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)[0].splitlines()


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_are_conditions(example: str) -> None:
    parse(example)


def test_the_error_shown_is_the_one_given() -> None:
    with pytest.raises(ConditionError) as refused:
        parse('1 + "a" == x')
    shown = "\n".join(f"  {line}" for line in refused.value.excerpt.splitlines())
    assert f"{refused.value}\n{shown}" in TEXT


@pytest.mark.parametrize("name", [*FUNCTIONS, *MACROS, "has"])
def test_every_function_is_described(name: str) -> None:
    assert f"{name}(" in TEXT


@pytest.mark.parametrize("word", sorted(KEYWORDS | RESERVED))
def test_every_word_of_the_language_is_listed(word: str) -> None:
    assert re.search(rf"\b{word}\b", TEXT)
