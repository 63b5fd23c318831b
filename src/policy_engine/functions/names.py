"""The names that a source uses, and which it could mean by them."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Collection, Iterable, Iterator

_Function = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


class _Scope:
    """A module, a function or a class: the names that it binds and reads itself, and what stands in it."""

    __slots__ = ("binds", "inner", "reads")

    def __init__(self, binds: Iterable[str] = ()) -> None:
        self.binds = set(binds)
        self.reads: list[ast.Name] = []
        self.inner: list[_Scope] = []

    def within(self, binds: Iterable[str] = ()) -> _Scope:
        """Return a new scope in this one."""
        scope = _Scope(binds)
        self.inner.append(scope)
        return scope


def unbound(tree: ast.Module, known: Collection[str]) -> Iterator[tuple[ast.Name, Collection[str]]]:
    """Yield each name that is read where nothing binds it, with the names that are bound there.

    Annotations are passed over: nothing evaluates them. What is bound later in the same scope counts as bound, and what
    a comprehension binds is bound around it. However scopes nest, the work is in proportion to the source.

    Args:
        tree: The source.
        known: What is bound everywhere.
    """
    bound: Counter[str] = Counter()
    waiting = [(_read(tree), True)]
    while waiting:
        scope, is_entered = waiting.pop()
        if not is_entered:
            for name in scope.binds:
                bound[name] -= 1
                if not bound[name]:
                    del bound[name]
            continue
        bound.update(scope.binds)
        yield from ((name, bound) for name in scope.reads if name.id not in bound and name.id not in known)
        waiting.append((scope, False))
        waiting += ((inner, True) for inner in reversed(scope.inner))


def _read(tree: ast.Module) -> _Scope:
    """Return the scope of a module, in one walk over it."""
    top = _Scope()
    waiting: list[tuple[ast.AST, _Scope]] = [(tree, top)]
    while waiting:
        node, scope = waiting.pop()
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            scope.reads.append(node)
            continue
        (top if isinstance(node, ast.Global) else scope).binds.update(_binds(node))
        waiting += reversed(_parts(node, scope))
    return top


def _binds(node: ast.AST) -> Iterable[str]:
    if isinstance(node, ast.Name):
        return (node.id,)
    if isinstance(node, ast.alias):
        return (node.asname or node.name.partition(".")[0],)
    if isinstance(node, ast.Global):
        return node.names
    name = node.rest if isinstance(node, ast.MatchMapping) else getattr(node, "name", None)
    return (name,) if isinstance(name, str) else ()


def _parts(node: ast.AST, scope: _Scope) -> list[tuple[ast.AST, _Scope]]:
    """Return what a node consists of, each part with the scope that it stands in."""
    if isinstance(node, _Function):
        outer = [*getattr(node, "decorator_list", ()), *node.args.defaults, *node.args.kw_defaults]
        body: list[ast.AST] = [*node.body] if isinstance(node.body, list) else [node.body]
        inner = scope.within(_arguments(node.args))
    elif isinstance(node, ast.ClassDef):
        outer = [*node.decorator_list, *node.bases, *(word.value for word in node.keywords)]
        body, inner = [*node.body], scope.within()
    elif isinstance(node, ast.AnnAssign):
        outer, body, inner = [node.target, node.value], [], scope
    else:
        outer, body, inner = [*ast.iter_child_nodes(node)], [], scope
    return [(part, scope) for part in outer if part is not None] + [(part, inner) for part in body]


def _arguments(given: ast.arguments) -> set[str]:
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    return {argument.arg for argument in named if argument is not None}
