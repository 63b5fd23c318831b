"""What a function answered: foreign data, walked with a bound before anything else is done with it."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any

from policy_engine.functions.sandbox import SandboxError

MAX_DEPTH = 16
MAX_NODES = 10_000
"""What stands in several places counts in each of them."""

MAX_TEXT = 64 * 1024
"""Characters of all strings and keys together."""

MAX_REASON = 1000
MAX_VIOLATIONS = 100
_INT64 = 1 << 63

FIELDS = ("allowed", "reason", "violations", "parameters")


class AnswerError(SandboxError):
    """A function answered, but not what a function has to answer."""

    def __init__(self, detail: str) -> None:
        super().__init__("answer", f"it answered {detail}")


class _Walk:
    """One walk over one answer; it copies, so that nothing of what it was is kept."""

    def __init__(self) -> None:
        self._nodes = MAX_NODES
        self._text = MAX_TEXT

    def copy(self, value: Any, depth: int) -> Any:
        """Return the value in plain types.

        Raises:
            AnswerError: It is not plain JSON, or too much.
        """
        self._nodes -= 1
        if self._nodes < 0:
            raise AnswerError(f"more than {MAX_NODES} values")
        kind = type(value)
        if kind in _SCALARS:
            return _SCALARS[kind](self, value)
        if kind is not dict and kind is not list:
            raise AnswerError("something that is not plain JSON")
        if depth == 0:
            raise AnswerError(f"something nested deeper than {MAX_DEPTH} levels")
        if len(value) > self._nodes:
            raise AnswerError(f"more than {MAX_NODES} values")
        if kind is list:
            return [self.copy(item, depth - 1) for item in value]
        return {self._key(key): self.copy(item, depth - 1) for key, item in value.items()}

    def _key(self, key: Any) -> str:
        if type(key) is not str:
            raise AnswerError("an object with a key that is not a string")
        return self.string(key)

    def string(self, value: str) -> str:
        """Return a string that still fits."""
        self._text -= len(value)
        if self._text < 0:
            raise AnswerError(f"more than {MAX_TEXT} characters")
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise AnswerError("half a surrogate pair") from None
        return value

    @staticmethod
    def integer(value: int) -> int:
        """Return an integer that every reader of JSON takes."""
        if not -_INT64 <= value < _INT64:
            raise AnswerError("an integer of more than 63 bits")
        return value

    @staticmethod
    def number(value: float) -> float:
        """Return a number that JSON has."""
        if not isfinite(value):
            raise AnswerError("a number that is not finite")
        return value


_SCALARS: dict[type, Callable[[_Walk, Any], Any]] = {
    str: _Walk.string,
    int: lambda _, value: _Walk.integer(value),
    float: lambda _, value: _Walk.number(value),
    bool: lambda _, value: value,
    type(None): lambda _, value: value,
}


def plain(value: Any) -> Any:
    """Return a copy of a value in plain types; it shares nothing with it.

    Raises:
        AnswerError: It is not plain JSON, or more than 16 levels, 10,000 values or 64 K characters.
    """
    return _Walk().copy(value, MAX_DEPTH)


def read_answer(value: Any) -> dict[str, Any]:
    """Return an answer of the shape `{"allowed": bool, "reason"?: str, "violations"?: [str], "parameters"?: {}}`.

    Other fields are left out.

    Raises:
        AnswerError: It is another shape, or nothing that can be an answer.
    """
    answer = plain(value)
    if type(answer) is not dict:
        raise AnswerError("something that is not an object with `allowed`")
    if type(answer.get("allowed")) is not bool:
        raise AnswerError("without saying `allowed`, true or false")
    found = {name: answer[name] for name in FIELDS if answer.get(name) is not None}
    reason = found.get("reason", "")
    if type(reason) is not str or len(reason) > MAX_REASON:
        raise AnswerError(f"with a `reason` that is no text of at most {MAX_REASON} characters")
    if type(found.get("parameters", {})) is not dict:
        raise AnswerError("with `parameters` that are no object")
    _check_violations(found.get("violations", []))
    return found


def _check_violations(violations: Any) -> None:
    fits = type(violations) is list and len(violations) <= MAX_VIOLATIONS
    if not fits or not all(type(name) is str and len(name) <= MAX_REASON for name in violations):
        raise AnswerError(f"with `violations` that are no array of at most {MAX_VIOLATIONS} texts")
