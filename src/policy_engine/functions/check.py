"""What is wrong with the source of a function, found without running it."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, islice
from keyword import iskeyword
from typing import NamedTuple

import msgspec

from policy_engine.functions.names import unbound
from policy_engine.functions.supported import BUILTINS, MODULES, UNSUPPORTED
from policy_engine.functions.syntax import SourceBoundError, compile_tree, parse
from policy_engine.language.suggest import did_you_mean

MAX_SOURCE_BYTES = 64 * 1024
MAX_FAULTS = 100
"""How many faults are looked for: whoever reads them mends the first ones first."""

MAX_GUESSES = 5
MAX_GUESSED = 40
"""For how many names, and of which length, what was meant is looked for: that takes the square of the length."""

_REMEMBERED = 128
"""How many sources need not be looked at again: those of policies are whenever a revision comes into force."""

_LINE_END = re.compile(r"\r\n|\r|\n")
_NESTED = "the source is nested too deep"


class CodeFault(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One fault in a source.

    Attributes:
        line: Counted from 1.
        column: In characters, counted from 1.
    """

    line: int
    column: int
    detail: str
    hint: str = ""

    @property
    def placed(self) -> str:
        """What is wrong, after its place."""
        return f"line {self.line} column {self.column}: {self.detail}"

    def __str__(self) -> str:
        return f"{self.placed} ({self.hint})" if self.hint else self.placed


class CheckedCode(NamedTuple):
    """What the source of a function was found to be.

    Attributes:
        entry: The name of the function to call; "" when there is none.
        faults: All that is wrong, in the order of the source.
    """

    entry: str
    faults: tuple[CodeFault, ...]


@lru_cache(_REMEMBERED)
def check_code(code: str, entry: str | None = None) -> CheckedCode:
    """Look for what would keep a function from running: syntax, entry, undefined names, what the sandbox lacks.

    Args:
        code: The source; it is parsed and never run.
        entry: The name of the function to call; by default the first public one that takes one argument.
    """
    if len(code.encode("utf-8", "surrogatepass")) > MAX_SOURCE_BYTES:
        return CheckedCode("", (_fault(1, 1, f"the source is larger than {MAX_SOURCE_BYTES} bytes"),))
    lines = _LINE_END.split(code)
    try:
        tree, nodes = parse(code)
        faults = list(islice(chain(_unsupported(nodes, lines), _undefined(tree, lines)), MAX_FAULTS))
        faults += _compiler_faults(tree, nodes, lines)
    except SourceBoundError as error:
        return CheckedCode("", (_fault(1, 1, str(error)),))
    except SyntaxError as error:
        return CheckedCode("", (_syntax_fault(error),))
    except (RecursionError, MemoryError):
        return CheckedCode("", (_fault(1, 1, _NESTED),))
    except ValueError:  # a zero byte, half a surrogate pair
        return CheckedCode("", (_fault(1, 1, "the source holds characters that no source may hold"),))
    found, wrong = _find_entry(tree, lines, entry)
    faults += [wrong] if wrong else []
    return CheckedCode(found, tuple(sorted(faults, key=lambda fault: (fault.line, fault.column))))


def is_entry(name: str) -> bool:
    """Whether a text can name the function to call."""
    return name.isidentifier() and not iskeyword(name)


def _fault(line: int, column: int, detail: str, hint: str = "") -> CodeFault:
    return CodeFault(line=line, column=column, detail=detail, hint=hint)


def _at(node: ast.AST, lines: Sequence[str], detail: str, hint: str = "") -> CodeFault:
    line: int = getattr(node, "lineno", 1)
    offset: int = getattr(node, "col_offset", 0)
    return _fault(line, _column(lines[line - 1], offset), detail, hint)


def _column(line: str, offset: int) -> int:
    """Return the place of a character, counted from 1, by how many bytes stand before it."""
    return len(line.encode()[:offset].decode(errors="replace")) + 1


def _syntax_fault(error: SyntaxError) -> CodeFault:
    detail = error.msg[:1].lower() + error.msg[1:] if error.msg else "this is not Python"
    return _fault(max(error.lineno or 1, 1), max(error.offset or 1, 1), f"syntax error: {detail}")


def _compiler_faults(tree: ast.Module, nodes: list[ast.AST], lines: Sequence[str]) -> Iterator[CodeFault]:
    """Yield the first fault that only the compiler finds; the tree is of no use after that."""
    try:
        compile_tree(tree, nodes)
    except SyntaxError as error:
        found = _syntax_fault(error)
        if found.line <= len(lines):
            found = msgspec.structs.replace(found, column=_column(lines[found.line - 1], found.column - 1))
        yield found


# What the sandbox lacks


def _unsupported(nodes: Iterable[ast.AST], lines: Sequence[str]) -> Iterator[CodeFault]:
    for node in nodes:
        what = UNSUPPORTED.get(type(node))
        if what:
            yield _at(node, lines, f"{what} not supported in policy functions")
        elif isinstance(node, ast.ClassDef):
            yield from _class_faults(node, lines)
        elif isinstance(node, ast.Import):
            yield from (_module_fault(node, lines, alias.name) for alias in node.names if alias.name not in MODULES)
        elif isinstance(node, ast.ImportFrom):
            yield from _from_faults(node, lines)


def _class_faults(node: ast.ClassDef, lines: Sequence[str]) -> Iterator[CodeFault]:
    if node.bases or node.keywords:
        yield _at(node, lines, "class inheritance is not supported in policy functions")
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.decorator_list:
            yield _at(item.decorator_list[0], lines, "method decorators are not supported in policy functions")


def _from_faults(node: ast.ImportFrom, lines: Sequence[str]) -> Iterator[CodeFault]:
    if node.level or node.module not in MODULES:
        yield _module_fault(node, lines, "." * node.level + (node.module or ""))
    if any(alias.name == "*" for alias in node.names):
        yield _at(node, lines, "`import *` is not supported in policy functions")


def _module_fault(node: ast.AST, lines: Sequence[str], name: str) -> CodeFault:
    hint = did_you_mean(name, MODULES) or f"there are {', '.join(sorted(MODULES))}"
    return _at(node, lines, f"module `{name}` is not available to policy functions", hint)


# Names


def _undefined(tree: ast.Module, lines: Sequence[str]) -> Iterator[CodeFault]:
    for number, (name, bound) in enumerate(unbound(tree, BUILTINS)):
        if hasattr(builtins, name.id):
            yield _at(name, lines, f"built-in `{name.id}` is not available to policy functions")
        else:
            hint = _guess(name.id, bound) if number < MAX_GUESSES else ""
            yield _at(name, lines, f"name `{name.id}` is not defined", hint)


def _guess(name: str, known: Collection[str]) -> str:
    """Return what was meant, unless it would take long to find out."""
    return did_you_mean(name, known) if len(known) < MAX_FAULTS and len(name) <= MAX_GUESSED else ""


# The entry


def _find_entry(tree: ast.Module, lines: Sequence[str], wanted: str | None) -> tuple[str, CodeFault | None]:
    functions = {node.name: node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}
    if wanted is not None:
        node = functions.get(wanted)
        if node is None:
            return "", _fault(1, 1, f"there is no function `{wanted}`", _guess(wanted, functions))
        if not _takes_context(node):
            return "", _at(node, lines, f"function `{wanted}` cannot be called with one argument, the context")
        return wanted, None
    return _first(functions.values(), lines)


def _first(
    functions: Iterable[ast.FunctionDef | ast.AsyncFunctionDef], lines: Sequence[str]
) -> tuple[str, CodeFault | None]:
    public = [node for node in functions if not node.name.startswith("_")]
    fitting = [node for node in public if _takes_context(node)]
    named = [node for node in fitting if "context" in {argument.arg for argument in node.args.args}]
    for node in named or fitting:
        return node.name, None
    if public:
        return "", _at(public[0], lines, f"function `{public[0].name}` cannot be called with one argument, the context")
    return "", _fault(1, 1, "there is no function to call: it has to look like `def name(context): ...`")


def _takes_context(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    given = node.args
    positional = len(given.posonlyargs) + len(given.args)
    required = positional - len(given.defaults)
    keywords = any(default is None for default in given.kw_defaults)
    return (
        isinstance(node, ast.FunctionDef)
        and not keywords
        and required <= 1
        and (positional >= 1 or given.vararg is not None)
    )
