"""The context of a request, before it is judged."""

from __future__ import annotations

import copy
from collections import OrderedDict
from enum import IntEnum, StrEnum
from typing import Any

import pytest

from policy_engine.engine.context import MAX_DEPTH, normalise
from policy_engine.model.alias import ALIASES
from policy_engine.model.errors import InvalidRequestError


def nested(depth: int, *, lists: bool = False) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value] if lists else {"a": value}
    return value


@pytest.mark.parametrize(
    ("context", "pointer"),
    [
        ([], "/context"),
        (None, "/context"),
        ("x", "/context"),
        ({1: 2}, "/context"),
        ({"a": {1: 2}}, "/context/a"),
        ({"a": [{None: 2}]}, "/context/a/0"),
        ({"a.b": 1}, "/context/a.b"),
        ({".": 1}, "/context/."),
        ({"a": {"b": {"c.d": 1}}}, "/context/a/b/c.d"),
        ({"a": [[{"x~/.y": 1}]]}, "/context/a/0/0/x~0~1.y"),
        ({"source_ip": "1.1.1.1", "src_ip": "1.1.1.2"}, "/context/source_ip"),
        ({"src_port": 1, "source_port": True}, "/context/source_port"),
        ({"destination_port": 1, "dest_port": 2}, "/context/dest_port"),
        ({"src_ip": None, "source_ip": "1.1.1.1"}, "/context/source_ip"),
        (nested(MAX_DEPTH + 1), "/context" + "/a" * (MAX_DEPTH)),
        ({"a": nested(MAX_DEPTH, lists=True)}, "/context/a" + "/0" * (MAX_DEPTH - 1)),
        ({"a": nested(5000, lists=True)}, "/context/a" + "/0" * (MAX_DEPTH - 1)),
    ],
)
def test_what_is_refused(context: Any, pointer: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        normalise(context)
    assert caught.value.pointer == pointer


@pytest.mark.parametrize(
    "context",
    [{}, {"": 1}, {"a": ["x.y", {"b": "c.d"}]}, nested(MAX_DEPTH), {"a": nested(MAX_DEPTH - 1, lists=True)}],
)
def test_what_stays_as_it_is(context: dict[str, Any]) -> None:
    assert normalise(context) == context


@pytest.mark.parametrize(("variant", "name"), ALIASES.items())
def test_variants_are_renamed_at_the_top_level_alone(variant: str, name: str) -> None:
    context = {variant: "x", "other": {variant: "y"}}
    before = copy.deepcopy(context)
    assert normalise(context) == {name: "x", "other": {variant: "y"}}
    assert context == before


def test_equal_spellings_are_one() -> None:
    assert normalise({"dest_ip": "::1", "destination_ip": "::1", "dst_ip": "::1"}) == {"dst_ip": "::1"}


class Word(StrEnum):
    TRAIN = "train"


class Level(IntEnum):
    HIGH = 3


@pytest.mark.parametrize("value", [Word.TRAIN, Level.HIGH, ("train",), OrderedDict(a=1), b"train", {1}, object()])
def test_what_is_like_a_json_type_is_refused_wherever_it_stands(value: Any) -> None:
    for context, pointer in (
        ({"a": value}, "/context/a"),
        ({"a": {"b": value}}, "/context/a/b"),
        ({"a": ["x", value]}, "/context/a/1"),
    ):
        with pytest.raises(InvalidRequestError) as caught:
            normalise(context)
        assert caught.value.pointer == pointer
