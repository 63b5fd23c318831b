"""Generated code that gives every condition its exact value or its exact error, one call for each operator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from policy_engine.language.condition import tree
from policy_engine.language.condition.slots import Scope, Slots
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

BINARY_NAMES = {
    "+": "add",
    "-": "subtract",
    "*": "multiply",
    "/": "divide",
    "%": "modulo",
    "<": "less",
    "<=": "less_equal",
    ">": "greater",
    ">=": "greater_equal",
    "==": "equal",
    "!=": "not_equal",
    "in": "contained",
}
"""Operator -> the name it has in generated code."""

_LOGICAL_NAMES = {"&&": "conjunction", "||": "disjunction"}
_MACRO_NAMES = {"all": "all_exact", "exists": "exists_exact", "exists_one": "exists_one"}


class ExactWriter:
    """Writes an expression as Python."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.slots = Slots(scope)
        self.budget = "n" if scope.metered else "UNLIMITED"
        self._variables: list[tuple[str, str]] = []
        self._count = 0

    def function(self, root: Expression) -> str:
        """Return the source of `make(k0, k1, ...)`, which returns the function of context and facts."""
        result = self.truth(root, root)
        budget = "        n = Budget()\n" if self.scope.metered else ""
        return (
            f"def make({', '.join(self.parameters())}):\n"
            "    def evaluate(context, facts):\n"
            f"{budget}"
            "        r = Reader(context, facts)\n"
            f"        return {result}\n"
            "    return evaluate\n"
        )

    def parameters(self) -> list[str]:
        """Return the names of the slots."""
        return [f"k{index}" for index in range(len(self.slots.recipes))]

    def blame(self, node: Expression) -> str:
        """Return the slot of the attribute that an error of an operator names: the first one below it."""
        for found, _ in tree.walk(node):
            if isinstance(found, Path) and found.segments in self.scope.attributes:
                return self.slots.static(self.scope.attributes[found.segments].dotted)
        return "None"

    def truth(self, node: Expression, blamed: Expression) -> str:
        """Return the text of an operand that has to be a bool."""
        return f"truth({self.blame(blamed)}, {self.value(node)})"

    def value(self, node: Expression) -> str:  # noqa: C901, PLR0912 - one case for each type of node
        """Return the text of an expression; its value is of one of the nine types."""
        constant = self.slots.constant(node)
        if constant is not None:
            return constant[0]
        match node:
            case Path():
                return self.path(node)
            case Variable():
                return next(text for name, text in reversed(self._variables) if name == node.name)
            case Select():
                return f"select({self.blame(node)}, {self.value(node.operand)}, {self.slots.static(node.field)})"
            case Has():
                return self._has(node)
            case Index():
                return f"index({self.blame(node)}, {self.value(node.operand)}, {self.value(node.index)})"
            case Unary():
                return self.unary(node)
            case Binary():
                return self.binary(node)
            case Logical():
                return self.logical(node)
            case Ternary():
                condition = self.truth(node.condition, node)
                return f"({self.value(node.then)} if {condition} else {self.value(node.otherwise)})"
            case ListLiteral():
                return f"[{', '.join(self.value(item) for item in node.items)}]"
            case MapLiteral():
                entries = "".join(f"({self.value(key)}, {self.value(value)}), " for key, value in node.entries)
                return f"map_of({self.blame(node)}, ({entries}))"
            case Call():
                return self.call(node)
            case Macro():
                return self._macro(node)
            case Literal():  # pragma: no cover - every literal is a constant
                raise AssertionError(node)

    def path(self, node: Path) -> str:
        """Return the text of a name that is read at run time."""
        return f"r({self.slots.static(self.scope.attributes[node.segments])})"

    def _has(self, node: Has) -> str:
        operand = node.operand
        if isinstance(operand, Select):
            field = self.slots.static(operand.field)
            return f"has_field({self.blame(node)}, {self.value(operand.operand)}, {field})"
        if operand.segments in self.scope.parameters:
            return "True"
        attribute = self.slots.static(self.scope.attributes[operand.segments])
        parent = self.slots.static(self.scope.parents[operand.segments])
        return f"present({attribute}, {parent}, context, facts)"

    def unary(self, node: Unary) -> str:
        """Return the text of a negation."""
        if node.operator == "!":
            return f"(not {self.truth(node.operand, node)})"
        return f"negate({self.blame(node)}, {self.value(node.operand)})"

    def binary(self, node: Binary) -> str:
        """Return the text of an arithmetic operator or a comparison."""
        left, right = self.value(node.left), self.value(node.right)
        return f"{BINARY_NAMES[node.operator]}({self.budget}, {self.blame(node)}, {left}, {right})"

    def logical(self, node: Logical) -> str:
        """Return the text of `&&` or `||`."""
        operands = ", ".join(f"lambda: {self.truth(operand, operand)}" for operand in node.operands)
        return f"{_LOGICAL_NAMES[node.operator]}({operands})"

    def call(self, node: Call) -> str:
        """Return the text of a call."""
        if node.function == "matches":
            pattern = self.slots.pattern(node.arguments[1])
            if pattern is not None:
                return f"search({self.budget}, {self.blame(node)}, {self.value(node.arguments[0])}, {pattern})"
        arguments = ", ".join(self.value(argument) for argument in node.arguments)
        return f"call_{node.function}({self.budget}, {self.blame(node)}, {arguments})"

    def macro_name(self, node: Macro) -> str:
        """Return the name of the function that runs a macro of a single test."""
        return _MACRO_NAMES[node.function]

    def _macro(self, node: Macro) -> str:
        blame, collection = self.blame(node), self.value(node.range)
        with self.variable(node.variable) as variable:
            if node.function in _MACRO_NAMES:
                test = f"lambda {variable}: {self.truth(node.body, node)}"
                return f"{self.macro_name(node)}({self.budget}, {blame}, {collection}, {test})"
            test = "None" if node.predicate is None else f"lambda {variable}: {self.truth(node.predicate, node)}"
            body = f"lambda {variable}: {self.value(node.body)}"
            return f"select_map({self.budget}, {blame}, {collection}, {test}, {body})"

    @contextmanager
    def variable(self, name: str) -> Iterator[str]:
        """Bind the variable of a macro to a fresh Python name."""
        text = f"x{len(self._variables)}"
        self._variables.append((name, text))
        yield text
        self._variables.pop()

    @property
    def in_macro(self) -> bool:
        """Whether the text being written is the body of a macro."""
        return bool(self._variables)

    def fresh(self) -> str:
        """Return a Python name for an intermediate value."""
        self._count += 1
        return f"v{self._count}"
