"""The classifier of a type: its columns, strung together into one generated Python function.

A loop over columns would do the same; without the calls and the look-ups of a loop it takes a third of the time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from textwrap import indent
from typing import Any, TypeAlias

from policy_engine.engine.attribute import Context, Facts, reader
from policy_engine.engine.column import Column
from policy_engine.model.fact import FACTS

Classify: TypeAlias = Callable[[Context, Facts], tuple[int, int]]
"""From a context and the facts to the rules that may apply and the doubtful ones among them."""

RARE = 10
"""A comparison that fewer than one in so many rules make is skipped when none of the rules that are left makes it."""

_WORD = re.compile(r"[a-z_]+[0-9]*")

_FRAME = """
def make({parameters}):
    def classify(context, facts):
        get = context.get
        rules = everything
        doubtful = unindexed
{matching}{hold}{comparing}{release}
        if doubtful:
            return rules, rules & (doubtful | uncovered)
        return rules, rules & uncovered
    return classify
"""

_HOLD = """
        held = rules & doubtful if doubtful else 0
"""
_RELEASE = """
        if held:
            rules |= held
"""

_COLUMN = """
        value = {read}
        found = {expression}
        if found is None:
            found, doubt = ponder_{n}(value)
            doubtful |= doubt
        rules &= found
"""
_GUARDED = """
        if rules & constrained_{n}:
""" + indent(_COLUMN, "    ")


def build_classifier(
    matching: Sequence[Column], comparing: Sequence[Column], *, everything: int, unindexed: int, uncovered: int
) -> Classify:
    """Return the classifier of some columns.

    A rule of which a match key is malformed is in error whatever its condition says, so rules that are in doubt after
    the match columns are held: no comparison rules them out.

    Args:
        matching: The columns of match keys.
        comparing: The columns of comparisons in conditions.
        everything: The set of all rules.
        unindexed: The rules of which a match key has no column.
        uncovered: The rules that have to be judged whatever the request is.

    The generated text holds the names of attributes and floats that they are compared with, both as Python literals,
    and nothing else that comes from a policy.
    """
    names: dict[str, Any] = {"everything": everything, "unindexed": unindexed, "uncovered": uncovered}
    body = []
    for n, column in enumerate((*matching, *comparing)):
        own = {f"{name}_{n}": value for name, value in column.names.items()}
        own |= {
            f"ponder_{n}": column.ponder,
            f"constrained_{n}": column.constrained,
            f"read_{n}": reader(column.attribute),
        }
        rare = column.constrained.bit_count() * RARE < everything.bit_count()
        frame = _GUARDED if rare and n >= len(matching) else _COLUMN
        body.append(frame.format(n=n, read=_read(column.attribute, n), expression=_rename(column, n)))
        names |= own
    held = bool(comparing) and bool(matching or unindexed)
    text = _FRAME.format(
        hold=_HOLD if held else "",
        release=_RELEASE if held else "",
        parameters=", ".join(names),
        matching="".join(body[: len(matching)]),
        comparing="".join(body[len(matching) :]),
    )
    scope: dict[str, Any] = {}
    exec(compile(text, "<classifier>", "exec"), scope)  # noqa: S102 - see above
    classify: Classify = scope["make"](**names)
    return classify


def _read(attribute: str, n: int) -> str:
    """Return Python that reads an attribute, the quick way for the plain names that most are."""
    simple = attribute not in FACTS and "." not in attribute
    return f"get({attribute!r})" if simple else f"read_{n}(context, facts)"


def _rename(column: Column, n: int) -> str:
    """Return the expression of a column with its names made unique."""
    return _WORD.sub(lambda word: f"{word[0]}_{n}" if word[0] in column.names else word[0], column.expression)
