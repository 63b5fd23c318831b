"""The global model of a round, and what others make of it, as one vector."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from flwr.app import Array, ArrayRecord

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vector = NDArray[np.float64]

_MAX_NORM = 1e100
"""No update is that long, and the squares of a longer one would overflow."""

_NUMBERS = "fiub"


class MalformedError(ValueError):
    """What a client sent is not a model like the global one."""


class Model:
    """The global arrays of a round.

    Updates are looked at in double precision, and only where arrays hold floating-point numbers: a counter, such as
    that of batches in a normalisation layer, would drown everything else.

    Attributes:
        arrays: As they are sent to the clients.
        shapes: Of all arrays, by name.
        floating: Names of the arrays that count.
        flat: Their numbers, of shape (parameters,).
    """

    def __init__(self, arrays: ArrayRecord, before: Model | None = None) -> None:
        """Read arrays.

        Args:
            arrays: The global ones.
            before: The model of an earlier round: aggregation may turn counters into floating-point numbers.

        Raises:
            ValueError: None of the arrays holds floating-point numbers.
        """
        self.arrays = arrays
        decoded = {name: array.numpy() for name, array in arrays.items()}
        self.shapes = {name: value.shape for name, value in decoded.items()}
        self.floating: tuple[str, ...] = tuple(name for name, value in decoded.items() if value.dtype.kind == "f")
        if before is not None and before.shapes == self.shapes:
            self.floating = before.floating
        if not self.floating:
            raise ValueError("the model has no array of floating-point numbers: its updates cannot be looked at")
        self.flat = self._flattened(decoded)

    def update(self, record: ArrayRecord) -> Vector:
        """Return what a record adds to the model, of shape (parameters,).

        Raises:
            MalformedError: Its arrays are not those of the model, or a number in them is not finite.
        """
        if set(record) != set(self.shapes):
            raise MalformedError("its arrays are not those of the model")
        decoded = {name: _decoded(name, record[name]) for name in self.shapes}
        for name, value in decoded.items():
            if value.shape != self.shapes[name]:
                raise MalformedError(f"array `{name}` has the shape {value.shape}, not {self.shapes[name]}")
            if not np.isfinite(value).all():
                raise MalformedError(f"array `{name}` has a number that is not finite")
        with np.errstate(over="ignore", invalid="ignore"):
            update: Vector = self._flattened(decoded) - self.flat
            if not np.linalg.norm(update) <= _MAX_NORM:
                raise MalformedError("its numbers are too large")
        return update

    def moved(self, record: ArrayRecord, update: Vector | None) -> ArrayRecord:
        """Return a record with the arrays in the order of the model's, moved by an update where they count.

        Args:
            record: From a client; its arrays are those of the model.
            update: What the model is moved by; None leaves what the client sent.
        """
        if update is None:
            return record if list(record) == list(self.shapes) else ArrayRecord(self._ordered(record))
        moved = dict(self._ordered(record))
        numbers, place = self.flat + update, 0
        for name in self.floating:
            shape = self.shapes[name]
            size = prod(shape)
            piece = numbers[place : place + size].reshape(shape)
            moved[name] = Array(np.asarray(piece, dtype=record[name].numpy().dtype))
            place += size
        return ArrayRecord(moved)

    def _ordered(self, record: ArrayRecord) -> dict[str, Array]:
        return {name: record[name] for name in self.shapes}

    def _flattened(self, decoded: Mapping[str, NDArray[Any]]) -> Vector:
        return np.concatenate([np.asarray(decoded[name], dtype=np.float64).ravel() for name in self.floating])


def _decoded(name: str, array: Array) -> NDArray[Any]:
    try:
        value = array.numpy()
    except Exception as error:  # whatever bytes a client sends, it is the client's fault
        raise MalformedError(f"array `{name}` cannot be read") from error
    if not isinstance(value, np.ndarray) or value.dtype.kind not in _NUMBERS:
        raise MalformedError(f"array `{name}` does not hold numbers")
    return value
