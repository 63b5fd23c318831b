"""Read an attribute of a request: the engine's fact first, then the caller's context."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from policy_engine.model.fact import FACTS

Facts: TypeAlias = Mapping[str, Any]
Context: TypeAlias = dict[str, Any]
Read: TypeAlias = Callable[[Context, Facts], Any]


def is_fact(attribute: str) -> bool:
    """Whether the engine may know this attribute itself."""
    return attribute in FACTS


def is_below_fact(attribute: str) -> bool:
    """Whether a path goes into a reserved fact, where neither a fact nor a claim can be."""
    segments = attribute.split(".")
    heads = (".".join(segments[:count]) for count in range(1, len(segments)))
    return any(head in FACTS and FACTS[head].reserved for head in heads)


def read_path(context: Context, path: tuple[str, ...]) -> Any:
    """Return the value at a path of a context, None when it is absent."""
    value: Any = context
    for segment in path:
        if value.__class__ is not dict:
            return None
        value = value.get(segment)
    return value


def reader(attribute: str) -> Read:
    """Return the function that reads one attribute; None means absent."""
    path = tuple(attribute.split("."))
    fact = FACTS.get(attribute)

    def top_level(context: Context, _facts: Facts) -> Any:
        return context.get(attribute)

    def nested(context: Context, _facts: Facts) -> Any:
        return read_path(context, path)

    def fact_only(_context: Context, facts: Facts) -> Any:
        return facts.get(attribute)

    claimed = top_level if len(path) == 1 else nested

    def fact_first(context: Context, facts: Facts) -> Any:
        value = facts.get(attribute)
        return claimed(context, facts) if value is None else value

    if is_below_fact(attribute):
        return fact_only  # facts have no parts, and what the caller puts there is not the fact
    if fact is None:
        return claimed
    return fact_only if fact.reserved else fact_first
