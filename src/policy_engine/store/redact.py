"""What of a request is not written down: secrets are masked; and which of it is personal."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from policy_engine.model.mask import MASK, is_secret

_MAX_REMEMBERED = 10_000
_MIN_SECRET = 3


class Redactor:
    """Masks contexts; the settings name fields by dotted path, such as `properties.diagnosis`."""

    def __init__(self, masked: Collection[str] = (), personal: Collection[str] = ()) -> None:
        self.masked = frozenset(masked)
        self.personal = tuple(personal)
        self._known: dict[str, bool] = {}

    def masks_any(self, keys: Iterable[str]) -> bool:
        """Whether a context with such keys has secrets, whatever their values are."""
        return any(self._hides(key, key) for key in keys)

    def redact(self, context: dict[str, Any], prefix: str = "") -> dict[str, Any]:
        """Return a copy of a context in which every secret is masked."""
        kept: dict[str, Any] = {}
        for key, value in context.items():
            path = f"{prefix}{key}"
            if self._hides(key, path):
                kept[key] = MASK if value is not None else None
            elif value.__class__ is str or value.__class__ is int or value.__class__ is float:
                kept[key] = value
            else:
                kept[key] = self._inner(value, path)
        return kept

    def secrets(self, context: dict[str, Any], prefix: str = "") -> Iterator[str]:
        """Yield every secret of a context as it may stand in a text."""
        for key, value in context.items():
            path = f"{prefix}{key}"
            if self._hides(key, path):
                yield from _texts(value)
            else:
                yield from self._secrets_in(value, path)

    def _secrets_in(self, value: Any, path: str) -> Iterator[str]:
        if isinstance(value, dict):
            yield from self.secrets(value, f"{path}.")
        elif isinstance(value, (list, tuple)):
            for item in value:
                yield from self._secrets_in(item, path)

    def _inner(self, value: Any, path: str) -> Any:
        if isinstance(value, dict):
            return self.redact(value, f"{path}.")
        if isinstance(value, (list, tuple)):
            return [self._inner(item, path) for item in value]
        return value

    def _hides(self, key: str, path: str) -> bool:
        hidden = self._known.get(path)
        if hidden is None:
            if len(self._known) >= _MAX_REMEMBERED:
                self._known = {}
            hidden = self._known[path] = is_secret(str(key)) or path in self.masked
        return hidden


def _texts(value: Any) -> Iterator[str]:
    """Yield how a value is written: plainly, by Python, and as JSON; what is shorter than a few characters is not."""
    if isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)
    elif value is not None and not isinstance(value, bool) and len(str(value)) >= _MIN_SECRET:
        yield str(value)
        if isinstance(value, str):
            yield from (repr(value)[1:-1], json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1])


def without(value: Any, secrets: Collection[str]) -> Any:
    """Return a JSON value with every secret in its texts masked.

    Args:
        value: What may quote a request, such as the reason that a function gives.
        secrets: The secrets of that request, longer ones first.
    """
    if isinstance(value, dict):
        return {without(key, secrets): without(item, secrets) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without(item, secrets) for item in value]
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, MASK)
    elif not isinstance(value, bool) and isinstance(value, (int, float)) and str(value) in secrets:
        return MASK
    return value


def places(context: dict[str, Any], path: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield the object and the key where a dotted path ends, if the context has a value there."""
    if path in context:
        yield context, path
        return
    head, _, rest = path.partition(".")
    inner = context.get(head)
    if rest and isinstance(inner, dict):
        yield from places(inner, rest)


def replaced(context: dict[str, Any], path: str, make: Callable[[Any], Any]) -> dict[str, Any]:
    """Return a context with another value where a dotted path ends; the same context if it has none there."""
    if path in context:
        return context if context[path] is None else {**context, path: make(context[path])}
    head, _, rest = path.partition(".")
    inner = context.get(head)
    if not rest or not isinstance(inner, dict):
        return context
    changed = replaced(inner, rest, make)
    return context if changed is inner else {**context, head: changed}
