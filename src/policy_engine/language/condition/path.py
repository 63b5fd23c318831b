"""Where a name gets its value from at run time: the facts, then the context.

What can be told before there is a request (is it a fact, is it reserved, which facts lie below it) is told once, in
`Attribute`; a `Reader` looks attributes up in one request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final

from policy_engine.language.condition.errors import EvaluationError
from policy_engine.language.condition.temporal import parse_duration, parse_timestamp
from policy_engine.language.condition.value import name_of, plain, wrong_type
from policy_engine.model.alias import ALIASES

_ABSENT: Final = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """A name that is read at run time.

    Attributes:
        dotted: The whole path, in canonical spelling.
        segments: The same in parts.
        is_fact: Whether the engine may know it.
        reserved: Whether only the engine may say it.
        roots: Facts that are a proper prefix of it, longest first, each with the number of its segments.
        leaves: Facts that lie below it, each with the rest of the path.
        declared: The declared type, or `any`.
        reserved_names: The names that never come from the context.
    """

    dotted: str
    segments: tuple[str, ...]
    is_fact: bool
    reserved: bool
    roots: tuple[tuple[str, int], ...]
    leaves: tuple[tuple[str, tuple[str, ...]], ...]
    declared: str
    reserved_names: frozenset[str]

    @property
    def is_direct(self) -> bool:
        """Whether the value is simply the fact of that name, else what stands at the path in the context."""
        return not self.roots and not self.leaves


def canonical(segments: tuple[str, ...]) -> tuple[str, ...]:
    """Return the path with its first segment in canonical spelling."""
    return (ALIASES.get(segments[0], segments[0]), *segments[1:])


def attribute_at(
    segments: tuple[str, ...], declared: str | None, facts: frozenset[str], reserved: frozenset[str]
) -> Attribute:
    """Return what is known of a path before there is a request."""
    segments = canonical(segments)
    dotted = ".".join(segments)
    known = facts | reserved
    prefixes = ((".".join(segments[:length]), length) for length in range(len(segments) - 1, 0, -1))
    start = f"{dotted}."
    return Attribute(
        dotted=dotted,
        segments=segments,
        is_fact=dotted in known,
        reserved=dotted in reserved,
        roots=tuple(prefix for prefix in prefixes if prefix[0] in known),
        leaves=tuple((name, tuple(name[len(start) :].split("."))) for name in sorted(known) if name.startswith(start)),
        declared=declared or "any",
        reserved_names=reserved,
    )


class Reader:
    """The attributes of one request; each is looked up and checked once."""

    __slots__ = ("_context", "_facts", "_known")

    def __init__(self, context: dict[str, Any], facts: Mapping[str, object]) -> None:
        self._context = context
        self._facts = facts
        self._known: dict[str, Any] = {}

    def __call__(self, attribute: Attribute) -> Any:
        """Return the value; raise EvaluationError naming the attribute."""
        found = self._known.get(attribute.dotted, _ABSENT)
        if found is _ABSENT:
            found = self._known[attribute.dotted] = resolve(attribute, self._context, self._facts)
        return found


def present(
    attribute: Attribute, parent: Attribute | None, context: dict[str, Any], facts: Mapping[str, object]
) -> bool:
    """Whether the last segment of a path is there.

    Args:
        attribute: The whole path.
        parent: The path without its last segment; None when the map at that place is known to be there.
        context: The request's attributes.
        facts: What the engine knows.
    """
    if attribute.reserved:
        return attribute.dotted in facts
    try:
        _find(attribute, context, facts)
    except EvaluationError as error:
        if error.kind != "missing":
            raise
    else:
        return True
    if parent is not None:
        try:
            _find(parent, context, facts)
        except EvaluationError as error:
            raise EvaluationError(error.kind, attribute.dotted, error.detail) from None
    return False


def resolve(attribute: Attribute, context: dict[str, Any], facts: Mapping[str, object]) -> Any:
    """Return the value of an attribute, checked and of its declared type; raise EvaluationError."""
    value = plain(_find(attribute, context, facts), attribute.dotted)
    if attribute.declared == "any":
        return value
    return converted(attribute, value)


def converted(attribute: Attribute, value: Any) -> Any:
    """Return a plain value as the type that is declared for the attribute; raise EvaluationError if it cannot be."""
    kind, conversions = _DECLARED[attribute.declared]
    if type(value) is kind:
        return value
    conversion = conversions.get(type(value))
    if conversion is None:
        raise wrong_type(attribute.dotted, f"declared {attribute.declared}, found {name_of(value)}")
    return conversion(value, attribute.dotted)


def _double(value: int, _: str | None) -> float:
    return float(value)


_Conversions = Mapping[type, Callable[[Any, "str | None"], Any]]
_NONE: _Conversions = MappingProxyType({})
_DECLARED: Mapping[str, tuple[type, _Conversions]] = MappingProxyType(
    {
        "bool": (bool, _NONE),
        "int": (int, _NONE),
        "double": (float, MappingProxyType({int: _double})),
        "string": (str, _NONE),
        "list": (list, _NONE),
        "map": (dict, _NONE),
        "timestamp": (datetime, MappingProxyType({str: parse_timestamp})),
        "duration": (timedelta, MappingProxyType({str: parse_duration})),
    }
)

DECLARABLE = frozenset({*_DECLARED, "any"})
"""The types that an attribute can be declared with."""


def _find(attribute: Attribute, context: dict[str, Any], facts: Mapping[str, object]) -> Any:
    if attribute.is_fact and attribute.dotted in facts:
        return facts[attribute.dotted]
    if attribute.reserved:
        raise _missing(attribute)
    if attribute.leaves:
        return _overlaid(attribute, context, facts)
    for root, length in attribute.roots:
        if root in facts:
            return _walk(attribute, facts[root], attribute.segments[length:])
        if root in attribute.reserved_names:
            raise _missing(attribute)
    return _walk(attribute, context, attribute.segments)


def _missing(attribute: Attribute) -> EvaluationError:
    return EvaluationError("missing", attribute.dotted, "the attribute is missing")


def _walk(attribute: Attribute, around: Any, segments: tuple[str, ...]) -> Any:
    for segment in segments:
        if not isinstance(around, dict):
            raise wrong_type(attribute.dotted, f"`.{segment}` needs a map")
        if segment not in around:
            raise _missing(attribute)
        around = around[segment]
    return around


def _overlaid(attribute: Attribute, context: dict[str, Any], facts: Mapping[str, object]) -> Any:
    """Return the map of the context without reserved leaves and with the facts in their places, as a new map."""
    try:
        value = _walk(attribute, context, attribute.segments)
    except EvaluationError:
        if not any(name in facts for name, _ in attribute.leaves):
            raise
        value = {}
    for name, rest in attribute.leaves:
        if name in facts:
            value = _with(value, rest, facts[name])
        elif name in attribute.reserved_names:
            value = _without(value, rest)
    return value


def _with(value: Any, rest: tuple[str, ...], leaf: object) -> dict[str, Any]:
    changed = dict(value) if isinstance(value, dict) else {}
    changed[rest[0]] = leaf if len(rest) == 1 else _with(changed.get(rest[0]), rest[1:], leaf)
    return changed


def _without(value: Any, rest: tuple[str, ...]) -> Any:
    if not isinstance(value, dict) or rest[0] not in value:
        return value
    changed = dict(value)
    if len(rest) == 1:
        del changed[rest[0]]
    else:
        changed[rest[0]] = _without(changed[rest[0]], rest[1:])
    return changed
