"""Normalise the context of a request: spelling variants, dotted keys, depth."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from policy_engine.model.alias import ALIASES
from policy_engine.model.diagnostic import pointer
from policy_engine.model.errors import InvalidRequestError

MAX_DEPTH = 32

_VARIANTS = frozenset(ALIASES)
_CHILDREN: dict[type, Callable[[Any], Iterable[tuple[Any, Any]]]] = {dict: dict.items, list: enumerate}
_SCALARS = frozenset({str, int, float, bool, type(None)})
"""The types of JSON's scalars, exactly: a subclass compares in ways of its own, and could slip past a deny."""


def normalise(context: Any) -> dict[str, Any]:
    """Return the context with spelling variants resolved; the caller's object is not changed.

    Raises:
        InvalidRequestError: A key holds a dot, two spellings of an attribute disagree, or it nests too deep.
    """
    if context.__class__ is not dict:
        raise InvalidRequestError("/context", "expected an object")
    try:
        dotted = "." in "".join(context)
    except TypeError:
        raise InvalidRequestError("/context", "every key has to be a string") from None
    if dotted:
        _check_keys(context, ("context",))
    if not _SCALARS.issuperset(map(type, context.values())):
        for key, value in context.items():
            _check_nested(value, ("context", key))
    return context if _VARIANTS.isdisjoint(context) else _rename(context)


def _check_keys(value: Any, place: tuple[object, ...]) -> None:
    for key in value:
        if not isinstance(key, str):
            raise InvalidRequestError(pointer(*place), "every key has to be a string")
        if "." in key:
            raise InvalidRequestError(
                pointer(*place, key), f"key `{key}` holds a dot; nest an object to give `{key}` a value"
            )


def _check_nested(value: Any, place: tuple[object, ...]) -> None:
    kind = value.__class__
    if kind in _SCALARS:
        return
    if kind not in _CHILDREN:
        raise InvalidRequestError(pointer(*place), f"`{kind.__name__}` is not a JSON type")
    if len(place) > MAX_DEPTH:
        raise InvalidRequestError(pointer(*place), f"nested deeper than {MAX_DEPTH} levels")
    if kind is dict:
        _check_keys(value, place)
    for key, child in _CHILDREN[kind](value):
        if child.__class__ not in _SCALARS:
            _check_nested(child, (*place, key))


def _rename(context: dict[str, Any]) -> dict[str, Any]:
    renamed = {key: value for key, value in context.items() if key not in ALIASES}
    for key, value in context.items():
        name = ALIASES.get(key)
        if name is None:
            continue
        if name in renamed and not _same(renamed[name], value):
            raise InvalidRequestError(
                pointer("context", key), f"`{key}` and `{name}` are one attribute with two values"
            )
        renamed[name] = value
    return renamed


def _same(left: Any, right: Any) -> bool:
    return type(left) is type(right) and bool(left == right)
