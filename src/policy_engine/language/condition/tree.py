"""Walks over the syntax tree that need no knowledge of what a node means."""

from __future__ import annotations

from collections.abc import Iterator

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


def children(node: Expression) -> tuple[Expression, ...]:
    """Return the direct operands of a node in source order."""
    match node:
        case Literal() | Path() | Variable():
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
        case Macro():
            if node.predicate is None:
                return (node.range, node.body)
            return (node.range, node.predicate, node.body)


def walk(root: Expression) -> Iterator[tuple[Expression, int]]:
    """Yield every node in source order with its depth, the root's being 1; without recursion."""
    stack = [(root, 1)]
    while stack:
        node, depth = stack.pop()
        yield node, depth
        stack.extend((child, depth + 1) for child in reversed(children(node)))
