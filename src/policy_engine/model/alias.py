"""Spelling variants of attribute names that existing callers and policies use."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_PREFIXES = {"source": "src", "destination": "dst", "dest": "dst"}
_SUFFIXES = ("ip", "port", "type")

ALIASES: Mapping[str, str] = MappingProxyType(
    {f"{long}_{suffix}": f"{short}_{suffix}" for long, short in _PREFIXES.items() for suffix in _SUFFIXES}
)
"""Variant -> canonical name. Only whole top-level names are aliases."""
