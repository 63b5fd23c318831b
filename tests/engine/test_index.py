"""What the columns say about a rule beside what judging the rule says."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from tests.engine import random_policies

from policy_engine.engine import column
from policy_engine.engine.decide import decide
from policy_engine.engine.explain import explain
from policy_engine.engine.program import TypeProgram, compile_program
from policy_engine.language.document import read_document
from policy_engine.model.decision import Outcome

WHOLE = column._BUDGET_BITS


def check(kind: TypeProgram, context: dict[str, Any], facts: dict[str, Any], shown: str) -> Counter[str]:
    """Judge every rule and compare: what is ruled out does not apply, what is certain does."""
    tally: Counter[str] = Counter()
    rules, doubtful = kind.whole.index.classify(context, facts)
    for number, rule in enumerate(kind.rules):
        bit = 1 << (len(kind.rules) - 1 - number)
        judgement = rule.judge(context, facts)
        state = "ruled out" if not rules & bit else "doubtful" if doubtful & bit else "certain"
        if state == "ruled out":
            assert judgement is None, f"{shown}: ruled out {rule.rule}\n{context}\n{facts}"
        if state == "certain":
            assert judgement is rule.applies, f"{shown}: called certain {rule.rule}\n{context}\n{facts}"
        tally[state] += 1
    return tally


def compare(seed: int, programs: int, requests: int) -> Counter[str]:
    tally: Counter[str] = Counter()
    for number in range(programs):
        drawn = random.Random(f"{seed} {number}")
        compiled = random_policies.program(drawn)
        for _ in range(requests):
            context, facts = random_policies.request(drawn)
            for kind in random_policies.types(compiled):
                tally += check(kind, context, facts, f"seed {seed} program {number}")
    return tally


@pytest.mark.parametrize("budget", [WHOLE, 1, 60, 300])
def test_columns_agree_with_plain_judging(monkeypatch: pytest.MonkeyPatch, budget: int) -> None:
    monkeypatch.setattr(column, "_BUDGET_BITS", budget)
    tally = compare(20260101, programs=60, requests=40)
    assert all(tally[state] > 100 for state in ("ruled out", "doubtful", "certain")), tally


@pytest.mark.deep
@pytest.mark.parametrize("budget", [WHOLE, 1, 60, 300, 1000])
def test_columns_agree_with_plain_judging_for_long(monkeypatch: pytest.MonkeyPatch, budget: int) -> None:
    monkeypatch.setattr(column, "_BUDGET_BITS", budget)
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}", compare(seed, programs=1000, requests=100))  # noqa: T201 - to repeat a failure


def test_an_explained_request_has_the_outcome_of_a_plain_one() -> None:
    for number in range(80):
        drawn = random.Random(f"outcome {number}")
        compiled = random_policies.program(drawn)
        for _ in range(40):
            context, facts = random_policies.request(drawn)
            plain = decide(compiled, random_policies.TYPE, context, facts)
            explained, _ = explain(compiled, random_policies.TYPE, context, facts)
            assert fields(plain) == fields(explained), f"program {number}\n{context}\n{facts}"


def fields(outcome: Outcome) -> dict[str, Any]:
    return {name: getattr(outcome, name) for name in outcome.__struct_fields__}


def single(rule: dict[str, Any], **spec: Any) -> TypeProgram:
    document = {"types": {"t": spec}, "policies": {"p": {"type": "t", "rules": [rule, {"action": "log"}]}}}
    return compile_program(read_document(document).policy_set).types["t"]


WIDE = {"condition": "x > 1 && x < 1e30"}


@pytest.mark.parametrize("budget", [WHOLE, 1])
@pytest.mark.parametrize(
    ("rule", "context"),
    [
        ({"action": "deny", "match": {"dst_port": 22, "condition": "size > 100"}}, {"dst_port": "x", "size": 5}),
        ({"action": "deny", "match": {"dst_port": "1-10", "dst_port_range": "5-20"}}, {"dst_port": [3, 15]}),
        ({"action": "allow", "match": WIDE}, {"x": 2**70}),
        ({"action": "allow", "match": WIDE}, {"x": float("nan")}),
        ({"action": "allow", "match": {"condition": "x < 1"}}, {"x": float("nan")}),
        ({"action": "allow", "match": {"condition": "x < 1"}}, {"x": float("-inf")}),
        ({"action": "allow", "match": {"condition": "x < 1"}}, {"x": -(2**63)}),
        ({"action": "allow", "match": {"condition": "x < 1"}}, {"x": -(2**63) - 1}),
        ({"action": "allow", "match": {"condition": "x >= 9223372036854775807"}}, {"x": 2**63 - 1}),
        ({"action": "allow", "match": {"condition": "x >= 9223372036854775807"}}, {"x": 2**63}),
        ({"action": "allow", "match": {"condition": "x >= 9223372036854775807"}}, {"x": 9223372036854775807.0}),
        ({"action": "allow", "match": {"condition": "x == 9007199254740993"}}, {"x": 9007199254740992.0}),
        ({"action": "allow", "match": {"condition": "x == 1"}}, {"x": True}),
        ({"action": "allow", "match": {"condition": "x > 5 && x < 3"}}, {"x": 4}),
        ({"action": "allow", "match": {"condition": "x > 5 && x < 3"}}, {"x": "4"}),
        ({"action": "allow", "match": {"x": 1}}, {"x": True}),
        ({"action": "allow", "match": {"x": [1, True]}}, {"x": [[], 1.0]}),
        ({"action": "deny", "match": {"src_ip": "::/0"}}, {"src_ip": "255.255.255.255"}),
        ({"action": "deny", "match": {"src_ip": "0.0.0.0/0"}}, {"src_ip": "::"}),
        ({"action": "deny", "match": {"protocol": "straße"}}, {"protocol": "STRASSE"}),
        ({"action": "deny", "match": {"protocol": "İ"}}, {"protocol": "i̇"}),
    ],
)
def test_values_at_the_edges(
    monkeypatch: pytest.MonkeyPatch, rule: dict[str, Any], context: dict[str, Any], budget: int
) -> None:
    monkeypatch.setattr(column, "_BUDGET_BITS", budget)
    check(single(rule), context, {}, "edge")


def test_a_type_declared_by_an_alias_holds_for_the_index_too() -> None:
    kind = single({"action": "allow", "condition": "source_port < 1024"}, attributes={"source_port": "int"})
    check(kind, {"src_port": 80.0}, {}, "declared")


def test_a_column_forgets_nothing_and_grows_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(column, "REMEMBERED", 3)
    kind = single({"action": "deny", "match": {"dst_port": "100-200"}})
    for port in range(90, 210):
        for _ in range(2):
            check(kind, {"dst_port": port}, {}, "remembered")
    remembered = [item._remembered for item in kind.whole.index.columns if isinstance(item, column.IntervalColumn)]
    assert [len(item) for item in remembered] == [3]


def test_more_attributes_than_columns_are_judged() -> None:
    rules = [{"action": "deny", "match": {f"a{number}": 1, f"b{number}": 1}} for number in range(40)]
    rules += [{"action": "deny", "condition": f"c{number} > 1"} for number in range(40)]
    document = {"types": {"t": {"default": "allow"}}, "policies": {"p": {"type": "t", "rules": rules}}}
    kind = compile_program(read_document(document).policy_set).types["t"]
    assert len(kind.whole.index.columns) == 24 + 12
    for number in range(40):
        check(kind, {f"a{number}": 1, f"b{number}": 1, f"c{number}": 2}, {}, f"attribute {number}")
