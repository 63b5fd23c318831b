"""The engine beside the interpreter, in every field, on random policies and requests."""

from __future__ import annotations

import copy
import json
import os
import random
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from tests.interpreter import generator, interpreter

from policy_engine.engine.context import normalise
from policy_engine.engine.decide import decide
from policy_engine.engine.explain import explain
from policy_engine.engine.program import Program, compile_program
from policy_engine.language.document import read_document
from policy_engine.model.decision import Outcome
from policy_engine.model.diagnostic import Diagnostic
from policy_engine.model.errors import InvalidPolicyError, InvalidRequestError
from policy_engine.model.policy import PolicySet

REQUESTS = 50
CODES = {
    "rule_allow",
    "rule_deny",
    "rule_error",
    "duty_permit",
    "default_allow",
    "default_deny",
    "function_allow",
    "function_deny",
    "function_error",
    "missing_attribute",
    "type_undeclared",
}


def seed_of_this_run() -> int:
    given = os.environ.get("POLICY_ENGINE_TEST_SEED")
    seed = int(given) if given else random.SystemRandom().randrange(2**32)
    print(f"POLICY_ENGINE_TEST_SEED={seed}")  # noqa: T201 - to repeat a failure
    return seed


def accepted(document: dict[str, Any], tally: Counter[str]) -> PolicySet:
    """Read a document; conditions that are certain to fail are taken out of it first."""
    errors = faults(document)
    while errors:
        for policy, index in {place_of(error) for error in errors}:
            drop_condition(document["policies"], policy, index)
            tally["refused conditions"] += 1
        errors = faults(document)
    return read_document(document).policy_set


def faults(document: dict[str, Any]) -> Sequence[Diagnostic]:
    try:
        read_document(document)
    except InvalidPolicyError as refused:
        return refused.errors
    return ()


def place_of(error: Diagnostic) -> tuple[str, str]:
    """The policy and the rule of a condition that is refused; a document has no other faults."""
    found = re.fullmatch(r"/policies/([^/]+)/rules/(\d+)(/.*condition)?", error.pointer)
    assert found is not None, error
    return found[1], found[2]


def drop_condition(policies: Any, policy: str, index: str) -> None:
    rule = policies[policy if isinstance(policies, dict) else int(policy)]["rules"][int(index)]
    removed = [rule.pop("condition", None), rule.get("match", {}).pop("condition", None)]
    assert any(removed), rule


def shown(outcome: Outcome | str) -> Any:
    """An outcome as plain JSON values, in which `true` is not `1`."""
    return json.dumps(outcome if isinstance(outcome, str) else msgspec.to_builtins(outcome), sort_keys=True)


def expected(document: dict[str, Any], policy_type: str, context: Any, facts: dict[str, Any]) -> Outcome | str:
    try:
        return interpreter.decide(document, policy_type, context, facts, generator.FUNCTIONS)
    except InvalidRequestError:
        return "refused"


def found(program: Program, policy_type: str, context: Any, facts: dict[str, Any]) -> Outcome | str:
    try:
        normal = normalise(context)
    except InvalidRequestError:
        return "refused"
    outcome = decide(program, policy_type, normal, facts)
    explained, _ = explain(program, policy_type, normal, facts)
    assert shown(explained) == shown(outcome), f"explained: {shown(explained)}\ndecided:   {shown(outcome)}"
    return outcome


def compare_set(seed: int, number: int, tally: Counter[str]) -> None:
    rng = random.Random(f"{seed} {number}")
    document = generator.policy_document(rng)
    program = compile_program(
        accepted(document, tally), lambda _, policy: generator.FUNCTIONS.get(policy.function_id or "")
    )
    for _ in range(REQUESTS):
        policy_type, context, facts = generator.request(rng, document)
        about = f"POLICY_ENGINE_TEST_SEED={seed} set {number}\n{json.dumps(document)}\n{policy_type} {context} {facts}"
        wanted = expected(document, policy_type, copy.deepcopy(context), facts)
        try:
            outcome = found(program, policy_type, context, facts)
        except Exception as error:
            raise AssertionError(about) from error
        assert shown(outcome) == shown(wanted), f"{about}\nengine:      {shown(outcome)}\ninterpreter: {shown(wanted)}"
        tally["requests"] += 1
        tally[wanted if isinstance(wanted, str) else wanted.reason_code] += 1
        if isinstance(wanted, Outcome):
            tally.update({f"error {error.kind}" for error in wanted.errors})
            tally["shadow"] += wanted.shadow is not None
            tally["shadow differs"] += wanted.shadow is not None and wanted.shadow.differs
            tally["indeterminate"] += any(duty.indeterminate for duty in wanted.obligations)


def compare(sets: int) -> None:
    seed = seed_of_this_run()
    tally: Counter[str] = Counter()
    for number in range(sets):
        compare_set(seed, number, tally)
    print(dict(sorted(tally.items())))  # noqa: T201 - what the run came across
    assert {code for code in CODES if tally[code]} == CODES
    for seen in ("refused", "shadow differs", "indeterminate", "error missing", "error malformed", "error wrong_type"):
        assert tally[seen], seen


def test_the_engine_decides_as_the_interpreter_does() -> None:
    compare(200)


@pytest.mark.deep
def test_the_engine_decides_as_the_interpreter_does_for_long() -> None:
    compare(2_000)
