"""Conditions, evaluated by walking the tree: slow, plain, and knowing nothing of the compiler."""

from __future__ import annotations

import math
from typing import Any

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
    Path,
    Ternary,
    Unary,
)

ALIASES = {
    f"{long}_{end}": f"{short}_{end}"
    for long, short in {"source": "src", "destination": "dst", "dest": "dst"}.items()
    for end in ("ip", "port", "type")
}
CLOCK = {"now", "current_hour", "current_minute", "current_day_of_week", "current_timestamp"}
INT64 = 2**63
_NOTHING = object()


class Failure(Exception):  # noqa: N818 - what the documents call an evaluation error
    """An evaluation error: its kind and the attribute that is to blame."""

    def __init__(self, kind: str, attribute: str | None) -> None:
        super().__init__(kind, attribute)
        self.kind = kind
        self.attribute = attribute


class Scope:
    """Where names are looked up, in this order."""

    def __init__(
        self, parameters: dict[str, Any], facts: dict[str, Any], context: dict[str, Any], declared: dict[str, str]
    ) -> None:
        self.parameters = parameters
        self.facts = facts
        self.context = context
        self.declared = declared


def holds(source: str, scope: Scope) -> bool:
    """Return the value of a condition; raise Failure."""
    root = parse(source).root
    return truth(root, scope)


def walk(value: Any, segments: tuple[str, ...]) -> Any:
    for segment in segments:
        if not isinstance(value, dict) or segment not in value:
            return _NOTHING
        value = value[segment]
    return value


def blame(node: Any, scope: Scope) -> str | None:
    """Return the first name in a subtree, in the order of the text, that is no parameter."""
    paths = sorted(_paths(node), key=lambda path: path.offset)
    for path in paths:
        if walk(scope.parameters, path.segments) is _NOTHING:
            return canonical(path)
    return None


def canonical(path: Path) -> str:
    return ALIASES.get(path.dotted, path.dotted)


def _paths(node: Any) -> list[Path]:
    if isinstance(node, Path):
        return [node]
    found: list[Path] = []
    for name in getattr(node, "__dataclass_fields__", ()):
        value = getattr(node, name)
        for part in value if isinstance(value, tuple) else (value,):
            found += _paths(part) if hasattr(part, "__dataclass_fields__") else []
    return found


def evaluate(node: Expression, scope: Scope) -> Any:
    match node:
        case Literal():
            return node.value
        case Path():
            return read(node, scope)
        case Has():
            assert isinstance(node.operand, Path)
            return is_there(node.operand, scope)
        case ListLiteral():
            return [evaluate(item, scope) for item in node.items]
        case Ternary():
            chosen = evaluate(node.condition, scope)
            if not isinstance(chosen, bool):
                raise Failure("wrong_type", blame(node, scope))
            return evaluate(node.then if chosen else node.otherwise, scope)
        case Logical():
            return logical(node, scope)
        case Unary():
            return unary(node, evaluate(node.operand, scope), scope)
        case Binary():
            left = evaluate(node.left, scope)
            return binary(node, left, evaluate(node.right, scope), scope)
        case Index():
            return index(node, evaluate(node.operand, scope), evaluate(node.index, scope), scope)
        case Call():
            return call(node, [evaluate(argument, scope) for argument in node.arguments], scope)
    raise AssertionError(node)


def read(path: Path, scope: Scope) -> Any:
    bound = walk(scope.parameters, path.segments)
    if bound is not _NOTHING:
        return bound
    name = canonical(path)
    value = scope.facts[name] if name in scope.facts else from_context(name, scope)
    check(value, name)
    return declared(value, name, scope)


def from_context(name: str, scope: Scope) -> Any:
    if name in CLOCK:
        raise Failure("missing", name)
    value: Any = scope.context
    for segment in name.split("."):
        if not isinstance(value, dict):
            raise Failure("wrong_type", name)
        if segment not in value:
            raise Failure("missing", name)
        value = value[segment]
    return value


def check(value: Any, name: str) -> None:
    if isinstance(value, int) and not isinstance(value, bool) and not -INT64 <= value < INT64:
        raise Failure("overflow", name)
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        check(item, name)


def declared(value: Any, name: str, scope: Scope) -> Any:
    wanted = scope.declared.get(name, "any")
    if wanted == "double" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    kinds = {"int": int, "double": float, "string": str, "bool": bool, "list": list, "map": dict}
    if wanted != "any" and type(value) is not kinds[wanted]:
        raise Failure("wrong_type", name)
    return value


def is_there(path: Path, scope: Scope) -> bool:
    if walk(scope.parameters, path.segments) is not _NOTHING or canonical(path) in scope.facts:
        return True
    around: Any = scope.context
    for segment in path.segments[:-1]:
        if not isinstance(around, dict):
            raise Failure("wrong_type", path.dotted)
        if segment not in around:
            if isinstance(walk(scope.parameters, path.segments[:-1]), dict):
                return False  # the map around the name is there: it is a parameter
            raise Failure("missing", path.dotted)
        around = around[segment]
    if not isinstance(around, dict):
        raise Failure("wrong_type", path.dotted)
    return path.segments[-1] in around


def logical(node: Logical, scope: Scope) -> bool:
    settles = node.operator == "||"
    first: Failure | None = None
    for operand in node.operands:
        try:
            value = truth(operand, scope)
        except Failure as failure:
            first = first or failure
            continue
        if value is settles:
            return settles
    if first is not None:
        raise first
    return not settles


def truth(operand: Expression, scope: Scope) -> bool:
    value = evaluate(operand, scope)
    if not isinstance(value, bool):
        raise Failure("wrong_type", blame(operand, scope))
    return value


def number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def unary(node: Unary, value: Any, scope: Scope) -> Any:
    if node.operator == "!" and isinstance(value, bool):
        return not value
    if node.operator == "-" and number(value):
        return fits(-value, node, scope)
    raise Failure("wrong_type", blame(node, scope))


def fits(value: Any, node: Any, scope: Scope) -> Any:
    if isinstance(value, int) and not -INT64 <= value < INT64:
        raise Failure("overflow", blame(node, scope))
    return value


def binary(node: Binary, left: Any, right: Any, scope: Scope) -> Any:
    operator = node.operator
    if operator == "==":
        return equal(left, right)
    if operator == "!=":
        return not equal(left, right)
    if operator == "in":
        if isinstance(right, list):
            return any(equal(left, item) for item in right)
        if isinstance(right, dict):
            return isinstance(left, str) and left in right
        raise Failure("wrong_type", blame(node, scope))
    if operator in {"<", "<=", ">", ">="}:
        comparable = (number(left) and number(right)) or (type(left) is type(right) and type(left) in {str, bool})
        if not comparable:
            raise Failure("wrong_type", blame(node, scope))
        return {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[operator]
    return arithmetic(node, left, right, scope)


def equal(left: Any, right: Any) -> bool:
    if number(left) and number(right):
        return bool(left == right)
    if type(left) is not type(right):
        return False
    if isinstance(left, list):
        return len(left) == len(right) and all(equal(one, other) for one, other in zip(left, right, strict=True))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(equal(left[key], right[key]) for key in left)
    return bool(left == right)


def arithmetic(node: Binary, left: Any, right: Any, scope: Scope) -> Any:
    operator = node.operator
    if type(left) is not type(right) or type(left) not in {int, float, str} or (type(left) is str and operator != "+"):
        raise Failure("wrong_type", blame(node, scope))
    if operator == "+":
        return fits(left + right, node, scope)
    if operator == "-":
        return fits(left - right, node, scope)
    if operator == "*":
        return fits(left * right, node, scope)
    if isinstance(left, float):
        if operator == "%":
            raise Failure("wrong_type", blame(node, scope))
        return left / right if right else math.nan if left == 0 or math.isnan(left) else math.copysign(math.inf, left)
    if right == 0:
        raise Failure("divide_by_zero", blame(node, scope))
    quotient = abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)
    return fits(quotient if operator == "/" else left - quotient * right, node, scope)


def index(node: Index, value: Any, place: Any, scope: Scope) -> Any:
    if isinstance(value, list) and isinstance(place, int) and not isinstance(place, bool):
        if not 0 <= place < len(value):
            raise Failure("index_out_of_range", blame(node, scope))
        return value[place]
    if isinstance(value, dict):  # the generator looks for no key that is there
        raise Failure("no_such_key", blame(node, scope))
    raise Failure("wrong_type", blame(node, scope))


def call(node: Call, arguments: list[Any], scope: Scope) -> Any:
    if node.function == "size" and isinstance(arguments[0], (str, list, dict)):
        return len(arguments[0])
    if all(isinstance(argument, str) for argument in arguments) and len(arguments) == 2:
        text, part = arguments
        return {
            "startsWith": text.startswith(part),
            "endsWith": text.endswith(part),
            "contains": part in text,
        }[node.function]
    raise Failure("wrong_type", blame(node, scope))
