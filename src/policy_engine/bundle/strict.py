"""JSON that has one form only: RFC 8785, so that no byte of it can be another."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
import rfc8785

from policy_engine.bundle.refusal import BundleError
from policy_engine.language import json_text
from policy_engine.model.errors import InvalidPolicyError

T = TypeVar("T")


def dump(value: Any) -> bytes:
    """Return a value as canonical JSON."""
    return rfc8785.dumps(msgspec.to_builtins(value))


def load(content: bytes, what: str) -> Any:
    """Return the value that a canonical JSON text holds.

    Raises:
        BundleError: It is not JSON, or written in another form.
    """
    try:
        value = json_text.parse(content)
    except InvalidPolicyError as error:
        raise BundleError("malformed", f"{what}: {error}") from None
    if dump(value) != content:
        raise BundleError("malformed", f"{what} is not written as canonical JSON (RFC 8785)")
    return value


def decode(content: bytes, kind: type[T], what: str) -> T:
    """Return the struct that a canonical JSON text holds, for little even where the text is hostile and long.

    Args:
        content: The text.
        kind: A struct of structs, lists and objects of texts: what else may stand in a text would cost more to compare.
        what: What it is called.

    Raises:
        BundleError: It is not JSON, has another shape, or is written in another form.
    """
    try:
        value = msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError("malformed", f"{what}: {_lowered(error)}") from None
    if msgspec.json.encode(value, order="sorted") != content:
        raise BundleError("malformed", f"{what} is not written as canonical JSON (RFC 8785)")
    return value


def convert(value: Any, kind: type[T], what: str) -> T:
    """Return a JSON value as a struct.

    Raises:
        BundleError: It has another shape.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise BundleError("malformed", f"{what}: {_lowered(error)}") from None


def _lowered(error: Exception) -> str:
    text = str(error)
    return f"{text[:1].lower()}{text[1:]}"
