"""The operators, strict: each takes the values and the attribute to blame when they do not fit."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, NoReturn, TypeAlias

from policy_engine.language.condition.errors import EvaluationError
from policy_engine.language.condition.value import (
    Budget,
    checked_duration,
    checked_int,
    checked_list,
    checked_string,
    name_of,
    same,
    weight,
    wrong_type,
)

BinaryOperator: TypeAlias = Callable[[Budget, "str | None", Any, Any], Any]

_ORDER = {bool: "bool", int: "number", float: "number", str: "string", datetime: "timestamp", timedelta: "duration"}


def _refuse(symbol: str, attribute: str | None, left: object, right: object) -> NoReturn:
    raise wrong_type(attribute, f"`{symbol}` cannot take {name_of(left)} and {name_of(right)}")


def add(budget: Budget, attribute: str | None, left: Any, right: Any) -> Any:
    """`left + right`."""
    kinds = type(left), type(right)
    if kinds == (int, int):
        return checked_int(left + right, attribute)
    if kinds == (float, float):
        return left + right
    if kinds in {(str, str), (list, list)}:
        budget.spend(weight(left) + weight(right), attribute)
        check: Callable[[Any, str | None], Any] = checked_string if kinds[0] is str else checked_list
        return check(left + right, attribute)
    if kinds == (timedelta, timedelta):
        return checked_duration(left + right, attribute)
    if kinds in {(datetime, timedelta), (timedelta, datetime)}:
        return _timestamp(operator.add, attribute, left, right)
    _refuse("+", attribute, left, right)


def subtract(_: Budget, attribute: str | None, left: Any, right: Any) -> Any:
    """`left - right`."""
    kinds = type(left), type(right)
    if kinds == (int, int):
        return checked_int(left - right, attribute)
    if kinds == (float, float):
        return left - right
    if kinds in {(timedelta, timedelta), (datetime, datetime)}:
        return checked_duration(left - right, attribute)
    if kinds == (datetime, timedelta):
        return _timestamp(operator.sub, attribute, left, right)
    _refuse("-", attribute, left, right)


def _timestamp(function: Callable[[Any, Any], Any], attribute: str | None, left: Any, right: Any) -> Any:
    try:
        return function(left, right)
    except OverflowError:
        raise EvaluationError("overflow", attribute, "the timestamp is out of range") from None


def multiply(_: Budget, attribute: str | None, left: Any, right: Any) -> Any:
    """`left * right`."""
    kinds = type(left), type(right)
    if kinds == (int, int):
        return checked_int(left * right, attribute)
    if kinds == (float, float):
        return left * right
    _refuse("*", attribute, left, right)


def divide(_: Budget, attribute: str | None, left: Any, right: Any) -> Any:
    """`left / right`; ints are cut off towards zero, a double divided by zero is infinite or NaN."""
    kinds = type(left), type(right)
    if kinds == (int, int):
        if right == 0:
            raise EvaluationError("divide_by_zero", attribute, "division by zero")
        quotient = abs(left) // abs(right)
        return checked_int(quotient if (left < 0) == (right < 0) else -quotient, attribute)
    if kinds == (float, float):
        if right == 0.0:
            return (
                math.nan
                if left == 0.0 or math.isnan(left)
                else math.copysign(math.inf, left) * math.copysign(1.0, right)
            )
        return left / right
    _refuse("/", attribute, left, right)


def modulo(_: Budget, attribute: str | None, left: Any, right: Any) -> Any:
    """`left % right` with the sign of the left."""
    if type(left) is not int or type(right) is not int:
        _refuse("%", attribute, left, right)
    if right == 0:
        raise EvaluationError("divide_by_zero", attribute, "modulus by zero")
    if right == -1:
        checked_int(-left, attribute)
    remainder = abs(left) % abs(right)
    return remainder if left >= 0 else -remainder


def negate(attribute: str | None, value: Any) -> Any:
    """`-value`."""
    if type(value) is int:
        return checked_int(-value, attribute)
    if type(value) is float:
        return -value
    raise wrong_type(attribute, f"`-` cannot take {name_of(value)}")


def _ordering(symbol: str, compare: Callable[[Any, Any], bool]) -> BinaryOperator:
    def ordered(budget: Budget, attribute: str | None, left: Any, right: Any) -> bool:
        kind = _ORDER.get(type(left))
        if kind is None or kind is not _ORDER.get(type(right)):
            _refuse(symbol, attribute, left, right)
        if kind == "string":
            budget.spend(min(weight(left), weight(right)), attribute)
        return compare(left, right)

    return ordered


def equal(budget: Budget, attribute: str | None, left: Any, right: Any) -> bool:
    """`left == right`."""
    try:
        return same(left, right, budget)
    except EvaluationError as error:
        raise EvaluationError(error.kind, attribute, error.detail) from None


def not_equal(budget: Budget, attribute: str | None, left: Any, right: Any) -> bool:
    """`left != right`."""
    return not equal(budget, attribute, left, right)


def contained(budget: Budget, attribute: str | None, left: Any, right: Any) -> bool:
    """`left in right`: an element of a list, a key of a map."""
    if type(right) is list:
        budget.spend(weight(right), attribute)
        return any(equal(budget, attribute, left, item) for item in right)
    if type(right) is dict and type(left) in {str, int, float, bool}:
        return type(left) is str and left in right
    _refuse("in", attribute, left, right)


BINARY: dict[str, BinaryOperator] = {
    "+": add,
    "-": subtract,
    "*": multiply,
    "/": divide,
    "%": modulo,
    "<": _ordering("<", operator.lt),
    "<=": _ordering("<=", operator.le),
    ">": _ordering(">", operator.gt),
    ">=": _ordering(">=", operator.ge),
    "==": equal,
    "!=": not_equal,
    "in": contained,
}
"""Symbol -> operator."""


def truth(attribute: str | None, value: Any) -> bool:
    """Return a value that has to be a bool."""
    if value is True or value is False:
        return value
    raise wrong_type(attribute, f"a bool is needed, found {name_of(value)}")


def conjunction(*operands: Callable[[], bool]) -> bool:
    """`a && b && ...`: false if any is false, else the first error, else true."""
    return _absorb(operands, decisive=False)


def disjunction(*operands: Callable[[], bool]) -> bool:
    """`a || b || ...`: true if any is true, else the first error, else false."""
    return _absorb(operands, decisive=True)


def _absorb(operands: tuple[Callable[[], bool], ...], *, decisive: bool) -> bool:
    first: EvaluationError | None = None
    for operand in operands:
        try:
            if operand() is decisive:
                return decisive
        except EvaluationError as error:
            first = first or error
    if first is not None:
        raise first
    return not decisive


def select(attribute: str | None, value: Any, field: str) -> Any:
    """`value.field`."""
    if type(value) is not dict:
        raise wrong_type(attribute, f"`.{field}` needs a map, found {name_of(value)}")
    try:
        return value[field]
    except KeyError:
        raise EvaluationError("no_such_key", attribute, f"there is no key `{field}`") from None


def has_field(attribute: str | None, value: Any, field: str) -> bool:
    """`has(value.field)`."""
    if type(value) is not dict:
        raise wrong_type(attribute, f"`.{field}` needs a map, found {name_of(value)}")
    return field in value


def index(attribute: str | None, value: Any, key: Any) -> Any:
    """`value[key]`: the elements of a list are counted from 0, and a whole double will do."""
    kind = type(key)
    if type(value) is dict:
        return _value_at(attribute, value, key)
    if type(value) is not list:
        raise wrong_type(attribute, f"`[]` needs a list or a map, found {name_of(value)}")
    if kind is not int and not (kind is float and key.is_integer()):
        raise wrong_type(attribute, f"the index of a list is an int, found {name_of(key)}")
    if not 0 <= key < len(value):
        raise EvaluationError("index_out_of_range", attribute, f"no element {key} in a list of {len(value)}")
    return value[int(key)]


def _value_at(attribute: str | None, value: dict[str, Any], key: Any) -> Any:
    if type(key) is str and key in value:
        return value[key]
    if type(key) not in {str, int, float, bool}:
        raise wrong_type(attribute, f"the key of a map is a string, found {name_of(key)}")
    raise EvaluationError("no_such_key", attribute, "there is no such key")


def map_of(attribute: str | None, entries: tuple[tuple[Any, Any], ...]) -> dict[str, Any]:
    """`{key: value, ...}`."""
    built: dict[str, Any] = {}
    for key, value in entries:
        if type(key) is not str:
            raise wrong_type(attribute, f"the key of a map is a string, found {name_of(key)}")
        if key in built:
            raise EvaluationError("invalid_argument", attribute, "a key of the map is there twice")
        built[key] = value
    return built
