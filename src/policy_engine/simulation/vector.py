"""Arrays, as the simulation uses them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vector: TypeAlias = NDArray[np.float64]
    Matrix: TypeAlias = NDArray[np.float64]
    Labels: TypeAlias = NDArray[np.int64]
else:
    Vector = Matrix = Labels = Any


class Samples(NamedTuple):
    """Labelled images.

    Attributes:
        images: Of shape (samples, 64), each pixel from 0 to 1.
        labels: Of shape (samples,), each a digit.
    """

    images: Matrix
    labels: Labels


def length(vector: Vector) -> float:
    """Return the L2 norm of a vector."""
    return math.sqrt(vector @ vector)


def unit(vector: Vector) -> Vector:
    """Return a vector of length 1 in the same direction; nothing stays nothing."""
    norm = length(vector)
    return vector / norm if norm > 0 else vector
