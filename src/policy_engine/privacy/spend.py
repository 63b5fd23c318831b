"""What a round spends: the Gaussian mechanism on Poisson samples, some steps of it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, NamedTuple, TypeAlias

import msgspec

NoiseMultiplier: TypeAlias = Annotated[float, msgspec.Meta(ge=1e-2, le=1e6)]
SamplingRate: TypeAlias = Annotated[float, msgspec.Meta(ge=1e-9, le=1.0)]
Steps: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=10_000_000)]


class Noise(StrEnum):
    """Who added the noise."""

    DECLARED = "declared"
    """The client says that it did; nobody can tell whether that is so."""

    SERVER = "server"
    """The server did."""


class Mechanism(NamedTuple):
    """One step.

    Attributes:
        noise_multiplier: The standard deviation of the noise, in units of the clipping norm.
        sampling_rate: How likely it is that one record (or one client, whatever is protected) takes part in the step.
    """

    noise_multiplier: float
    sampling_rate: float


class Spend(msgspec.Struct, frozen=True, kw_only=True):
    """Several steps of one mechanism."""

    noise_multiplier: NoiseMultiplier
    sampling_rate: SamplingRate
    steps: Steps
    noise: Noise

    @property
    def mechanism(self) -> Mechanism:
        """One of the steps."""
        return Mechanism(self.noise_multiplier, self.sampling_rate)
