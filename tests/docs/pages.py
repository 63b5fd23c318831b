"""The documentation as data: pages, sections, tables, code blocks."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.docs.generate import PAGES, ROOT

SOURCE = ROOT / "src" / "policy_engine"
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"`([^`]+)`")
_HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)


class Block(NamedTuple):
    """One code block: the page and the line it starts on, its language, its text."""

    place: str
    language: str
    text: str


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(*languages: str, pages: tuple[str, ...] = PAGES) -> list[Block]:
    found = []
    for name in pages:
        text = page(name)
        for match in _FENCE.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            if match[1] in languages:
                found.append(Block(f"{name}:{line}", match[1], match[2]))
    return found


def prose(name: str) -> str:
    """Return a page without its code blocks."""
    return _FENCE.sub("", page(name))


def anchors(name: str) -> set[str]:
    """Return the anchors of the headings of a page, as GitHub makes them."""
    titles = [match[2] for match in _HEADING.finditer(prose(name))]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def section(name: str, title: str) -> str:
    """Return what stands under a heading, up to the next one of its level or above."""
    text = page(name)
    heads = [match for match in _HEADING.finditer(text) if match[2] == title]
    assert len(heads) == 1, f"{name}: {len(heads)} headings `{title}`"
    after = text[heads[0].end() :]
    level = len(heads[0][1])
    following = [match.start() for match in _HEADING.finditer(after) if len(match[1]) <= level]
    return after[: following[0]] if following else after


def rows(text: str) -> list[list[str]]:
    """Return the cells of every table row, heads and rules left out."""
    lines = text.splitlines()
    found = []
    for number, line in enumerate(lines):
        is_head = number + 1 < len(lines) and re.match(r"\|[\s|:-]+\|$", lines[number + 1])
        if line.startswith("|") and not re.match(r"\|[\s|:-]+\|$", line) and not is_head:
            found.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return found


def words(text: str) -> list[str]:
    """Return what stands in backticks."""
    return _CODE.findall(text)


def first_words(text: str) -> set[str]:
    """Return what stands in backticks in the first cells of the tables."""
    return {word for row in rows(text) for word in words(row[0])}


def source_trees(*places: str) -> Iterator[ast.Module]:
    for place in places:
        path = SOURCE / place
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            yield ast.parse(file.read_text(encoding="utf-8"))


def calls(tree: ast.AST, *names: str) -> Iterator[ast.Call]:
    """Yield the calls of functions, methods or classes of these names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = node.func
            name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            if name in names:
                yield node


def constant(node: Any) -> str | None:
    value = node.value if isinstance(node, ast.Constant) else None
    return value if isinstance(value, str) else None


def named(node: Any, module: ast.Module) -> str | None:
    """Return the text that an expression is, or that a constant of its module is."""
    if not isinstance(node, ast.Name):
        return constant(node)
    assigned = [item for item in module.body if isinstance(item, ast.Assign)]
    return next((constant(item.value) for item in assigned if ast.unparse(item.targets[0]) == node.id), None)


def files() -> list[Path]:
    """Return the files of the project: those that belong to it, not what tools left behind."""
    passed_over = {
        ".git",
        ".venv",
        ".venv-flower",
        ".venv-fuzz",
        ".venv-audit",
        ".hypothesis",
        "__pycache__",
        "data",
        "logs",
        "build",
        "dist",
    }
    return [
        path
        for path in sorted(ROOT.rglob("*"))
        if path.is_file()
        and not any(
            part in passed_over or part.endswith(("_cache", ".egg-info")) for part in path.relative_to(ROOT).parts
        )
    ]
