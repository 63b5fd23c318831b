"""The cases of golden.toml, each evaluated by both kinds of generated code."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from tests.condition.exact import exact

from policy_engine.language.condition import ConditionError, EvaluationError, compile_condition, parse

CASES = tomllib.loads(Path(__file__).with_name("golden.toml").read_text("utf-8"))["case"]


@pytest.mark.parametrize("case", CASES, ids=[case["about"] for case in CASES])
def test_case(case: dict[str, Any]) -> None:
    if "refused" in case:
        with pytest.raises(ConditionError) as refused:
            parse(case["condition"])
        assert str(refused.value) == case["refused"]
        return
    facts = case.get("facts", {})
    reserved = frozenset(case.get("reserved", ()))
    condition = compile_condition(
        parse(case["condition"]),
        parameters=case.get("parameters", {}),
        attributes=case.get("attributes", {}),
        facts=frozenset(facts) | reserved | frozenset(case.get("vocabulary", ())),
        reserved=reserved,
    )
    for evaluate in (condition.evaluate, exact(condition)):
        context = json.loads(case.get("context", "{}"))
        if "error" in case:
            with pytest.raises(EvaluationError) as failed:
                evaluate(context, facts)
            assert (failed.value.kind, failed.value.attribute) == (case["error"], case.get("attribute"))
        else:
            assert evaluate(context, facts) is case["value"]
        assert context == json.loads(case.get("context", "{}")), "the context was changed"
