"""The functions: each takes the attribute to blame when it fails, then its arguments."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from math import isfinite
from types import MappingProxyType
from typing import Any, NoReturn

import re2

from policy_engine.language.condition.errors import EvaluationError
from policy_engine.language.condition.temporal import (
    ACCESSORS,
    format_duration,
    format_timestamp,
    parse_duration,
    parse_timestamp,
    timestamp_of_seconds,
    whole_seconds,
)
from policy_engine.language.condition.value import (
    INT64_MAX,
    INT64_MIN,
    Budget,
    checked_string,
    name_of,
    weight,
    wrong_type,
)

Implementation = Callable[..., Any]

_INT = re.compile(r"[+-]?\d{1,30}", re.ASCII)
_DOUBLE = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_MAX_DOUBLE_TEXT = 1000
_PATTERN_OPTIONS = re2.Options()
_PATTERN_OPTIONS.log_errors = False
_PATTERN_OPTIONS.max_mem = 1 << 20


def _refuse(function: str, attribute: str | None, value: object) -> NoReturn:
    raise wrong_type(attribute, f"`{function}` cannot take {name_of(value)}")


def size(_: Budget, attribute: str | None, value: Any) -> int:
    """The code points of a string, the elements of a list or map."""
    if type(value) is str or type(value) is list or type(value) is dict:
        return len(value)
    _refuse("size", attribute, value)


def _text_test(name: str, test: Callable[[str, str], bool]) -> Implementation:
    def function(budget: Budget, attribute: str | None, value: Any, other: Any) -> bool:
        for argument in (value, other):
            if type(argument) is not str:
                _refuse(name, attribute, argument)
        budget.spend(weight(value), attribute)
        return test(value, other)

    return function


def compile_pattern(pattern: str) -> Any:
    """Return the compiled pattern; raise ValueError with a reason when it is none."""
    try:
        return re2.compile(pattern, options=_PATTERN_OPTIONS)
    except UnicodeEncodeError:
        raise ValueError("it holds half a character") from None
    except re2.error as error:
        reason = error.args[0] if error.args else "malformed"
        raise ValueError(reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)) from None


@lru_cache(maxsize=256)
def _cached_pattern(pattern: str) -> Any:
    return compile_pattern(pattern)


def matches(budget: Budget, attribute: str | None, value: Any, pattern: Any) -> bool:
    """Whether the pattern is found anywhere in a string."""
    if type(pattern) is not str:
        _refuse("matches", attribute, pattern)
    try:
        compiled = _cached_pattern(pattern)
    except ValueError as error:
        raise EvaluationError("invalid_argument", attribute, f"not a pattern: {error}") from None
    return search(budget, attribute, value, compiled)


def search(budget: Budget, attribute: str | None, value: Any, compiled: Any) -> bool:
    """Whether a compiled pattern is found anywhere in a string."""
    if type(value) is not str:
        _refuse("matches", attribute, value)
    budget.spend(weight(value), attribute)
    try:
        return compiled.search(value) is not None
    except UnicodeEncodeError:
        raise EvaluationError("invalid_argument", attribute, "the text holds half a character") from None


def to_string(_: Budget, attribute: str | None, value: Any) -> str:
    """`string(x)`."""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return format_double(value)
        case datetime():
            return checked_string(format_timestamp(value), attribute)
        case timedelta():
            return format_duration(value)
    _refuse("string", attribute, value)


_PLAIN_EXPONENTS = range(-4, 6)


def format_double(value: float) -> str:
    """Return the shortest digits that give the same double, with an exponent from a million on and below 0.0001."""
    if not isfinite(value):
        return repr(value)
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    power = len(digits) + int(exponent) - 1
    text = "".join(map(str, digits))
    if power not in _PLAIN_EXPONENTS:
        text = f"{text[0]}.{text[1:]}".rstrip(".") + f"e{power:+03}"
    elif power < 0:
        text = f"0.{'0' * (-power - 1)}{text}"
    else:
        text = f"{text[: power + 1].ljust(power + 1, '0')}.{text[power + 1 :]}".rstrip(".")
    return f"-{text}" if sign else text


def to_int(_: Budget, attribute: str | None, value: Any) -> int:
    """`int(x)`: doubles are cut off towards zero, timestamps become seconds since 1970."""
    kind = type(value)
    if kind is int:
        return int(value)
    if kind is datetime:
        return whole_seconds(value)
    if kind is float:
        if INT64_MIN < value < INT64_MAX + 1:
            return int(value)
        raise EvaluationError("overflow", attribute, "the double does not fit into 64 bits")
    if kind is not str:
        _refuse("int", attribute, value)
    if _INT.fullmatch(value) is None or not INT64_MIN <= int(value) <= INT64_MAX:
        raise EvaluationError("invalid_argument", attribute, "not an integer of 64 bits")
    return int(value)


def to_double(_: Budget, attribute: str | None, value: Any) -> float:
    """`double(x)`."""
    kind = type(value)
    if kind is float or kind is int:
        return float(value)
    if kind is not str:
        _refuse("double", attribute, value)
    if len(value) > _MAX_DOUBLE_TEXT or _DOUBLE.fullmatch(value) is None or not isfinite(float(value)):
        raise EvaluationError("invalid_argument", attribute, "not a number")
    return float(value)


def to_timestamp(_: Budget, attribute: str | None, value: Any) -> datetime:
    """`timestamp(x)`: a text in RFC 3339 or the seconds since 1970."""
    match value:
        case datetime():
            return value
        case str():
            return parse_timestamp(value, attribute)
        case int() if type(value) is int:
            return timestamp_of_seconds(value, attribute)
    _refuse("timestamp", attribute, value)


def to_duration(_: Budget, attribute: str | None, value: Any) -> timedelta:
    """`duration(x)`: a text such as `1h30m`."""
    match value:
        case timedelta():
            return value
        case str():
            return parse_duration(value, attribute)
    _refuse("duration", attribute, value)


def _unmetered(access: Callable[..., int]) -> Implementation:
    def function(_: Budget, attribute: str | None, value: Any, zone: Any = None) -> int:
        return access(attribute, value, zone)

    return function


IMPLEMENTATIONS: Mapping[str, Implementation] = MappingProxyType(
    {
        "size": size,
        "startsWith": _text_test("startsWith", str.startswith),
        "endsWith": _text_test("endsWith", str.endswith),
        "contains": _text_test("contains", str.__contains__),
        "matches": matches,
        "string": to_string,
        "int": to_int,
        "double": to_double,
        "timestamp": to_timestamp,
        "duration": to_duration,
        **{name: _unmetered(access) for name, access in ACCESSORS.items()},
    }
)
"""Name -> what it does; the names are those of `function.FUNCTIONS`."""
