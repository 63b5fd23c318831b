"""The syntax tree of a condition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

Scalar: TypeAlias = bool | int | float | str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What every node has: where it starts in the source, as an offset in characters from 0."""

    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Literal(Node):
    """A constant: null, a boolean, an int64, a double or a string."""

    value: Scalar


@dataclass(frozen=True, slots=True, kw_only=True)
class Path(Node):
    """A name, or a chain of names (`client.trust_score`), that is resolved as a whole.

    A chain whose root is the variable of an enclosing macro is not a `Path` but `Select` over `Variable`.
    """

    segments: tuple[str, ...]

    @property
    def dotted(self) -> str:
        """The path as it is written."""
        return ".".join(self.segments)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable(Node):
    """The variable that an enclosing macro binds."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Select(Node):
    """`operand.field` where the operand is not itself a path."""

    operand: Expression
    field: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Has(Node):
    """`has(a.b)`: whether the last segment is there. The operand is a `Path` of two or more segments, or a `Select`."""

    operand: Path | Select


@dataclass(frozen=True, slots=True, kw_only=True)
class Index(Node):
    """`operand[index]`."""

    operand: Expression
    index: Expression


@dataclass(frozen=True, slots=True, kw_only=True)
class Unary(Node):
    """`!x` or `-x`; the operator is `!` or `-`."""

    operator: str
    operand: Expression


@dataclass(frozen=True, slots=True, kw_only=True)
class Binary(Node):
    """An arithmetic operator, a comparison or `in`: one of `+ - * / % < <= > >= == != in`."""

    operator: str
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True, kw_only=True)
class Logical(Node):
    """`&&` or `||` over two or more operands, flattened: `a && b && c` is one node, `(a && b) && c` too."""

    operator: str
    operands: tuple[Expression, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ternary(Node):
    """`condition ? then : otherwise`."""

    condition: Expression
    then: Expression
    otherwise: Expression


@dataclass(frozen=True, slots=True, kw_only=True)
class ListLiteral(Node):
    """`[a, b]`."""

    items: tuple[Expression, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MapLiteral(Node):
    """`{"a": 1}`; keys are strings."""

    entries: tuple[tuple[Expression, Expression], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Node):
    """A function or method call; for a method the receiver is the first argument (`s.startsWith("a")`)."""

    function: str
    arguments: tuple[Expression, ...]
    method: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Macro(Node):
    """`range.all(x, body)` and its family: all, exists, exists_one, filter, and map with two or three arguments.

    `filter` and the three-argument `map` put their predicate in `predicate`; `body` is then the element (for `filter`
    the variable itself).
    """

    function: str
    range: Expression
    variable: str
    body: Expression
    predicate: Expression | None


Expression: TypeAlias = (
    Literal
    | Path
    | Variable
    | Select
    | Has
    | Index
    | Unary
    | Binary
    | Logical
    | Ternary
    | ListLiteral
    | MapLiteral
    | Call
    | Macro
)
