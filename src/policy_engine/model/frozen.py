"""JSON values that cannot be changed, so that a prebuilt answer can be handed to many callers."""

from __future__ import annotations

from math import isfinite
from typing import Any, NoReturn


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise TypeError("a decision is read-only: copy the value before changing it")


class FrozenDict(dict[str, Any]):
    """A dict that refuses changes; equal to a plain dict with the same items."""

    __slots__ = ()
    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[type[dict[str, Any]], tuple[list[tuple[str, Any]]]]:
        """Copy and pickle as a plain dict."""
        return dict, (list(self.items()),)


class FrozenList(list[Any]):
    """A list that refuses changes; equal to a plain list with the same items."""

    __slots__ = ()
    __setitem__ = __delitem__ = __iadd__ = __imul__ = append = clear = extend = insert = _refuse
    pop = remove = reverse = sort = _refuse

    def __reduce__(self) -> tuple[type[list[Any]], tuple[list[Any]]]:
        """Copy and pickle as a plain list."""
        return list, (list(self),)


def freeze(value: Any) -> Any:
    """Return a JSON value with every object and list in it made read-only."""
    if isinstance(value, dict):
        return FrozenDict({key: freeze(item) for key, item in value.items()})
    if isinstance(value, (list, tuple)):
        return FrozenList([freeze(item) for item in value])
    return value


def thaw(value: Any) -> Any:
    """Return a copy of a JSON value that shares nothing with it and can be changed."""
    if isinstance(value, dict):
        return {key: thaw(item) for key, item in value.items()}
    if isinstance(value, list):
        return [thaw(item) for item in value]
    return value


def freeze_json(value: Any, *, depth: int = 16) -> Any:
    """Return a value from foreign code, frozen.

    Raises:
        ValueError: It is not plain JSON, or nests too deep.
    """
    if value is None or type(value) in (str, bool) or (type(value) is int and -(2**63) <= value < 2**63):
        return value
    if type(value) is float and isfinite(value):
        return value
    if depth and type(value) in (list, tuple):
        return FrozenList([freeze_json(item, depth=depth - 1) for item in value])
    if depth and type(value) is dict and all(type(key) is str for key in value):
        return FrozenDict({key: freeze_json(item, depth=depth - 1) for key, item in value.items()})
    raise ValueError("not a JSON value")


EMPTY = FrozenDict()
"""The parameters of a rule that has none."""
