"""JSON text, strictly: no duplicate keys, no numbers that JSON cannot carry exactly, bounded depth."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import Any, NoReturn

from policy_engine.language.faults import Faults, Place
from policy_engine.model.diagnostic import Diagnostic
from policy_engine.model.errors import InvalidPolicyError

MAX_DEPTH = 32
MAX_INTEGER = 2**53 - 1
"""Beyond this, RFC 8785 (JSON Canonicalization Scheme) has no form for an integer."""


class _Object(dict[str, Any]):
    """An object that remembers which of its keys stood there twice."""

    __slots__ = ("repeated",)

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.repeated: tuple[str, ...] = ()
        if len(self) < len(pairs):
            counted = Counter(key for key, _ in pairs)
            self.repeated = tuple(sorted(key for key, count in counted.items() if count > 1))


def _refuse(message: str) -> NoReturn:
    raise InvalidPolicyError([Diagnostic(pointer="", detail=message)])


class _ConstantError(ValueError):
    """A word that Python reads as a number and JSON does not know."""


def _refuse_constant(name: str) -> NoReturn:
    raise _ConstantError(name)


_STRING_OR_CONSTANT = re.compile(r'"(?:[^"\\]|\\.)*"|(?P<constant>NaN|-?Infinity)', re.DOTALL)


def _line_and_column(text: str) -> str:
    """Return where the first such word stands, outside of strings."""
    at = next(found.start() for found in _STRING_OR_CONSTANT.finditer(text) if found["constant"])
    return f"line {text.count(chr(10), 0, at) + 1} column {at - text.rfind(chr(10), 0, at)}"


def _read_integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= len(str(MAX_INTEGER)) + 1 else math.inf


def parse(text: str | bytes) -> Any:
    """Return the value that a JSON text holds.

    Raises:
        InvalidPolicyError: The text is not JSON, or a value in it cannot be kept exactly; with every place.
    """
    try:
        decoded = text.decode("utf-8-sig") if isinstance(text, bytes) else text
    except UnicodeDecodeError as error:
        _refuse(f"not UTF-8 text: byte {error.start} cannot be read")
    if not decoded.strip():
        _refuse("the document is empty")
    try:
        value = json.loads(decoded, object_pairs_hook=_Object, parse_constant=_refuse_constant, parse_int=_read_integer)
    except _ConstantError as error:
        _refuse(f"not valid JSON: `{error}` is not a number at {_line_and_column(decoded)}")
    except json.JSONDecodeError as error:
        _refuse(f"not valid JSON: {error.msg.lower()} at line {error.lineno} column {error.colno}")
    except RecursionError:
        _refuse(f"nested deeper than {MAX_DEPTH} levels")
    faults = Faults()
    plain = _check(value, (), faults)
    faults.raise_if_any()
    return plain


def check(value: Any, faults: Faults) -> Any:
    """Hold a value that did not come from text to the same bounds and return a copy of it in plain types."""
    return _check(value, (), faults)


def _check(value: Any, place: Place, faults: Faults) -> Any:
    if isinstance(value, str):
        return _check_string(value, place, faults)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, (int, float)):
        return _check_number(value, place, faults)
    if len(place) >= MAX_DEPTH:
        faults.error(place, f"nested deeper than {MAX_DEPTH} levels")
        return None
    if isinstance(value, dict):
        for key in getattr(value, "repeated", ()):
            faults.error((*place, key), f"key `{key}` stands here more than once")
        for key in value:
            if not isinstance(key, str):
                faults.error(place, f"a key of type `{type(key).__name__}` is not a string")
                return {}
            _check_string(key, place, faults)
        return {key: _check(item, (*place, key), faults) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_check(item, (*place, index), faults) for index, item in enumerate(value)]
    faults.error(place, f"`{type(value).__name__}` is not a JSON value")
    return None


def _check_string(value: str, place: Place, faults: Faults) -> str:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            faults.error(place, "the string holds half a surrogate pair")
            return ""
    return value


def _check_number(value: Any, place: Place, faults: Faults) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        faults.error(place, "the number is too large" if math.isinf(value) else "NaN is not a JSON number")
    elif isinstance(value, int) and abs(value) > MAX_INTEGER:
        faults.error(place, "the integer is beyond 2^53 - 1, where JSON readers stop to agree")
    return value
