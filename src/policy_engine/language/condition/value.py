"""The values of a condition: which Python values they are, how large they may be, and when two are the same.

null, bool, int, double, string, list, map, timestamp and duration are None, bool, int, float, str, list, dict,
datetime (in UTC) and timedelta: exactly these types, so that an operator can go by `type(x)`. What comes from outside
is made so by `plain`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from policy_engine.language.condition.errors import EvaluationError

INT64_MIN = -(2**63)
INT64_MAX = 2**63 - 1
MAX_BUILT = 65_536
"""The largest string (bytes of UTF-8) or list (elements) that an operator or macro may build."""
MAX_ITERATIONS = 10_000
_MAX_NESTING = 100
_NUMBERS = frozenset({int, float})
_DURATION_LIMIT = timedelta(seconds=315_576_000_000)

NAMES = {
    type(None): "null",
    bool: "bool",
    int: "int",
    float: "double",
    str: "string",
    list: "list",
    dict: "map",
    datetime: "timestamp",
    timedelta: "duration",
}
"""Python type -> the name of the type in conditions."""


class Budget:
    """How much work one evaluation may still do inside macros, in iterations."""

    __slots__ = ("left",)

    def __init__(self, left: float = MAX_ITERATIONS) -> None:
        self.left = left

    def spend(self, units: int, attribute: str | None) -> None:
        """Count work; raise EvaluationError when the limit is passed."""
        self.left -= units
        if self.left < 0:
            raise EvaluationError("limit", attribute, f"more than {MAX_ITERATIONS:,} iterations")


UNLIMITED = Budget(float("inf"))
"""For conditions without macros, whose work is bounded by their length and by the request's."""


def name_of(value: object) -> str:
    """Return the name of a value's type for a message."""
    return NAMES.get(type(value), "a value of no known type")


def wrong_type(attribute: str | None, detail: str) -> EvaluationError:
    """Return the error for a value of a type that an operator does not take."""
    return EvaluationError("wrong_type", attribute, detail)


def plain(value: object, attribute: str | None, depth: int = 0) -> Any:
    """Return a value from outside as one of the nine types; raise EvaluationError naming the attribute.

    Values that are already plain come back as they are, without a copy.
    """
    kind = type(value)
    if kind is str or kind is float or kind is bool or value is None:
        return value
    if kind is int:
        if not INT64_MIN <= value <= INT64_MAX:  # type: ignore[operator]
            raise EvaluationError("overflow", attribute, "the integer does not fit into 64 bits")
        return value
    if depth > _MAX_NESTING:
        raise EvaluationError("limit", attribute, f"nested more than {_MAX_NESTING} deep")
    if isinstance(value, list):
        return _plain_list(value, attribute, depth)
    if isinstance(value, dict):
        return _plain_map(value, attribute, depth)
    if isinstance(value, datetime):
        return _plain_timestamp(value, attribute)
    if isinstance(value, timedelta):
        return checked_duration(timedelta(value.days, value.seconds, value.microseconds), attribute)
    raise wrong_type(attribute, f"no JSON value: {kind.__name__}")


def _plain_list(value: list[Any], attribute: str | None, depth: int) -> list[Any]:
    items = [plain(item, attribute, depth + 1) for item in value]
    if type(value) is list and all(map(_is, items, value)):
        return value
    return items


def _plain_map(value: dict[Any, Any], attribute: str | None, depth: int) -> dict[str, Any]:
    for key in value:
        if type(key) is not str:
            raise wrong_type(attribute, "a key of the map is not a string")
    items = {key: plain(item, attribute, depth + 1) for key, item in value.items()}
    if type(value) is dict and all(map(_is, items.values(), value.values())):
        return value
    return items


def _is(left: object, right: object) -> bool:
    return left is right


def _plain_timestamp(value: datetime, attribute: str | None) -> datetime:
    if value.tzinfo is UTC and type(value) is datetime:
        return value
    if value.tzinfo is None:
        raise wrong_type(attribute, "a timestamp without an offset")
    try:
        utc = value.astimezone(UTC)
    except OverflowError:
        raise EvaluationError("overflow", attribute, "the timestamp is out of range") from None
    return datetime.combine(utc.date(), utc.time(), UTC)


def checked_int(value: int, attribute: str | None) -> int:
    """Return an int; raise EvaluationError when it does not fit into 64 bits."""
    if INT64_MIN <= value <= INT64_MAX:
        return value
    raise EvaluationError("overflow", attribute, "the result does not fit into 64 bits")


def checked_duration(value: timedelta, attribute: str | None) -> timedelta:
    """Return a duration; raise EvaluationError when it is longer than 10,000 years."""
    if -_DURATION_LIMIT <= value <= _DURATION_LIMIT:
        return value
    raise EvaluationError("overflow", attribute, "the duration is out of range")


def checked_string(value: str, attribute: str | None) -> str:
    """Return a string that was built; raise EvaluationError when it is too large."""
    size = len(value)
    if size * 4 > MAX_BUILT and len(value.encode("utf-8", "surrogatepass")) > MAX_BUILT:
        raise EvaluationError("limit", attribute, f"a string of more than {MAX_BUILT:,} bytes")
    return value


def checked_list(value: list[Any], attribute: str | None) -> list[Any]:
    """Return a list that was built; raise EvaluationError when it is too large."""
    if len(value) > MAX_BUILT:
        raise EvaluationError("limit", attribute, f"a list of more than {MAX_BUILT:,} elements")
    return value


def weight(value: object) -> int:
    """Return what it costs to look through a string, list or map once, in iterations; 0 for short ones."""
    kind = type(value)
    if kind is str:
        return len(value) >> 10  # type: ignore[arg-type]
    if kind is list or kind is dict:
        return len(value) >> 6  # type: ignore[arg-type]
    return 0


def same(left: Any, right: Any, budget: Budget) -> bool:
    """Whether two values are equal: numbers by value, lists and maps by their elements, different types never."""
    kind, other_kind = type(left), type(right)
    if kind is not other_kind:
        return kind in _NUMBERS and other_kind in _NUMBERS and bool(left == right)
    if kind is list:
        if len(left) != len(right):
            return False
        budget.spend(weight(left), None)
        return all(same(item, other, budget) for item, other in zip(left, right, strict=True))
    if kind is dict:
        if left.keys() != right.keys():
            return False
        budget.spend(weight(left), None)
        return all(same(item, right[key], budget) for key, item in left.items())
    return bool(left == right)
