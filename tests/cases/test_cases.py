"""The golden cases: every data file in this folder, case by case, with and without an explanation."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from tests.cases.places import policy_file

from policy_engine.facts.inventory import Component
from policy_engine.model.decision import Outcome
from policy_engine.model.errors import InvalidRequestError
from policy_engine.pdp import PolicyEngine

FILES = sorted(Path(__file__).parent.glob("*.json"))
GROUPS = {path.stem: json.loads(path.read_text()) for path in FILES}
CASES = [
    pytest.param(name, number, id=f"{name}: {case['description']}")
    for name, group in GROUPS.items()
    for number, case in enumerate(group["cases"])
]
OUTCOME = Outcome.__struct_fields__


@cache
def engine(name: str) -> PolicyEngine:
    group = GROUPS[name]
    options: dict[str, Any] = {
        "components": [Component(**item) for item in group.get("components", ())],
        "zone": ZoneInfo(group.get("timezone", "UTC")),
    }
    if "file" in group:
        made = PolicyEngine.from_file(policy_file(group["file"]), **options)
    else:
        made = PolicyEngine.from_document(group["policies"], **options)
    for client, trust in group.get("trust", {}).items():
        made.trust.override(client, kind="trust", trust=trust, author="case", reason="case")
    return made


def differences(expected: Any, actual: Any, place: str) -> list[str]:
    """Say where an answer lacks what is expected: objects may have more, lists and scalars may not."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        return [line for key, item in expected.items() for line in differences(item, actual.get(key), f"{place}.{key}")]
    if isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        pairs = enumerate(zip(expected, actual, strict=True))
        return [line for number, (left, right) in pairs for line in differences(left, right, f"{place}[{number}]")]
    same = expected == actual and isinstance(expected, bool) is isinstance(actual, bool)
    return [] if same else [f"{place}: expected {expected!r}, found {actual!r}"]


@pytest.mark.parametrize(("name", "number"), CASES)
def test_case(name: str, number: int) -> None:
    case = GROUPS[name]["cases"][number]
    request, expect = case["request"], dict(case["expect"])
    if "invalid" in expect:
        with pytest.raises(InvalidRequestError) as caught:
            engine(name).check(**request)
        assert caught.value.pointer == expect["invalid"]
        return
    decision = engine(name).check(**request)
    answer = json.loads(msgspec.json.encode(decision))
    assert answer["allowed"] is (answer["decision"] == "allow")
    assert expect.pop("reason_has", "") in answer["reason"]
    if "parameters_exactly" in expect:
        assert answer["parameters"] == expect.pop("parameters_exactly")
    assert differences(expect, answer, "decision") == []
    explained = engine(name).check(**request, explain=True)
    assert {field: getattr(explained, field) for field in OUTCOME} == {
        field: getattr(decision, field) for field in OUTCOME
    }


def test_every_group_says_what_it_shows() -> None:
    texts = [group["description"] for group in GROUPS.values()]
    texts += [case["description"] for group in GROUPS.values() for case in group["cases"]]
    assert all(texts)
    assert len(set(texts)) > len(GROUPS)


@pytest.mark.parametrize(
    ("expected", "actual", "count"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, 0),
        ({"a": 1}, {"a": True}, 1),
        ([], [1], 1),
        ({"a": None}, {"a": 0}, 1),
        (1, 1.0, 0),
    ],
)
def test_the_comparison_sees_differences(expected: Any, actual: Any, count: int) -> None:
    assert len(differences(expected, actual, "")) == count
