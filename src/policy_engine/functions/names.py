"""Which names a source uses, and which it could mean by them."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

Scope = frozenset[str]

_Function = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_Comprehension = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def scopes_of(tree: ast.Module) -> Iterator[tuple[ast.Name, Scope]]:
    """Yield each name that is read, with the names that are bound where it stands.

    Annotations are passed over: nothing evaluates them. What is bound later in the same scope counts as bound.

    Raises:
        RecursionError: The source is nested too deep.
    """
    declared = {name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names}
    yield from _in_all(tree.body, frozenset(_bound(tree.body) | declared))


def _in_all(nodes: Iterable[ast.AST | None], visible: Scope) -> Iterator[tuple[ast.Name, Scope]]:
    for node in nodes:
        if node is not None:
            yield from _in(node, visible)


def _in(node: ast.AST, visible: Scope) -> Iterator[tuple[ast.Name, Scope]]:
    if isinstance(node, ast.Name):
        if isinstance(node.ctx, ast.Load):
            yield node, visible
    elif isinstance(node, _Function):
        yield from _in_all([*getattr(node, "decorator_list", ()), *node.args.defaults, *node.args.kw_defaults], visible)
        body = node.body if isinstance(node.body, list) else [node.body]
        yield from _in_all(body, visible | _arguments(node.args) | _bound(body))
    elif isinstance(node, ast.ClassDef):
        yield from _in_all([*node.decorator_list, *node.bases, *(word.value for word in node.keywords)], visible)
        yield from _in_all(node.body, visible | _bound(node.body))
    elif isinstance(node, _Comprehension):
        yield from _in_all(ast.iter_child_nodes(node), visible | _bound([node]))
    elif isinstance(node, ast.AnnAssign):
        yield from _in_all([node.target, node.value], visible)
    else:
        yield from _in_all(ast.iter_child_nodes(node), visible)


def _arguments(given: ast.arguments) -> set[str]:
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    return {argument.arg for argument in named if argument is not None}


def _bound(nodes: Iterable[ast.AST]) -> set[str]:
    """Return what some nodes bind in the scope they stand in."""
    found: set[str] = set()
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        found.update(_binds(node))
        if not isinstance(node, (*_Function, ast.ClassDef)):
            waiting += ast.iter_child_nodes(node)
    return found


def _binds(node: ast.AST) -> Iterable[str]:
    if isinstance(node, ast.Name):
        return () if isinstance(node.ctx, ast.Load) else (node.id,)
    if isinstance(node, ast.alias):
        return (node.asname or node.name.partition(".")[0],)
    name = node.rest if isinstance(node, ast.MatchMapping) else getattr(node, "name", None)
    return (name,) if isinstance(name, str) else ()
