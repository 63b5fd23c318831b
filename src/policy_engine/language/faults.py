"""Collect everything that is wrong with a document before refusing it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from policy_engine.language.suggest import did_you_mean
from policy_engine.model.diagnostic import Diagnostic, pointer
from policy_engine.model.errors import InvalidPolicyError

Place: TypeAlias = tuple[object, ...]
Reader: TypeAlias = Callable[[Any, Place, "Faults"], Any]


class Faults:
    """The errors and warnings of one document."""

    def __init__(self) -> None:
        self.errors: list[Diagnostic] = []
        self.warnings: list[Diagnostic] = []

    def error(self, place: Place, detail: str, hint: str = "", excerpt: str = "") -> None:
        """Note what makes the document unacceptable."""
        self.errors.append(_diagnostic(place, detail, hint, excerpt))

    def warn(self, place: Place, detail: str, hint: str = "") -> None:
        """Note what is dubious."""
        self.warnings.append(_diagnostic(place, detail, hint))

    def raise_if_any(self) -> None:
        """Refuse the document if an error was found.

        Raises:
            InvalidPolicyError: With all errors and warnings.
        """
        if self.errors:
            raise InvalidPolicyError(self.errors, self.warnings)


def _diagnostic(place: Place, detail: str, hint: str, excerpt: str = "") -> Diagnostic:
    return Diagnostic(
        pointer=_writable(pointer(*place)),
        detail=_writable(detail),
        hint=_writable(hint),
        excerpt=_writable(excerpt),
    )


def _writable(text: str) -> str:
    """Return text that every encoding can carry; half a surrogate pair, which JSON may escape, is escaped again."""
    return text.encode("utf-8", "backslashreplace").decode() if not text.isascii() else text


def type_name(value: Any) -> str:
    """Return what JSON calls the type of a value."""
    if value is None:
        return "null"
    names: dict[type, str] = {
        bool: "a boolean",
        int: "an integer",
        float: "a number",
        str: "a string",
        list: "an array",
    }
    return names.get(type(value), "an object")


def show(value: Any, *, limit: int = 60) -> str:
    """Return a scalar as the user wrote it, or the name of its type."""
    if isinstance(value, (dict, list)) or value is None:
        return type_name(value)
    text = f'"{value}"' if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{text[:limit]}…`" if len(text) > limit else f"`{text}`"


def string(value: Any, place: Place, faults: Faults) -> str:
    """Read a string."""
    if isinstance(value, str):
        return value
    faults.error(place, f"expected a string, found {show(value)}")
    return ""


def boolean(value: Any, place: Place, faults: Faults) -> bool:
    """Read true or false."""
    if isinstance(value, bool):
        return value
    faults.error(place, f"expected true or false, found {show(value)}")
    return False


def json_object(value: Any, place: Place, faults: Faults) -> dict[str, Any]:
    """Read an object, whatever is in it."""
    if isinstance(value, dict):
        return value
    faults.error(place, f"expected an object, found {show(value)}")
    return {}


def anything(value: Any, _place: Place, _faults: Faults) -> Any:
    """Read a value that has no meaning here."""
    return value


def integer(low: int, high: int) -> Reader:
    """Return a reader of integers from low to high."""

    def read(value: Any, place: Place, faults: Faults) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        faults.error(place, f"expected an integer from {low} to {high}, found {show(value)}")
        return low

    return read


def one_of(*words: str) -> Reader:
    """Return a reader of one of a few words."""
    listed = ", ".join(f"`{word}`" for word in words)

    def read(value: Any, place: Place, faults: Faults) -> str:
        if isinstance(value, str) and value in words:
            return value
        faults.error(place, f"expected one of {listed}, found {show(value)}", did_you_mean(str(value), words))
        return words[0]

    return read


def strings(value: Any, place: Place, faults: Faults) -> tuple[str, ...]:
    """Read an array of strings."""
    if not isinstance(value, list):
        faults.error(place, f"expected an array of strings, found {show(value)}")
        return ()
    return tuple(string(item, (*place, index), faults) for index, item in enumerate(value))


def fields(value: dict[str, Any], place: Place, faults: Faults, readers: dict[str, Reader]) -> dict[str, Any]:
    """Read the fields of an object; one that no reader knows is an error."""
    found = {}
    for key, item in value.items():
        reader = readers.get(key)
        if reader is None:
            faults.error((*place, key), f"unknown field `{key}`", did_you_mean(key, readers))
        else:
            found[key] = reader(item, (*place, key), faults)
    return found


def require(value: dict[str, Any], place: Place, faults: Faults, names: Iterable[str]) -> None:
    """Note each field that is not there."""
    for name in names:
        if name not in value:
            faults.error(place, f"field `{name}` is missing")
