"""A round in a few numbers."""

from __future__ import annotations

from statistics import fmean, median

import msgspec

from policy_engine.trust.advice import RoundAdvice
from policy_engine.trust.standing import Band


class RoundSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A round in a few numbers.

    Attributes:
        bands: How many clients are in each band.
    """

    round: int
    clients: int
    answered: int
    accepted: int
    held: bool
    excluded_share: float
    mean_trust: float
    median_trust: float
    lowest_trust: float
    bands: dict[str, int]


def summarise(advice: RoundAdvice) -> RoundSummary:
    """Return the numbers of a round."""
    scores = [each.trust for each in advice.clients]
    bands = dict.fromkeys((band.value for band in Band), 0)
    for each in advice.clients:
        bands[each.band.value] += 1
    return RoundSummary(
        round=advice.round,
        clients=len(scores),
        answered=sum(each.quality is not None for each in advice.clients),
        accepted=sum(each.accept for each in advice.clients),
        held=advice.held,
        excluded_share=advice.excluded_share,
        mean_trust=fmean(scores),
        median_trust=median(scores),
        lowest_trust=min(scores),
        bands=bands,
    )
