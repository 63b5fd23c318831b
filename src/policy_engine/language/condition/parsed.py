"""A condition that is well formed, and what can be told from its text alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from policy_engine.language.condition import tree
from policy_engine.language.condition.errors import ConditionError
from policy_engine.language.condition.lexer import tokenize
from policy_engine.language.condition.parser import MAX_DEPTH, Parser, too_deep
from policy_engine.language.condition.static import check
from policy_engine.language.condition.syntax import Expression, Literal, Path

MAX_SOURCE_BYTES = 4096
MAX_TERMS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedCondition:
    """A condition that is well formed.

    Attributes:
        source: The text.
        root: The syntax tree.
        paths: The distinct names that are read, as written, in order of their first appearance.
        mixes_and_or: Whether AND and OR stand beside each other without parentheses.
        shape: The tokens with numbers and strings blanked: two conditions of one shape differ in those alone.
        literals: The numbers and strings, in source order.
    """

    source: str
    root: Expression
    paths: tuple[Path, ...]
    mixes_and_or: bool
    shape: str
    literals: tuple[Literal, ...]


@lru_cache(maxsize=16384)
def parse(source: str) -> ParsedCondition:
    """Return the syntax tree of a condition and what can be told from it alone.

    Raises:
        ConditionError: The text is not a condition, is too large, or cannot have a value whatever the attributes are.
    """
    if len(source.encode("utf-8", "surrogatepass")) > MAX_SOURCE_BYTES:
        raise ConditionError(f"a condition has at most {MAX_SOURCE_BYTES} bytes", source=source, offset=0)
    tokens = tokenize(source)
    parser = Parser(source, tokens)
    root = parser.parse()
    paths, literals = _survey(source, root)
    check(root, source)
    return ParsedCondition(
        source=source,
        root=root,
        paths=paths,
        mixes_and_or=parser.mixes_and_or,
        shape=" ".join([f"#{token.kind}" if token.value is not None else token.text for token in tokens]),
        literals=literals,
    )


def _survey(source: str, root: Expression) -> tuple[tuple[Path, ...], tuple[Literal, ...]]:
    """Return the distinct paths, and the numbers and strings, in source order; refuse a tree that is too large."""
    paths: dict[tuple[str, ...], Path] = {}
    literals: list[Literal] = []
    for count, (node, depth) in enumerate(tree.walk(root), 1):
        if depth > MAX_DEPTH:
            raise too_deep(source, node.offset)
        if count > MAX_TERMS:
            message = f"a condition has at most {MAX_TERMS} terms"
            raise ConditionError(message, source=source, offset=node.offset)
        if isinstance(node, Path):
            paths.setdefault(node.segments, node)
        elif isinstance(node, Literal) and node.value is not None and not isinstance(node.value, bool):
            literals.append(node)
    return tuple(paths.values()), tuple(literals)
