"""What goes wrong in a condition: when it is written, and when it is evaluated."""

from __future__ import annotations


class ConditionError(ValueError):
    """The text of a condition is not a valid condition.

    Attributes:
        message: What is wrong: no capital, no full stop, the author's words in backticks.
        line: The line of the place, from 1.
        column: The column of the place in characters, from 1.
        hint: What to write instead, or None.
        source: The whole condition.
    """

    def __init__(self, message: str, *, source: str, offset: int, hint: str | None = None) -> None:
        """Place the error at an offset, in characters from 0, into the source."""
        before = source[:offset]
        self.message = message
        self.line = before.count("\n") + 1
        self.column = offset - (before.rfind("\n") + 1) + 1
        self.hint = hint
        self.source = source
        super().__init__(f"{message} at line {self.line} column {self.column}")

    @property
    def excerpt(self) -> str:
        """The line of the source, cut where it is long, and below it a caret under the place."""
        lines = self.source.split("\n")
        text = lines[self.line - 1] if self.line <= len(lines) else ""
        first = max(0, self.column - 1 - _BEFORE)
        shown = text[first : first + _BEFORE + _BEHIND]
        margin = "".join("\t" if character == "\t" else " " for character in text[first : self.column - 1])
        return f"{shown}\n{margin}^"


_BEFORE, _BEHIND = 60, 60


class EvaluationError(Exception):
    """A condition has no value for this request.

    Attributes:
        kind: One of missing, wrong_type, overflow, divide_by_zero, no_such_key, index_out_of_range, invalid_argument,
            limit.
        attribute: The dotted path of the attribute to blame, or None when only constants are involved.
        detail: One sentence without a capital and a full stop.
    """

    def __init__(self, kind: str, attribute: str | None, detail: str) -> None:
        super().__init__(kind, attribute, detail)
        self.kind = kind
        self.attribute = attribute
        self.detail = detail

    def __str__(self) -> str:
        """Return the detail, behind the attribute if there is one."""
        return self.detail if self.attribute is None else f"`{self.attribute}`: {self.detail}"
