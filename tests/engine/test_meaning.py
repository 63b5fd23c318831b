"""The engine beside a plain interpreter of docs/decisions.md, field by field, on random policies and requests."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import msgspec
import pytest
from tests.engine import plain, random_policies

from policy_engine.engine.decide import decide
from policy_engine.engine.explain import explain
from policy_engine.engine.program import compile_program
from policy_engine.language.document import read_document


def compare(seed: object, documents: int, requests: int) -> Counter[str]:
    tally: Counter[str] = Counter()
    for number in range(documents):
        drawn = random.Random(f"{seed} {number}")
        document = random_policies.document(drawn)
        program = compile_program(read_document(document).policy_set)
        for _ in range(requests):
            request = random_policies.request(drawn)
            expected = plain.decide(document, random_policies.TYPE, request)
            found = as_json(decide(program, random_policies.TYPE, *request))
            explained, _ = explain(program, random_policies.TYPE, *request)
            shown = f"seed {seed} document {number}\n{document}\n{request}"
            assert found == expected, shown
            assert as_json(explained) == expected, shown
            tally[found["reason_code"]] += 1
            tally["shadow"] += found["shadow"] is not None
    return tally


def as_json(outcome: object) -> Any:
    return json.loads(msgspec.json.encode(outcome))


def test_outcomes_are_those_of_the_plain_interpreter() -> None:
    tally = compare("meaning", documents=80, requests=25)
    assert all(tally[code] > 20 for code in ("rule_allow", "rule_deny", "rule_error", "duty_permit", "shadow")), tally
    assert all(tally[code] > 5 for code in ("default_allow", "default_deny", "missing_attribute")), tally


@pytest.mark.deep
def test_outcomes_are_those_of_the_plain_interpreter_for_long() -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - to repeat a failure
    print(compare(seed, documents=1500, requests=50))  # noqa: T201 - the report of a long test
