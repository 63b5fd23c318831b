"""Type errors that are certain before any attribute is known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from policy_engine.language.condition.errors import ConditionError
from policy_engine.language.condition.function import ANY, FUNCTIONS, NUMBERS, STRING
from policy_engine.language.condition.syntax import (
    Binary,
    Call,
    Expression,
    Has,
    Index,
    ListLiteral,
    Literal,
    Logical,
    Macro,
    MapLiteral,
    Path,
    Select,
    Ternary,
    Unary,
    Variable,
)

_BOOL = frozenset({"bool"})
_INT = frozenset({"int"})
_LIST = frozenset({"list"})
_MAP = frozenset({"map"})
_CONTAINERS = _LIST | _MAP
_SCALARS = {bool: "bool", int: "int", float: "double", str: "string", type(None): "null"}

ARITHMETIC: Mapping[str, frozenset[tuple[str, str, str]]] = MappingProxyType(
    {
        "+": frozenset(
            {
                ("int", "int", "int"),
                ("double", "double", "double"),
                ("string", "string", "string"),
                ("list", "list", "list"),
                ("timestamp", "duration", "timestamp"),
                ("duration", "timestamp", "timestamp"),
                ("duration", "duration", "duration"),
            }
        ),
        "-": frozenset(
            {
                ("int", "int", "int"),
                ("double", "double", "double"),
                ("timestamp", "duration", "timestamp"),
                ("timestamp", "timestamp", "duration"),
                ("duration", "duration", "duration"),
            }
        ),
        "*": frozenset({("int", "int", "int"), ("double", "double", "double")}),
        "/": frozenset({("int", "int", "int"), ("double", "double", "double")}),
        "%": frozenset({("int", "int", "int")}),
    }
)
"""Operator -> the types it takes on the left and on the right, and the type it gives."""

_ORDERED = tuple(
    frozenset(group) for group in (("int", "double"), ("string",), ("bool",), ("timestamp",), ("duration",))
)

Types = frozenset[str]
"""The types that an expression can have: the one, or all of them where it depends on attributes."""


def check(root: Expression, source: str, types: Mapping[tuple[str, ...], str] | None = None) -> None:
    """Refuse what has no value whatever the request holds.

    Args:
        root: The condition.
        source: Its text.
        types: The types of the paths that are known: declared attributes and parameters. When they are given, a
            comparison for equality that can only be false is let through: the author of a parameter need not know the
            condition.

    Raises:
        ConditionError: An operator or function cannot take its operands, or the condition cannot be a bool.
    """
    checker = _Checker(source, types)
    checker.require(root, _BOOL, "a condition is a bool")


class _Checker:
    def __init__(self, source: str, types: Mapping[tuple[str, ...], str] | None) -> None:
        self._source = source
        self._types = types or {}
        self._equality = types is None

    def require(self, node: Expression, allowed: Types, rule: str) -> Types:
        """Return the possible types of a node, some of which are allowed."""
        found = self.infer(node)
        if not found & allowed:
            raise self._error(f"{rule}, found {_named(found)}", node)
        return found

    def _error(self, message: str, node: Expression) -> ConditionError:
        return ConditionError(message, source=self._source, offset=node.offset)

    def infer(self, node: Expression) -> Types:  # noqa: C901, PLR0912 - one case for each type of node
        """Return the types a node can have; raise ConditionError where there is none."""
        match node:
            case Literal():
                return frozenset({_SCALARS[type(node.value)]})
            case Path():
                known = self._types.get(node.segments)
                return ANY if known is None else frozenset({known})
            case Variable():
                return ANY
            case Select():
                self.require(node.operand, _MAP, f"`.{node.field}` needs a map")
                return ANY
            case Has():
                if isinstance(node.operand, Select):
                    self.infer(node.operand)
                return _BOOL
            case Index():
                return self._index(node)
            case Unary():
                if node.operator == "!":
                    self.require(node.operand, _BOOL, "`!` needs a bool")
                    return _BOOL
                return _certain(self.require(node.operand, NUMBERS, "`-` needs a number") & NUMBERS)
            case Binary():
                return self._binary(node)
            case Logical():
                for operand in node.operands:
                    self.require(operand, _BOOL, f"`{node.operator}` needs a bool")
                return _BOOL
            case Ternary():
                self.require(node.condition, _BOOL, "`?:` needs a bool")
                return _certain(self.infer(node.then) | self.infer(node.otherwise))
            case ListLiteral():
                for item in node.items:
                    self.infer(item)
                return _LIST
            case MapLiteral():
                for key, value in node.entries:
                    self.require(key, STRING, "the key of a map is a string")
                    self.infer(value)
                return _MAP
            case Call():
                return self._call(node)
            case Macro():
                return self._macro(node)

    def _index(self, node: Index) -> Types:
        container = self.require(node.operand, _CONTAINERS, "`[]` needs a list or a map")
        if container == _LIST:
            self.require(node.index, NUMBERS, "the index of a list is an int")
        elif container == _MAP:
            self.require(node.index, STRING, "the key of a map is a string")
        else:
            self.infer(node.index)
        return ANY

    def _binary(self, node: Binary) -> Types:
        left, right = self.infer(node.left), self.infer(node.right)
        operator = node.operator
        if operator in ARITHMETIC:
            found = {result for first, second, result in ARITHMETIC[operator] if first in left and second in right}
            if not found:
                raise self._mismatch(node, left, right)
            return _certain(found)
        if operator == "in":
            if not right & _CONTAINERS:
                raise self._error(f"`in` needs a list or a map on the right, found {_named(right)}", node.right)
        elif operator in {"==", "!="}:
            if self._equality and _never_equal(left, right):
                raise self._mismatch(node, left, right)
        elif not any(group & left and group & right for group in _ORDERED):
            raise self._mismatch(node, left, right)
        return _BOOL

    def _mismatch(self, node: Binary, left: Types, right: Types) -> ConditionError:
        message = f"`{node.operator}` cannot take {_named(left)} and {_named(right)}"
        return self._error(message, node.right)

    def _call(self, node: Call) -> Types:
        function = FUNCTIONS[node.function]
        for position, (argument, allowed) in enumerate(zip(node.arguments, function.parameters, strict=False)):
            found = self.require(argument, allowed, f"`{node.function}` cannot take this")
            if position == 0 and len(node.arguments) > 1 and found == frozenset({"duration"}):
                raise self._error(f"`{node.function}` of a duration takes no time zone", node.arguments[1])
        return frozenset({function.result})

    def _macro(self, node: Macro) -> Types:
        self.require(node.range, _CONTAINERS, f"`{node.function}` needs a list or a map")
        if node.predicate is not None:
            self.require(node.predicate, _BOOL, f"the condition of `{node.function}` is a bool")
        if node.function in {"map", "filter"}:
            self.infer(node.body)
            return _LIST
        self.require(node.body, _BOOL, f"the condition of `{node.function}` is a bool")
        return _BOOL


def _never_equal(left: Types, right: Types) -> bool:
    both = left | right
    return not left & right and not (left & NUMBERS and right & NUMBERS) and "null" not in both


def _certain(types: Iterable[str]) -> Types:
    """Return the one type, or ANY where there are several: only what is certain is an error."""
    found = frozenset(types)
    return found if len(found) == 1 else ANY


def _named(types: Types) -> str:
    return next(iter(types)) if len(types) == 1 else "a value"
