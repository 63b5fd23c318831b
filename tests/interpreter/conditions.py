"""What a condition means, by walking its tree: no constants folded, nothing compiled, every name looked up anew."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NoReturn

from policy_engine.language.condition import parse
from policy_engine.language.condition.syntax import (
    Binary,
    Call,
    Expression,
    Has,
    Index,
    ListLiteral,
    Literal,
    Logical,
    MapLiteral,
    Path,
    Select,
    Ternary,
    Unary,
)

INT_MIN, INT_MAX = -(2**63), 2**63 - 1
RESERVED = ("now", "current_hour", "current_minute", "current_day_of_week", "current_timestamp")
ALIASES = {
    "source_ip": "src_ip",
    "source_port": "src_port",
    "source_type": "src_type",
    "destination_ip": "dst_ip",
    "dest_ip": "dst_ip",
    "destination_port": "dst_port",
    "dest_port": "dst_port",
    "destination_type": "dst_type",
    "dest_type": "dst_type",
}
ABSENT = object()
KEY_TYPES = ("bool", "int", "double", "string")
"""What a map may be asked for; all its keys are strings."""
PYTHON_TYPES = {"bool": bool, "int": int, "double": float, "string": str, "list": list, "map": dict}


class Failure(Exception):  # noqa: N818 - a value of the language, as much as true and false
    """An evaluation error: its kind and the attribute to blame."""

    def __init__(self, kind: str, attribute: str | None) -> None:
        super().__init__(kind, attribute)
        self.kind = kind
        self.attribute = attribute


@cache
def tree(source: str) -> Expression:
    return parse(source).root


def spelled(segments: tuple[str, ...]) -> str:
    dotted = ".".join(segments)
    return ALIASES.get(dotted, dotted)


def walk(value: Any, segments: tuple[str, ...]) -> Any:
    """Return what is at the end of a path, or ABSENT where a map lacks the key or something is no map."""
    for segment in segments:
        if not isinstance(value, dict) or segment not in value:
            return ABSENT
        value = value[segment]
    return value


def type_name(value: Any) -> str:
    if value is None:
        return "null"
    return next(name for name, kind in PYTHON_TYPES.items() if isinstance(value, kind))


def same(left: Any, right: Any) -> bool:
    """Equality of the language: by value between numbers, false between other types."""
    kinds = {type_name(left), type_name(right)}
    if len(kinds) == 2 and kinds != {"int", "double"}:
        return False
    if isinstance(left, list):
        return len(left) == len(right) and all(same(one, other) for one, other in zip(left, right, strict=True))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(item, right[key]) for key, item in left.items())
    return bool(left == right)


def beyond_int64(value: Any) -> bool:
    if isinstance(value, dict):
        return any(beyond_int64(item) for item in value.values())
    if isinstance(value, list):
        return any(beyond_int64(item) for item in value)
    return isinstance(value, int) and not INT_MIN <= value <= INT_MAX


def children(node: Expression) -> tuple[Expression, ...]:
    """The parts of a node in source order."""
    match node:
        case Literal() | Path():
            return ()
        case Select() | Has() | Unary():
            return (node.operand,)
        case Index():
            return (node.operand, node.index)
        case Binary():
            return (node.left, node.right)
        case Logical():
            return node.operands
        case Ternary():
            return (node.condition, node.then, node.otherwise)
        case ListLiteral():
            return node.items
        case MapLiteral():
            return tuple(part for entry in node.entries for part in entry)
        case Call():
            return node.arguments
    raise AssertionError(f"the generator makes no {type(node).__name__}")


def paths(node: Expression) -> Iterator[Path]:
    if isinstance(node, Path):
        yield node
    for child in children(node):
        yield from paths(child)


class Evaluator:
    """Evaluates conditions of one rule for one request."""

    def __init__(
        self,
        parameters: Mapping[str, Any],
        facts: Mapping[str, Any],
        context: Mapping[str, Any],
        attributes: Mapping[str, str],
    ) -> None:
        self._parameters = dict(parameters)
        self._facts = facts
        self._context = dict(context)
        self._attributes = attributes

    def holds(self, sources: list[str]) -> bool:
        """Whether all conditions are true.

        Raises:
            Failure: An error comes out, or something that is no boolean.
        """
        return self._all([tree(source) for source in sources], absorbing=False)

    def value(self, node: Expression) -> Any:
        match node:
            case Literal():
                return node.value
            case Path():
                return self._read(node.segments)
            case Select():
                return self._select(node)
            case Has():
                return self._has(node)
            case Index():
                return self._index(node)
            case Unary():
                return self._unary(node)
            case Binary():
                return self._binary(node)
            case Logical():
                return self._all(list(node.operands), absorbing=node.operator == "||")
            case Ternary():
                chosen = node.then if self._bool(node.condition, node) else node.otherwise
                return self.value(chosen)
            case ListLiteral():
                return [self.value(item) for item in node.items]
            case Call():
                return self._call(node)
        raise AssertionError(f"the generator makes no {type(node).__name__}")

    def _fail(self, kind: str, node: Expression) -> NoReturn:
        for path in paths(node):
            if walk(self._parameters, path.segments) is ABSENT:
                raise Failure(kind, spelled(path.segments))
        raise Failure(kind, None)

    def _bool(self, node: Expression, blamed: Expression) -> bool:
        value = self.value(node)
        if not isinstance(value, bool):
            self._fail("wrong_type", blamed)
        return value

    def _all(self, operands: list[Expression], *, absorbing: bool) -> bool:
        first: Failure | None = None
        for operand in operands:
            try:
                if self._bool(operand, operand) is absorbing:
                    return absorbing
            except Failure as failure:
                first = first or failure
        if first is not None:
            raise first
        return not absorbing

    def _read(self, segments: tuple[str, ...]) -> Any:
        value = walk(self._parameters, segments)
        if value is not ABSENT:
            return value
        path = spelled(segments)
        value = self._found(path)
        declared = self._attributes.get(path, "any")
        if beyond_int64(value):
            raise Failure("overflow", path)
        if declared == "any":
            return value
        if declared == "double" and type_name(value) == "int":
            return float(value)
        if type_name(value) != declared:
            raise Failure("wrong_type", path)
        return value

    def _found(self, path: str) -> Any:
        if path in self._facts:
            return self._facts[path]
        segments = path.split(".")
        if segments[0] in RESERVED:
            raise Failure("missing", path)
        value: Any = self._context
        for segment in segments:
            if not isinstance(value, dict):
                raise Failure("wrong_type", path)
            if segment not in value:
                raise Failure("missing", path)
            value = value[segment]
        return value

    def _has(self, node: Has) -> bool:
        if isinstance(node.operand, Select):
            holder = self.value(node.operand.operand)
            if not isinstance(holder, dict):
                self._fail("wrong_type", node)
            return node.operand.field in holder
        segments = node.operand.segments
        if walk(self._parameters, segments) is not ABSENT or spelled(segments) in self._facts:
            return True
        try:
            holder = self._found(spelled(segments[:-1]))
        except Failure as failure:
            if failure.kind == "missing" and isinstance(walk(self._parameters, segments[:-1]), dict):
                return False
            raise Failure(failure.kind, spelled(segments)) from None
        if not isinstance(holder, dict):
            raise Failure("wrong_type", spelled(segments))
        return segments[-1] in holder

    def _select(self, node: Select) -> Any:
        holder = self.value(node.operand)
        if not isinstance(holder, dict):
            self._fail("wrong_type", node)
        if node.field not in holder:
            self._fail("no_such_key", node)
        return holder[node.field]

    def _index(self, node: Index) -> Any:
        holder, index = self.value(node.operand), self.value(node.index)
        kinds = (type_name(holder), type_name(index))
        if kinds[0] == "list" and kinds[1] in ("int", "double") and index % 1 == 0:
            if not 0 <= index < len(holder):
                self._fail("index_out_of_range", node)
            return holder[int(index)]
        if kinds[0] != "map" or kinds[1] not in KEY_TYPES:
            self._fail("wrong_type", node)
        if not isinstance(index, str) or index not in holder:
            self._fail("no_such_key", node)
        return holder[index]

    def _unary(self, node: Unary) -> Any:
        if node.operator == "!":
            return not self._bool(node.operand, node)
        value = self.value(node.operand)
        if type_name(value) == "double":
            return -value
        if type_name(value) != "int":
            self._fail("wrong_type", node)
        return self._int64(-value, node)

    def _int64(self, value: int, node: Expression) -> int:
        if not INT_MIN <= value <= INT_MAX:
            self._fail("overflow", node)
        return value

    def _binary(self, node: Binary) -> Any:
        left, right = self.value(node.left), self.value(node.right)
        operator = node.operator
        if operator in ("==", "!="):
            return same(left, right) is (operator == "==")
        if operator == "in":
            return self._contained(left, right, node)
        kinds = (type_name(left), type_name(right))
        if operator in ("<", "<=", ">", ">="):
            if kinds not in {("string", "string"), ("bool", "bool")} and not set(kinds) <= {"int", "double"}:
                self._fail("wrong_type", node)
            return {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[operator]
        if operator == "+" and kinds in {("string", "string"), ("list", "list")}:
            return left + right
        if kinds == ("int", "int"):
            return self._whole(operator, left, right, node)
        if kinds != ("double", "double") or operator == "%":
            self._fail("wrong_type", node)
        return self._real(operator, left, right)

    def _contained(self, item: Any, holder: Any, node: Binary) -> bool:
        if isinstance(holder, list):
            return any(same(item, element) for element in holder)
        if not isinstance(holder, dict) or type_name(item) not in KEY_TYPES:
            self._fail("wrong_type", node)
        return isinstance(item, str) and item in holder

    def _whole(self, operator: str, left: int, right: int, node: Binary) -> int:
        if operator in "/%":
            if right == 0:
                self._fail("divide_by_zero", node)
            quotient = abs(left) // abs(right)
            quotient = self._int64(-quotient if (left < 0) != (right < 0) else quotient, node)
            return quotient if operator == "/" else left - right * quotient
        return self._int64({"+": left + right, "-": left - right, "*": left * right}[operator], node)

    def _real(self, operator: str, left: float, right: float) -> float:
        if operator != "/":
            return {"+": left + right, "-": left - right, "*": left * right}[operator]
        if right:
            return left / right
        if not left or left != left:  # noqa: PLR0124 - NaN
            return float("nan")
        sign = (left < 0) != str(right).startswith("-")
        return float("-inf") if sign else float("inf")

    def _call(self, node: Call) -> Any:
        values = [self.value(argument) for argument in node.arguments]
        kinds = [type_name(value) for value in values]
        if node.function in ("int", "double"):
            return self._converted(node, values[0], kinds[0])
        match node.function, kinds:
            case "size", ["string" | "list" | "map"]:
                return len(values[0])
            case "startsWith", ["string", "string"]:
                return values[0].startswith(values[1])
            case "endsWith", ["string", "string"]:
                return values[0].endswith(values[1])
            case "contains", ["string", "string"]:
                return values[1] in values[0]
        assert node.function in ("size", "startsWith", "endsWith", "contains"), node.function
        return self._fail("wrong_type", node)

    def _converted(self, node: Call, value: Any, kind: str) -> Any:
        if kind == "string":
            digits = r"-?[0-9]+" if node.function == "int" else r"-?[0-9]+(\.[0-9]+)?"
            if re.fullmatch(digits, value) is None:
                self._fail("invalid_argument", node)
            return self._int64(int(value), node) if node.function == "int" else float(value)
        if kind not in ("int", "double"):
            self._fail("wrong_type", node)
        if node.function == "double":
            return float(value)
        if not INT_MIN <= value <= INT_MAX:
            self._fail("overflow", node)
        return int(value)
