"""Secrets are masked and personal data is found, wherever they are."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.model.mask import MASK
from policy_engine.store.redact import Redactor, places, replaced, without

keys = st.sampled_from(("a", "b", "client_id", "password", "a.b", "API_KEY"))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)
contexts = st.dictionaries(keys, values, max_size=4)


@pytest.mark.parametrize(
    ("context", "kept"),
    [
        ({}, {}),
        ({"a": 1, "b": [1, {"c": None}]}, {"a": 1, "b": [1, {"c": None}]}),
        (
            {"password": "x", "Api-Key": 1, "apikey": 1, "token": None},
            {"password": MASK, "Api-Key": 1, "apikey": MASK, "token": None},
        ),
        ({"a": {"my_secret": {"deep": 1}, "b": 2}}, {"a": {"my_secret": MASK, "b": 2}}),
        ({"list": [{"credential": 1}, [{"cookie": 2}]]}, {"list": [{"credential": MASK}, [{"cookie": MASK}]]}),
        ({"named": 1, "deep": {"named": 2, "er": 3}}, {"named": MASK, "deep": {"named": 2, "er": MASK}}),
        ({"pair": (1, {"token": 2})}, {"pair": [1, {"token": MASK}]}),
        ({"deep": [{"er": 1}]}, {"deep": [{"er": MASK}]}),
        ({5: 1, "deep": {6: {"token": 1}}}, {5: 1, "deep": {6: {"token": MASK}}}),
    ],
)
def test_what_is_kept(context: dict[Any, Any], kept: dict[Any, Any]) -> None:
    redactor = Redactor(masked=("named", "deep.er"))
    before = copy.deepcopy(context)
    for _ in range(2):
        assert redactor.redact(context) == kept
        assert context == before


@given(context=contexts)
def test_nothing_secret_is_kept_and_nothing_else_is_lost(context: dict[str, Any]) -> None:
    def check(given: Any, kept: Any) -> None:
        if isinstance(given, dict):
            assert given.keys() == kept.keys()
            for key, value in given.items():
                if key in ("password", "API_KEY"):
                    assert kept[key] == (None if value is None else MASK)
                else:
                    check(value, kept[key])
        elif isinstance(given, list):
            for one, other in zip(given, kept, strict=True):
                check(one, other)
        else:
            assert given == kept

    check(context, Redactor().redact(context))


def test_many_different_fields_do_not_fill_the_memory() -> None:
    redactor = Redactor()
    for number in range(25_000):
        assert redactor.redact({f"token{number}": 1, f"x{number}": 1}) == {f"token{number}": MASK, f"x{number}": 1}
    assert len(redactor._known) <= 10_000


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("a", [1]),
        ("b", [{"c": 2, "d.e": 3}]),
        ("b.c", [2]),
        ("b.d.e", [3]),
        ("x.y", [4]),
        ("none", []),
        ("b.none", []),
        ("a.b", []),
    ],
)
def test_a_dotted_path_is_found(path: str, values: list[Any]) -> None:
    context = {"a": 1, "b": {"c": 2, "d.e": 3}, "x.y": 4}
    before = copy.deepcopy(context)
    assert [where[key] for where, key in places(context, path)] == values
    changed = replaced(context, path, lambda _: "other")
    assert context == before
    assert [where[key] for where, key in places(changed, path)] == ["other"] * len(values)
    if not values:
        assert changed is context


@given(context=contexts, path=st.lists(keys, min_size=1, max_size=3).map(".".join))
def test_a_replaced_value_leaves_the_rest_as_it_was(context: dict[str, Any], path: str) -> None:
    before = copy.deepcopy(context)
    changed = replaced(context, path, lambda value: value)
    assert context == before == changed


def test_secrets_are_found_in_texts_however_they_are_written() -> None:
    context = {"token": {"a": ["it's \n é", 12345]}, "list": [{"password": "deep"}], "secret": None, "diagnosis": "flu"}
    secrets = sorted(set(Redactor(("diagnosis",)).secrets(context)), key=len, reverse=True)
    quoted = {"x": [str(context), json.dumps(context)], "deep": "deeper", "n": 12345, "m": 1, "t": True}
    found = without(quoted, secrets)
    assert {key: found[key] for key in ("***", "n", "m", "t")} == {"***": "***er", "n": "***", "m": 1, "t": True}
    for text in found["x"]:
        assert not [part for part in ("it's", "12345", "deep", "flu") if part in text]
