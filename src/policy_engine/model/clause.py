"""Match clauses: one key of a rule's `match`, with its value already understood."""

from __future__ import annotations

from enum import Enum
from typing import Any, TypeAlias

import msgspec

Scalar: TypeAlias = str | bool | int | float
Interval: TypeAlias = tuple[int, int]


class Kind(Enum):
    """How the values of an attribute are compared."""

    PLAIN = "plain"
    PROTOCOL = "protocol"
    PORT = "port"
    ADDRESS = "address"


class Clause(msgspec.Struct, frozen=True, kw_only=True):
    """One match key that constrains one attribute.

    Attributes:
        key: The key as the policy writes it, without aliases.
        attribute: The dotted path it reads.
        kind: How values are compared.
        expected: The policy's value, as written.
        scalars: For PLAIN and PROTOCOL: the values of which any will do.
        intervals: For PORT and ADDRESS: inclusive bounds, sorted and disjoint. IPv4 addresses are their numbers, IPv6
            addresses
            their numbers plus 2**32, so that the two never meet.
    """

    key: str
    attribute: str
    kind: Kind
    expected: Any
    scalars: tuple[Scalar, ...] = ()
    intervals: tuple[Interval, ...] = ()

    @property
    def path(self) -> tuple[str, ...]:
        """The segments of the attribute."""
        return tuple(self.attribute.split("."))
