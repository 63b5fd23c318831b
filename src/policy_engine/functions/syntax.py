"""Source to syntax tree, in a time that no source can stretch: nothing is run."""

from __future__ import annotations

import ast
import warnings
from itertools import islice
from threading import Lock

MAX_NODES = 20_000
"""How many parts a source may have; 64 KB of ordinary code have about half of that."""

MAX_DEPTH = 200
MAX_SCOPES_DEEP = 12
"""How deep functions, classes and comprehensions may nest: each hands on the names of those around it."""

MAX_BRACES = 4000
"""How many `{` a source may have: each may begin an expression in a string, which is slow to read."""

_SCOPES = (
    *(ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef),
    *(ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp),
)
_MOST: tuple[tuple[tuple[type[ast.AST], ...], int, str], ...] = (
    (_SCOPES, 200, "functions, classes and comprehensions"),
    ((ast.keyword,), 1000, "named arguments"),
    ((ast.MatchAs, ast.MatchStar), 200, "names in patterns"),
)
"""Of what there may be how many, because the compiler takes the square of that."""

_silence = Lock()
"""What is said of warnings is the process's: one at a time may change it."""


class SourceBoundError(Exception):
    """A source is too large or too deep to be looked at; the text says in what way."""


def parse(code: str) -> tuple[ast.Module, list[ast.AST]]:
    """Return the tree of a source and all its nodes, outer ones first.

    Raises:
        SourceBoundError: It has too much of something.
        SyntaxError, ValueError: It is no Python.
        RecursionError, MemoryError: It is nested too deep.
    """
    if code.count("{") > MAX_BRACES:
        raise SourceBoundError(f"the source has more than {MAX_BRACES} braces")
    with _silence, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(code)
    nodes = _nodes(tree)
    for kinds, most, what in _MOST:
        if sum(type(node) in kinds for node in nodes) > most:
            raise SourceBoundError(f"the source has more than {most} {what}")
    return tree, nodes


def _nodes(tree: ast.AST) -> list[ast.AST]:
    found: list[ast.AST] = []
    level = [(tree, 0)]
    for _ in range(MAX_DEPTH):
        found += (node for node, _ in level)
        if not level:
            return found
        if any(scopes > MAX_SCOPES_DEEP for _, scopes in level):
            break
        below = (
            (child, scopes + isinstance(node, _SCOPES))
            for node, scopes in level
            for child in ast.iter_child_nodes(node)
        )
        level = list(islice(below, MAX_NODES - len(found) + 1))
        if len(found) + len(level) > MAX_NODES:
            raise SourceBoundError(f"the source has more than {MAX_NODES} parts")
    raise RecursionError


def compile_tree(tree: ast.Module, nodes: list[ast.AST]) -> None:
    """Find what only the compiler sees, such as a `break` outside a loop; its code is thrown away.

    The tree is changed: a `finally` is compiled once for each way into it, which doubles with each that stands in
    another one. What may stand in it may stand in an `else` too.

    Raises:
        SyntaxError: With a column in bytes.
        RecursionError, MemoryError: It is nested too deep.
    """
    for node in nodes:
        if isinstance(node, ast.Try) and node.finalbody:
            node.handlers = node.handlers or [_pass(node)]
            node.orelse, node.finalbody = [*node.orelse, *node.finalbody], []
    with _silence, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compile(tree, "<policy function>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)


def _pass(node: ast.Try) -> ast.ExceptHandler:
    handler = ast.ExceptHandler(type=None, name=None, body=[ast.Pass()])
    return ast.fix_missing_locations(ast.copy_location(handler, node))
