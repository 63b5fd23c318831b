"""The engine and the plain interpreter give the same outcome, in every field, on random policies and requests."""

from __future__ import annotations

import json
import os
from collections import Counter
from random import Random
from typing import Any

import pytest
from tests.reference import generator, interpreter

from policy_engine.engine.context import normalise
from policy_engine.engine.decide import decide
from policy_engine.engine.explain import explain
from policy_engine.engine.program import compile_program
from policy_engine.language.document import Document, read_document
from policy_engine.model.decision import Outcome
from policy_engine.model.errors import InvalidPolicyError, InvalidRequestError

REQUESTS = 50
CODES = {
    "rule_allow",
    "rule_deny",
    "rule_error",
    "duty_permit",
    "default_allow",
    "default_deny",
    "missing_attribute",
    "type_undeclared",
    "function_allow",
    "function_deny",
    "function_error",
}


def yes(context: dict[str, Any]) -> dict[str, Any]:
    return {"allowed": True, "reason": f"operation {context.get('operation')}", "parameters": {"batch": 7}}


def no(_context: dict[str, Any]) -> dict[str, Any]:
    return {"allowed": False, "reason": "never", "parameters": {"rate": 1}}


def broken(context: dict[str, Any]) -> dict[str, Any]:
    raise KeyError(context)


FUNCTIONS = {"yes": yes, "no": no, "broken": broken}


def seed_of_run(usual: int) -> int:
    return int(os.environ.get("POLICY_ENGINE_TEST_SEED", usual))


def compare(sets: int, seed: int) -> Counter[str]:
    """Compare on `sets` random policy sets; return how often each reason code came out."""
    print(f"seed {seed}, {sets} policy sets x {REQUESTS} requests")  # noqa: T201 - to run it again
    codes: Counter[str] = Counter()
    for number in range(sets):
        random = Random(f"{seed} {number}")
        document, accepted = acceptable(random)
        program = compile_program(accepted.policy_set, FUNCTIONS)
        for _ in range(REQUESTS):
            policy_type, context, facts = generator.request(random, document)
            try:
                expected = interpreter.decide(document, policy_type, context, facts, FUNCTIONS)
            except InvalidRequestError:
                codes["refused"] += 1
                with pytest.raises(InvalidRequestError):
                    normalise(context)
                continue
            clean = normalise(context)
            told = f"seed {seed} set {number}\n{json.dumps(document)}\n{policy_type} {json.dumps(context)} {facts}"
            same(decide(program, policy_type, clean, facts), expected, told)
            same(explain(program, policy_type, clean, facts)[0], expected, told)
            codes[expected.reason_code] += 1
    print(dict(codes.most_common()))  # noqa: T201 - what the run was about
    return codes


def acceptable(random: Random) -> tuple[dict[str, Any], Document]:
    """Return a document that is accepted; now and then a condition cannot work with its parameters, and is refused."""
    for _ in range(50):
        document = generator.policy_document(random)
        try:
            return document, read_document(document)
        except InvalidPolicyError as error:
            if not all(" at line 1 column " in item.detail for item in error.errors):
                raise
    raise AssertionError("fifty documents in a row were refused")


def same(found: Outcome, expected: Outcome, told: str) -> None:
    for name in Outcome.__struct_fields__:
        mine, theirs = getattr(found, name), getattr(expected, name)
        assert repr_of(mine) == repr_of(theirs), f"{name}: {mine} instead of {theirs}\n{told}"


def repr_of(value: Any) -> str:
    """Return a text that tells true from 1 and 1 from 1.0, and leaves out the order of keys."""
    if isinstance(value, dict):
        return repr(sorted((key, repr_of(item)) for key, item in value.items()))
    return repr(value)


def test_two_hundred_policy_sets() -> None:
    codes = compare(200, seed_of_run(2026))
    assert codes.keys() >= CODES


@pytest.mark.deep
def test_two_thousand_policy_sets() -> None:
    codes = compare(2000, seed_of_run(20_260_101))
    assert codes.keys() >= CODES
