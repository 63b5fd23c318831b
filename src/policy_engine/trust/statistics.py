"""The statistics of a round's updates, for whoever has the updates: the engine itself never sees them.

Needs NumPy, which the engine does not: install the extra `demo` or `flower`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from policy_engine.trust.observation import ClientUpdate
from policy_engine.trust.round import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vector = NDArray[np.float64]

MOMENTUM = 0.8


class RoundStatistics:
    """Computes what the engine asks about updates, round after round.

    It keeps the momentum of what was accepted: reference = unit(median of the updates, or root update) +
    unit(momentum), with momentum = 0.8 momentum + accepted aggregate. Momentum alone would be captured by whoever gets
    accepted once.
    """

    def __init__(self) -> None:
        self._momentum: Vector | None = None
        self._previous: Vector | None = None

    def observe(
        self,
        updates: Mapping[str, Any],
        *,
        excluded: Collection[str] = (),
        on_probation: Collection[str] = (),
        root: Any | None = None,
    ) -> list[ClientUpdate]:
        """Return the statistics of one round's updates.

        Args:
            updates: Client -> its update (the new weights less the old ones), all of one shape (parameters,).
            excluded: Whose updates the reference is not made from: those that a selection probes.
            on_probation: Who is new, as a selection says: the reference is made from the others, if they are enough.
            root: The update that a clean root set gives; without it the coordinate-wise median is the reference.

        Raises:
            ValueError: The shapes differ, or a number is not finite.
        """
        if not updates:
            return []
        stacked = np.stack([_vector(update) for update in updates.values()])
        if not np.isfinite(stacked).all():
            raise ValueError("an update has a number that is not finite: it counts as no answer")
        measure = set(counted(list(updates), excluded, on_probation))
        rows = [number for number, name in enumerate(updates) if name in measure]
        base = np.median(stacked[rows], axis=0) if root is None else _vector(root)
        reference = _unit(base) if self._momentum is None else _unit(base) + _unit(self._momentum)
        norms = np.linalg.norm(stacked, axis=1)
        units = stacked / np.where(norms > 0, norms, 1.0)[:, None]
        to_reference = units @ _unit(reference)
        to_previous = units @ _unit(self._previous) if self._previous is not None else None
        closest = _closest(units)
        return [
            ClientUpdate(
                client_id=name,
                norm=float(norms[number]),
                cos_ref=float(to_reference[number]),
                cos_prev=None if to_previous is None else float(to_previous[number]),
                max_pair_cos=None if closest is None else float(closest[number]),
            )
            for number, name in enumerate(updates)
        ]

    def accept(self, aggregate: Any) -> None:
        """Take in the step that the global model made, shape (parameters,); for a round that was held, call nothing."""
        step = _vector(aggregate)
        self._momentum = step if self._momentum is None else MOMENTUM * self._momentum + step
        self._previous = step


def clipped(update: Any, clip_norm: float | None) -> Vector:
    """Return an update no longer than a norm; None leaves it as it is."""
    vector = _vector(update)
    norm = float(np.linalg.norm(vector))
    return vector if clip_norm is None or norm <= clip_norm else vector * (clip_norm / norm)


def _vector(update: Any) -> Vector:
    return np.asarray(update, dtype=np.float64).ravel()


def _unit(vector: Vector) -> Vector:
    norm = float(np.linalg.norm(vector))
    return vector / norm if norm > 0 else vector


def _closest(units: Vector) -> Vector | None:
    """Return for each update the cosine to the most similar other one, None when there is no other."""
    if len(units) < 2:  # noqa: PLR2004 - another one
        return None
    cosines = units @ units.T
    np.fill_diagonal(cosines, -1.0)
    closest: Vector = cosines.max(axis=1)
    return closest
