"""RDP vectors: the Renyi divergence at each of some orders. What is spent together is the sum of the vectors.

Mironov, Renyi Differential Privacy (2017), proposition 1.
"""

from __future__ import annotations

from struct import Struct
from typing import TypeAlias

Vector: TypeAlias = tuple[float, ...]
"""One divergence per order, in nats."""

ORDERS: Vector = (*(1 + tenth / 10 for tenth in range(1, 100)), *map(float, range(11, 64)), 128.0, 256.0, 512.0, 1024.0)
"""The orders; those that dp-accounting takes by default. Vectors are stored, so these never change."""

ZERO: Vector = (0.0,) * len(ORDERS)
"""What is spent at the beginning."""

_LAYOUT = Struct(f"<{len(ORDERS)}d")


def add(one: Vector, other: Vector) -> Vector:
    """Return what two spends are together."""
    return tuple(map(float.__add__, one, other))


def times(steps: int, vector: Vector) -> Vector:
    """Return what the same is spent several times."""
    return tuple(steps * each for each in vector)


def pack(vector: Vector) -> bytes:
    """Return a vector as it is stored."""
    return _LAYOUT.pack(*vector)


def unpack(stored: bytes) -> Vector:
    """Return a stored vector.

    Raises:
        ValueError: It is none.
    """
    if len(stored) != _LAYOUT.size:
        raise ValueError(f"a vector of {len(stored)} bytes instead of {_LAYOUT.size}")
    return _LAYOUT.unpack(stored)
