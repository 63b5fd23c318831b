"""The standing of one client: its factors, and the score and the band that follow from them."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

import msgspec

from policy_engine.trust.settings import TrustSettings

FULL_QUALITY = 0.5
"""From this quality on the gate is open: below it, no other factor keeps a client from being excluded."""


CHANGE_WINDOW = 5
"""Over how many rounds a change of trust is told."""


class Band(Enum):
    """What trust means for a client."""

    TRUSTED = "trusted"
    REDUCED = "reduced"
    EXCLUDED = "excluded"
    QUARANTINED = "quarantined"


class Usual(NamedTuple):
    """What a client's updates usually look like, as moving averages.

    Attributes:
        ln_ratio: The natural logarithm of norm / median norm.
        cosine: The cosine to the reference.
    """

    ln_ratio: float
    cosine: float


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a client in a federation; the factors are from 0 to 1.

    A client that nobody has seen has the standing with which these begin. Its trust is 0.85: enough to count, and by
    two bad updates less than what excludes.

    Attributes:
        participation: How reliably it answers.
        update_quality: How good its updates are.
        behavioral_consistency: How much it behaves as it usually does.
        compliance: How well it keeps to the rules.
        usual: What its updates usually look like; None before the first.
        answered: In how many rounds it answered.
        recent: Its trust after each of the last rounds it was invited to, oldest first, at most CHANGE_WINDOW + 1.
        excluded_in: The round in which it was excluded; None while it is not.
    """

    participation: float = 1.0
    update_quality: float = 0.5
    behavioral_consistency: float = 1.0
    compliance: float = 1.0
    usual: Usual | None = None
    answered: int = 0
    excluded_in: int | None = None
    recent: tuple[float, ...] = ()

    @property
    def factors(self) -> dict[str, float]:
        """What trust consists of, each from 0 to 1."""
        return {
            "participation": self.participation,
            "update_quality": self.update_quality,
            "behavioral_consistency": self.behavioral_consistency,
            "compliance": self.compliance,
        }

    @property
    def gate(self) -> float:
        """What the weighted sum of the factors is multiplied by."""
        return min(1.0, self.update_quality / FULL_QUALITY)


NEW = Standing()


def trust_score(standing: Standing, settings: TrustSettings) -> float:
    """Return the trust of a client, from 0 to 1.

    The weighted sum of the factors, times a gate on quality: by the sum alone, a client that always answers keeps the
    weight of participation whatever it sends, and could never be excluded.
    """
    weights = settings.weights
    total = (
        weights.participation * standing.participation
        + weights.update_quality * standing.update_quality
        + weights.behavioral_consistency * standing.behavioral_consistency
        + weights.compliance * standing.compliance
    )
    return max(0.0, min(1.0, total * standing.gate))


def band_of(trust: float, settings: TrustSettings) -> Band:
    """Return the band of a trust score; nobody is quarantined by a score."""
    if trust < settings.exclude_below:
        return Band.EXCLUDED
    return Band.REDUCED if trust < settings.reduce_below else Band.TRUSTED


def change_of(standing: Standing, trust: float, settings: TrustSettings) -> float:
    """Return how much trust was won over the last rounds and since: negative when it was lost.

    Args:
        standing: Of the client.
        trust: What its trust is now.
        settings: Of the federation.
    """
    return trust - (standing.recent[0] if standing.recent else trust_score(NEW, settings))


def is_on_probation(standing: Standing, settings: TrustSettings) -> bool:
    """Whether a client has yet to show what its updates are worth."""
    return standing.answered < settings.probation_rounds


def is_probed(standing: Standing, round_number: int, settings: TrustSettings) -> bool:
    """Whether an excluded client is asked for an update in a round, to earn trust back.

    Who is excluded by what a person or the settings say, and by no round, is asked as if that were so from the start.
    """
    since = standing.excluded_in or 0
    return round_number > since and (round_number - since) % settings.probe_every == 0
