"""Match keys: which attribute a key constrains, and how the attribute's values compare."""

from __future__ import annotations

from policy_engine.model.alias import ALIASES
from policy_engine.model.clause import Kind

WILDCARDS = frozenset({"any", "all", "*"})
_RANGE = "_range"
_SUFFIX_KINDS = {"ip": Kind.ADDRESS, "port": Kind.PORT}


def kind_of(attribute: str) -> Kind:
    """Return how the values of an attribute compare; its last segment decides."""
    last = attribute.rpartition(".")[2]
    if last == "protocol":
        return Kind.PROTOCOL
    return _SUFFIX_KINDS.get(last.rpartition("_")[2], Kind.PLAIN)


def canonical(key: str) -> str:
    """Return a match key with its spelling variant resolved."""
    head, dot, rest = key.partition(".")
    if dot:
        return f"{ALIASES.get(head, head)}.{rest}"
    if key.endswith(_RANGE):
        stem = key.removesuffix(_RANGE)
        return ALIASES.get(stem, stem) + _RANGE
    return ALIASES.get(key, key)


def attribute_of(key: str) -> str:
    """Return the attribute that a canonical match key constrains: `dst_port_range` constrains `dst_port`."""
    stem = key.removesuffix(_RANGE)
    return stem if key.endswith(_RANGE) and kind_of(stem) in (Kind.PORT, Kind.ADDRESS) else key
