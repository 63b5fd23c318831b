"""Documents that are refused: the place, what is wrong with it and the way out."""

from __future__ import annotations

import json
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest

from policy_engine.language.canonical import digest
from policy_engine.language.document import parse_document, read_document, read_single
from policy_engine.model.diagnostic import Diagnostic
from policy_engine.model.errors import InvalidPolicyError

RULE: dict[str, Any] = {"action": "allow"}
POLICY: dict[str, Any] = {"type": "t", "rules": [RULE]}


def document(**policy: Any) -> dict[str, Any]:
    return {"policies": {"p": {**POLICY, **policy}}}


def rule(**fields: Any) -> dict[str, Any]:
    return document(rules=[{**RULE, **fields}])


def match(**keys: Any) -> dict[str, Any]:
    return rule(match=keys)


def refused(value: Any) -> tuple[Diagnostic, ...]:
    with pytest.raises(InvalidPolicyError) as caught:
        parse_document(value if isinstance(value, (str, bytes)) else json.dumps(value))
    return caught.value.errors


IN_RULE = "/policies/p/rules/0"
CASES = [
    pytest.param(
        case["text"] if "text" in case else json.dumps(case["document"]),
        *(case["pointer"], case["detail"], case.get("hint", "")),
        id=case["description"],
    )
    for case in json.loads(Path(__file__).with_name("refused.json").read_text())
]
DEEP = '{"policies": {"p": {"metadata": {"a": ' + "[" * 500 + "]" * 500 + "}}}}"
PARENTHESES = json.dumps(rule(condition="(" * 500 + "a" + ")" * 500))
CASES += [
    pytest.param(*row[1:], "", id=row[0])
    for row in [
        ("500 parentheses", PARENTHESES, f"{IN_RULE}/condition", "nest"),
        ("500 arrays", DEEP, "/policies/p/metadata/a" + "/0" * 28, "nested deeper than 32 levels"),
        ("100000 arrays", "[" * 100_000, "", ""),
        ("an integer without end", '{"version": 1' + "0" * 5000 + "}", "/version", "the number is too large"),
        ("white space", b" \n\t", "", "the document is empty"),
        ("a mark and nothing else", b"\xef\xbb\xbf", "", "the document is empty"),
        ("bytes that are no UTF-8", b'{"policies": {"\xff": 1}}', "", "not UTF-8 text: byte 15 cannot be read"),
        ("UTF-16", '{"policies": {}}'.encode("utf-16"), "", "not UTF-8 text: byte 0"),
    ]
]


@pytest.mark.parametrize(("value", "place", "detail", "hint"), CASES)
def test_the_fault_its_place_and_the_way_out(value: Any, place: str, detail: str, hint: str) -> None:
    errors = refused(value)
    here = [item for item in errors if item.pointer == place and detail in item.detail]
    assert here, errors
    assert hint in here[0].hint
    assert not hint or here[0].hint
    for item in errors:
        assert item.detail[:1] == item.detail[:1].lower()
        assert not item.detail.endswith(".")


def test_all_faults_of_a_document_come_together() -> None:
    value = {
        "version": 9,
        "types": {"t": {"default": "maybe"}},
        "policies": [
            {
                "id": "a",
                "type": "t",
                "priority": "x",
                "rules": [{"action": "denny", "match": {"p_port": "2-1", "q": None}}, 5],
            },
            {"id": "a", "type": "t", "rules": [{"action": "allow", "condition": "("}], "colour": "red"},
        ],
        "extra": 1,
    }
    assert [item.pointer for item in refused(value)] == [
        "/version",
        "/types/t/default",
        "/policies/0/priority",
        "/policies/0/rules/0/action",
        "/policies/0/rules/0/match/p_port",
        "/policies/0/rules/0/match/q",
        "/policies/0/rules/1",
        "/policies/1/rules/0/condition",
        "/policies/1/colour",
        "/policies/1",
        "/extra",
    ]


def test_all_faults_of_the_text_come_together() -> None:
    text = '{"a": 1e999, "a": "\\ud800", "b": [9007199254740995, -1e999]}'
    assert [item.pointer for item in refused(text)] == ["/a", "/a", "/b/0", "/b/1"]


@pytest.mark.parametrize(
    ("value", "place", "detail"),
    [
        ({"policies": {1: POLICY}}, "/policies", "is not a string"),
        (document(metadata={"a": {1, 2}}), "/policies/p/metadata/a", "`set` is not a JSON value"),
        (document(metadata={"a": b"x"}), "/policies/p/metadata/a", "`bytes` is not a JSON value"),
        (document(metadata={"a": float("nan")}), "/policies/p/metadata/a", "NaN is not a JSON number"),
        (document(metadata={"a": 2**53}), "/policies/p/metadata/a", "is beyond 2^53"),
        (document(metadata={"a": -(2**53)}), "/policies/p/metadata/a", "is beyond 2^53"),
        (document(metadata={"a": 10**5000}), "/policies/p/metadata/a", "is beyond 2^53"),
        (None, "", "expected an object, found null"),
    ],
)
def test_a_value_that_did_not_come_from_text_is_held_to_the_same(value: Any, place: str, detail: str) -> None:
    with pytest.raises(InvalidPolicyError) as caught:
        read_document(value)
    assert [item.pointer for item in caught.value.errors if detail in item.detail] == [place]


@pytest.mark.parametrize("number", [2**53 - 1, 1 - 2**53])
def test_the_largest_integers_are_accepted_and_digested(number: int) -> None:
    assert digest(read_document(rule(parameters={"a": number})).policy_set).startswith("sha256:")


@pytest.mark.parametrize(
    "text",
    ['{"policies": {"\\ud800": {"a": 1e400}}}', '{"\\ud800": 1, "\\ud800": 2}', '{"a": {"\\udfff": ["\\udfff"]}}'],
)
def test_what_is_said_can_be_written(text: str) -> None:
    for item in refused(text):
        assert str(item).encode()


@pytest.mark.parametrize(
    "value",
    [
        {"version": 10**5000, "policies": {}},
        document(priority=10**5000),
        rule(action=10**5000),
        rule(severity=10**5000),
        match(src_ip=10**5000),
        match(dst_port=10**5000),
        match(a=[10**5000, None]),
    ],
)
def test_an_integer_of_5000_digits_is_refused_wherever_it_stands(value: Any) -> None:
    with pytest.raises(InvalidPolicyError):
        read_document(value)


def test_a_repeated_key_among_many_is_found_at_once() -> None:
    keys = ",".join(f'"k{number}": 1' for number in range(30_000))
    began = perf_counter()
    assert [item.pointer for item in refused(f'{{"policies": {{}}, "history": {{{keys}, "k7": 2}}}}')] == [
        "/history/k7"
    ]
    assert perf_counter() - began < 5


def test_a_single_policy_is_pointed_into_from_itself() -> None:
    with pytest.raises(InvalidPolicyError) as caught:
        read_single({"id": "p", "type": "t", "rules": [{"action": "denny"}]})
    assert [item.pointer for item in caught.value.errors] == ["/rules/0/action"]


@pytest.mark.parametrize(
    ("value", "policy_id", "place"),
    [
        ([], None, ""),
        ({"id": "q", **POLICY}, "p", "/id"),
        ({"rules": []}, None, ""),
        ({"id": None, **POLICY}, None, "/id"),
    ],
)
def test_a_single_policy_is_refused(value: Any, policy_id: str | None, place: str) -> None:
    with pytest.raises(InvalidPolicyError) as caught:
        read_single(value, policy_id=policy_id)
    assert caught.value.errors[0].pointer == place


@pytest.mark.parametrize(
    ("policy_type", "stem"), [("fl_security", "fl_security-"), ("ä/b", "policy-"), ("_x", "policy-")]
)
def test_a_single_policy_without_an_id_gets_one(policy_type: str, stem: str) -> None:
    value = {"type": policy_type, "rules": []}
    first, second = (next(iter(read_single(value).policy_set.policies)) for _ in range(2))
    assert first.startswith(stem)
    assert first != second


def test_the_summary_shows_the_first_three() -> None:
    error = InvalidPolicyError([Diagnostic(pointer=f"/{n}", detail="bad", hint="mend it") for n in range(5)])
    assert str(error) == "/0: bad (mend it); /1: bad (mend it); /2: bad (mend it); and 2 more"


def test_a_condition_that_does_not_fit_its_parameters_is_shown_in_its_place() -> None:
    rule = {"action": "deny", "match": {"condition": "a > 1"}, "condition": 'a.matches("(")'}
    with pytest.raises(InvalidPolicyError) as caught:
        read_single({"id": "p", "type": "t", "rules": [rule]})
    (fault,) = caught.value.errors
    assert fault.pointer == "/rules/0/condition"
    assert fault.excerpt.splitlines()[0] == 'a.matches("(")'
