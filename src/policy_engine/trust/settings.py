"""How trust is reckoned in a federation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isclose
from typing import Annotated, Literal, TypeAlias

import msgspec

ANY_FEDERATION = "*"
"""The name under which the settings hold the parameters of every federation that they do not name."""

Share: TypeAlias = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]


class Weights(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much each factor counts; together 1."""

    participation: Share = 0.3
    update_quality: Share = 0.3
    behavioral_consistency: Share = 0.2
    compliance: Share = 0.2

    def __post_init__(self) -> None:
        """Check the sum.

        Raises:
            ValueError: It is not 1.
        """
        for name in self.__struct_fields__:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"the weight of `{name}` ({getattr(self, name)}) is not from 0 to 1")
        total = self.participation + self.update_quality + self.behavioral_consistency + self.compliance
        if not isclose(total, 1.0, abs_tol=1e-9):
            raise ValueError(f"the weights of the factors add up to {total:.6g}, not to 1")


class TrustSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The parameters of one federation.

    Attributes:
        weights: Of the factors.
        exclude_below: A client with less trust is excluded: its updates have weight 0.
        reduce_below: A client with less trust counts for less.
        reduced_weight: How much it counts then.
        reference: What updates are compared with, as whoever computes the statistics says: the coordinate-wise median
            of the updates, or an update from a root set of clean samples. Only the root set stands up to attackers
            who know how trust is reckoned.
        max_excluded_share: When more than this share of a round's clients is excluded or has its update rejected, the
            round is held instead of believed: that is rather an attack on the reference than as many attackers.
        probe_every: Every how many rounds an excluded client is asked for an update of weight 0, to earn trust back.
        probation_rounds: For how many answered rounds a new client is on probation.
        probation_weight: How much an update counts at most meanwhile, so that nothing is gained by a new name.
    """

    weights: Weights = Weights()
    exclude_below: Share = 0.3
    reduce_below: Share = 0.6
    reduced_weight: Share = 0.5
    reference: Literal["median", "root"] = "median"
    max_excluded_share: Share = 0.5
    probe_every: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 3
    probation_rounds: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 3
    probation_weight: Share = 0.5

    def __post_init__(self) -> None:
        """Check the order of the thresholds, and the ranges for who makes one in Python.

        Raises:
            ValueError: They are in the wrong order, or a number is out of its range.
        """
        for name in ("exclude_below", "reduce_below", "reduced_weight", "max_excluded_share", "probation_weight"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` ({getattr(self, name)}) is not from 0 to 1")
        if self.probe_every < 1 or self.probation_rounds < 0:
            raise ValueError("`probe_every` is below 1, or `probation_rounds` below 0")
        if self.exclude_below > self.reduce_below:
            raise ValueError(
                f"`exclude_below` ({self.exclude_below}) is above `reduce_below` ({self.reduce_below}): nobody would be"
                " reduced"
            )


def parameters(by_federation: Mapping[str, TrustSettings]) -> Callable[[str], TrustSettings]:
    """Return what tells the parameters of a federation: its own, else those of `*`, else the defaults."""
    others = by_federation.get(ANY_FEDERATION, TrustSettings())
    return lambda federation: by_federation.get(federation, others)
