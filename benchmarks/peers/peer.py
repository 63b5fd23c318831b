"""What a peer is to the measurement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

Decide: TypeAlias = Callable[[Any], bool]
"""From a prepared request to allow or deny."""
Prepare: TypeAlias = Callable[[dict[str, Any]], Any]
"""From a request to the form that the peer takes fastest; not timed."""


class Peer(NamedTuple):
    """An engine with its rules loaded."""

    name: str
    decide: Decide
    prepare: Prepare
