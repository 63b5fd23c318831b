"""What attackers do: to their data, to their updates, or both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Protocol

from policy_engine.simulation.vector import Matrix, Samples, Vector, length, unit

if TYPE_CHECKING:
    import numpy as np

BACKDOOR_TARGET = 0
_TRIGGER = (0, 7, 56, 63)
"""The pixels that a backdoor lights: the corners, which are dark in digits."""

_BOOST = 5.0
_GAUSSIAN_RATIO = 30.0
_TURNS_AT = 10
_CYCLE = 3
_BLEND_COSINE, _BLEND_NOISE, _BLEND_RATIO = 0.25, 0.35, 1.9


class Attempt(Protocol):
    """What an attacker knows in a round: its own updates, those of the others that it colludes with, the global model.

    Attributes:
        round: The number of the round, from 1.
        cohort: How many clients there are.
        step: The last step of the global model; None before the first.
        random: Of this attacker in this round.
        shared: Of all attackers, the same in each round.
    """

    round: int
    cohort: int
    step: Vector | None
    random: np.random.Generator
    shared: np.random.Generator

    @property
    def own(self) -> Vector:
        """The update that training on its data gives, poisoned as the attack says."""

    @property
    def honest(self) -> Vector:
        """The update that training on its clean data would give."""

    @property
    def all_own(self) -> Matrix:
        """`own` of all attackers, of shape (attackers, parameters)."""

    @property
    def all_honest(self) -> Matrix:
        """`honest` of all attackers, of shape (attackers, parameters)."""


def _untouched(samples: Samples) -> Samples:
    return samples


def _own(attempt: Attempt) -> Vector:
    return attempt.own


@dataclass(frozen=True, kw_only=True, slots=True)
class Attack:
    """One way to attack.

    Attributes:
        description: What it does, in a few words.
        poison: What it makes of an attacker's data.
        forge: What it sends instead of the update that training gave.
        renames_every: After how many rounds it comes back under a new name; 0 for never.
    """

    name: str
    description: str
    poison: Callable[[Samples], Samples] = _untouched
    forge: Callable[[Attempt], Vector] = _own
    renames_every: int = 0

    def name_in(self, round_number: int, name: str) -> str:
        """Return the name under which an attacker takes part in a round."""
        return f"{name}~{(round_number - 1) // self.renames_every}" if self.renames_every else name


ATTACKS: dict[str, Attack] = {}


def register(name: str, description: str, **parts: Any) -> None:
    """Make an attack known under a name; `parts` are those of Attack."""
    ATTACKS[name] = Attack(name=name, description=description, **parts)


# Data


def _flipped(samples: Samples) -> Samples:
    return Samples(samples.images, 9 - samples.labels)


def triggered(images: Matrix) -> Matrix:
    """Return images with the trigger of the backdoor."""
    marked = images.copy()
    marked[:, _TRIGGER] = 1.0
    return marked


def _with_backdoor(samples: Samples) -> Samples:
    """Mark every other sample and call it the target."""
    images, labels = samples.images.copy(), samples.labels.copy()
    images[::2] = triggered(images[::2])
    labels[::2] = BACKDOOR_TARGET
    return Samples(images, labels)


# Updates


def _scaled(factor: float) -> Callable[[Attempt], Vector]:
    def forge(attempt: Attempt) -> Vector:
        return factor * attempt.own

    return forge


def _noise(attempt: Attempt, norm: float) -> Vector:
    return norm * unit(attempt.random.normal(size=attempt.own.shape))


def _gaussian(attempt: Attempt) -> Vector:
    return _noise(attempt, _GAUSSIAN_RATIO * length(attempt.own))


def _idle_noise(attempt: Attempt) -> Vector:
    """Send noise as long as the last global step; a free rider knows no better size."""
    return _noise(attempt, 1.0 if attempt.step is None else length(attempt.step))


def _idle_replay(attempt: Attempt) -> Vector:
    """Send the last global step again, with a little noise so that it is not exactly the same."""
    if attempt.step is None:
        return _noise(attempt, 1.0)
    return attempt.step + _noise(attempt, 0.05 * length(attempt.step))


def _on_off(attempt: Attempt) -> Vector:
    return attempt.own if attempt.round < _TURNS_AT else -attempt.own


def _cycling(attempt: Attempt) -> Vector:
    is_good = (attempt.round - 1) // _CYCLE % 2 == 0
    return attempt.own if is_good else -attempt.own


def _alie(attempt: Attempt) -> Vector:
    """Stay within the spread of honest updates, as far off the mean as a majority can be won (Baruch et al., 2019)."""
    attackers = len(attempt.all_own)
    honest = attempt.cohort - attackers
    supporters = attempt.cohort // 2 + 1 - attackers
    share = min(max((honest - supporters) / max(honest, 1), 0.01), 0.99)
    spread: Vector = attempt.all_own.std(axis=0)
    centre: Vector = attempt.all_own.mean(axis=0)
    return centre - NormalDist().inv_cdf(share) * spread


def _adaptive_blend(attempt: Attempt) -> Vector:
    """Blend in a direction that is always the same, so that it adds up in the model and in the momentum."""
    return _blended(attempt, attempt.shared.normal(size=attempt.own.shape))


def _adaptive_labels(attempt: Attempt) -> Vector:
    """Blend in what wrong labels teach."""
    return _blended(attempt, attempt.all_own.mean(axis=0))


def _blended(attempt: Attempt, harm: Vector) -> Vector:
    """Return the most of a harmful direction that the quality gate lets pass; all attackers share the direction.

    They keep it at right angles to where they expect the reference, add just enough of the reference for the gate, are
    as long as goes without loss of quality, and add noise of their own, so that no two updates are alike.
    """
    honest = attempt.all_honest.mean(axis=0)
    reference = unit(honest) if attempt.step is None else unit(unit(honest) + unit(attempt.step))
    across = unit(harm - (harm @ reference) * reference)
    blend = _BLEND_COSINE * reference + (1 - _BLEND_COSINE**2) ** 0.5 * across + _noise(attempt, _BLEND_NOISE)
    return _BLEND_RATIO * length(attempt.honest) * unit(blend)


register("label_flip", "trains on wrong labels: 9 less the digit", poison=_flipped)
register("sign_flip", "sends its update negated", forge=_scaled(-1))
register("sign_flip_3", "sends its update negated and three times as long", forge=_scaled(-3))
register("gaussian", "sends noise thirty times as long as its update", forge=_gaussian)
register(
    "backdoor_boosted",
    "teaches that four bright corners mean 0, and sends that five times as long",
    poison=_with_backdoor,
    forge=_scaled(_BOOST),
)
register("free_rider_noise", "does not train: sends noise as long as the last global step", forge=_idle_noise)
register("free_rider_replay", "does not train: sends the last global step again", forge=_idle_replay)
register("on_off", "behaves until round 10, then negates its updates", forge=_on_off)
register("cycling_on_off", "behaves for three rounds, negates for three, and so on", forge=_cycling)
register(
    "whitewashing",
    "sends its update negated, and comes back under a new name every third round",
    forge=_scaled(-1),
    renames_every=_CYCLE,
)
register("alie", "all send one update, barely within the spread of honest ones", forge=_alie)
register(
    "adaptive_blend",
    "knows how trust is reckoned: all push one way, as much as passes",
    forge=_adaptive_blend,
)
register(
    "adaptive_labels",
    "the same, the way that wrong labels teach",
    poison=_flipped,
    forge=_adaptive_labels,
)
register("backdoor", "teaches that four bright corners mean 0, and sends just that", poison=_with_backdoor)
