"""One round: from what was observed of its clients to their standings, and to what to do with their updates.

The formula and its constants were found by measurement on attacks with a fifth and two fifths of attackers; the idea of
a trusted reference is that of FLTrust (Cao et al., 2021), the momentum in it that of Karimireddy et al. (2021).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import log
from statistics import median
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from policy_engine.trust.advice import ClientAdvice, RoundAdvice
from policy_engine.trust.observation import ClientUpdate, RoundObservation
from policy_engine.trust.settings import TrustSettings
from policy_engine.trust.standing import (
    CHANGE_WINDOW,
    NEW,
    Band,
    Standing,
    Usual,
    band_of,
    is_on_probation,
    trust_score,
)

REJECT_BELOW = 0.2
"""An update of less quality is not aggregated."""

MAX_RATIO, MIN_RATIO = 3.0, 0.1
MAX_COS_PREV = 0.9
"""Above it an update repeats the last global step: somebody plays back what everybody knows."""

MAX_PAIR_COS = 0.97
"""Above it two updates are the same one."""

_NONE: Mapping[str, float] = MappingProxyType({})
_PARTICIPATION_RATE = 0.1
_RISE, _FALL = 0.10, 0.35
"""Trust is slow to earn and fast to lose."""

_USUAL_RATE = 0.2
_TOLERANCE = 1.25
_MAD_TO_SIGMA = 1.4826
"""The median absolute deviation of a normal distribution, times this, is its standard deviation."""

_MIN_SPREAD_RATIO, _MIN_SPREAD_COSINE = 0.15, 0.10
_TOP_QUANTILE, _TOP_AT_MOST, _TOP_AT_LEAST = 0.75, 0.8, 0.05
_LEAST_RATIO = 1e-6


class Closed(NamedTuple):
    """A round that was reckoned.

    Attributes:
        standings: Of each client of the round, from now on.
        advice: What to do with each one's update.
        absent: How many clients were left out of the round because they are excluded.
    """

    standings: dict[str, Standing]
    advice: RoundAdvice
    absent: int


class _Cohort(NamedTuple):
    """What updates of a round are measured by, all from clients that count (`counted`).

    Attributes:
        norm: The median norm.
        top: What counts as a good cosine to the reference.
        ratio_spread: How far ln(norm / median norm) usually strays.
        cosine_spread: How far cosines do.
    """

    norm: float
    top: float
    ratio_spread: float
    cosine_spread: float


def close_round(
    observation: RoundObservation,
    standings: Mapping[str, Standing],
    settings: TrustSettings,
    quarantined: Collection[str] = (),
    fixed: Mapping[str, float] = _NONE,
) -> Closed:
    """Reckon a round.

    Args:
        observation: What was observed of it.
        standings: The standings of clients before it; those that are missing are new.
        settings: Of the federation.
        quarantined: Clients that a person or a policy put in quarantine.
        fixed: Trust that a person has set.
    """
    before = {update.client_id: standings.get(update.client_id, NEW) for update in observation.clients}
    cohort = _cohort(observation.clients, before, settings, quarantined, fixed)
    after: dict[str, Standing] = {}
    advice: list[ClientAdvice] = []
    for update in observation.clients:
        name = update.client_id
        quality, fault = _quality(update, cohort) if cohort and update.answered else (None, "")
        after[name] = _moved(before[name], update, cohort, quality, fault, observation.round, settings, fixed)
        advice.append(_advice(after[name], update, cohort, quality, fault, name in quarantined, settings))
    absent = sum(
        name not in quarantined and _is_excluded(name, standings.get(name, NEW), settings, fixed)
        for name in observation.left_out
    )
    return Closed(after, advised(observation.federation, observation.round, advice, absent, settings), absent)


def advised(
    federation: str, round_number: int, clients: Sequence[ClientAdvice], absent: int, settings: TrustSettings
) -> RoundAdvice:
    """Return the advice on a round, which is held when too many of those that would take part count nothing.

    That is what tells in time that the reference is captured: updates are refused rounds before trust has fallen so far
    that their clients are excluded.

    Args:
        federation: Which.
        round_number: Its round.
        clients: What to do with each update.
        absent: How many clients were left out of the round because they are excluded.
        settings: Of the federation.
    """
    everybody = len(clients) + absent
    refused = (absent + sum(each.band is Band.EXCLUDED or _is_rejected(each) for each in clients)) / everybody
    return RoundAdvice(
        federation=federation,
        round=round_number,
        held=refused > settings.max_excluded_share,
        excluded_share=(absent + sum(each.band is Band.EXCLUDED for each in clients)) / everybody,
        refused_share=refused,
        clients=list(clients),
    )


def _is_rejected(advice: ClientAdvice) -> bool:
    in_quarantine = advice.band is Band.QUARANTINED or bool(advice.quarantined_by)
    return advice.quality is not None and not advice.accept and not in_quarantine


def _is_excluded(name: str, standing: Standing, settings: TrustSettings, fixed: Mapping[str, float]) -> bool:
    return band_of(fixed.get(name, trust_score(standing, settings)), settings) is Band.EXCLUDED


# What the round is measured by


def counted(names: Sequence[str], excluded: Collection[str], on_probation: Collection[str]) -> list[str]:
    """Return whose updates are what others are measured by.

    Those of clients on probation are not, or whoever is excluded would come back under a new name and turn the measure.
    They are while they are in the majority, as in the first rounds; and where all are excluded, all of them count.

    Args:
        names: Who sent an update.
        excluded: Who is excluded, or in quarantine.
        on_probation: Who is new.
    """
    left = [name for name in names if name not in excluded]
    established = [name for name in left if name not in on_probation]
    if 2 * len(established) >= len(left):
        left = established
    return left or list(names)


def _cohort(
    updates: Sequence[ClientUpdate],
    before: Mapping[str, Standing],
    settings: TrustSettings,
    quarantined: Collection[str],
    fixed: Mapping[str, float],
) -> _Cohort | None:
    """Return what updates are measured by, None when no update came."""
    came = {update.client_id: update for update in updates if update.answered}
    excluded = {name for name in came if name in quarantined or _is_excluded(name, before[name], settings, fixed)}
    on_probation = {name for name in came if is_on_probation(before[name], settings)}
    measure = [came[name] for name in counted(list(came), excluded, on_probation)]
    if not measure:
        return None
    norm = median(_norm(update) for update in measure)
    cosines = [_cosine(update) for update in measure]
    ratios = [log(_ratio(update, norm)) for update in measure]
    return _Cohort(
        norm=norm,
        top=max(_quantile([min(cosine, _TOP_AT_MOST) for cosine in cosines], _TOP_QUANTILE), _TOP_AT_LEAST),
        ratio_spread=max(_MAD_TO_SIGMA * _mad(ratios), _MIN_SPREAD_RATIO),
        cosine_spread=max(_MAD_TO_SIGMA * _mad(cosines), _MIN_SPREAD_COSINE),
    )


def _norm(update: ClientUpdate) -> float:
    return update.norm or 0.0


def _cosine(update: ClientUpdate) -> float:
    return max(-1.0, min(1.0, update.cos_ref or 0.0))


def _ratio(update: ClientUpdate, median_norm: float) -> float:
    """Return norm / median norm, within what a logarithm can take; where all updates are nothing, 1."""
    norm = _norm(update)
    if median_norm == 0:
        return 1.0 if norm == 0 else 1 / _LEAST_RATIO
    return max(_LEAST_RATIO, min(1 / _LEAST_RATIO, norm / median_norm))


def _mad(values: Sequence[float]) -> float:
    middle = median(values)
    return median(abs(value - middle) for value in values)


def _quantile(values: Sequence[float], share: float) -> float:
    """Return a quantile, between two values by linear interpolation."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


# What one update is worth


def _quality(update: ClientUpdate, cohort: _Cohort) -> tuple[float, str]:
    """Return the quality of an update, and what rule it broke, if it broke one."""
    ratio, cosine = _ratio(update, cohort.norm), _cosine(update)
    fault = _fault(update, ratio)
    if fault:
        return 0.0, fault
    direction = max(0.0, min(1.0, cosine / (0.5 * cohort.top)))
    size = max(0.0, min(1.0, 2 / ratio, 4 * ratio))
    return direction * size, ""


def _fault(update: ClientUpdate, ratio: float) -> str:
    if ratio > MAX_RATIO:
        return f"its norm is {ratio:.3g} times the median, above {MAX_RATIO:g}"
    if ratio < MIN_RATIO:
        return f"its norm is {ratio:.3g} times the median, below {MIN_RATIO:g}"
    if update.cos_prev is not None and update.cos_prev > MAX_COS_PREV:
        return "it repeats the last global step"
    if update.max_pair_cos is not None and update.max_pair_cos > MAX_PAIR_COS:
        return "it is the update of another client once more"
    return ""


# What becomes of a standing


def _moved(  # noqa: PLR0917 - the parts of one step
    standing: Standing,
    update: ClientUpdate,
    cohort: _Cohort | None,
    quality: float | None,
    fault: str,
    round_number: int,
    settings: TrustSettings,
    fixed: Mapping[str, float],
) -> Standing:
    """Return the standing of a client after a round."""
    participation = standing.participation + _PARTICIPATION_RATE * (update.answered - standing.participation)
    moved = msgspec.structs.replace(standing, participation=participation)
    if quality is not None and cohort is not None:
        seen = Usual(log(_ratio(update, cohort.norm)), _cosine(update))
        moved = msgspec.structs.replace(
            moved,
            update_quality=_step(standing.update_quality, quality),
            compliance=_step(standing.compliance, 0.0 if fault else 1.0),
            behavioral_consistency=_step(standing.behavioral_consistency, _consistency(standing.usual, seen, cohort)),
            usual=_averaged(standing.usual, seen),
            answered=standing.answered + 1,
        )
    trust = fixed.get(update.client_id, trust_score(moved, settings))
    before = standing.recent or (trust_score(standing, settings),)
    return msgspec.structs.replace(
        moved,
        excluded_in=_excluded_in(standing, trust, round_number, settings),
        recent=(*before, trust)[-CHANGE_WINDOW - 1 :],
    )


def _excluded_in(standing: Standing, trust: float, round_number: int, settings: TrustSettings) -> int | None:
    if band_of(trust, settings) is not Band.EXCLUDED:
        return None
    return round_number if standing.excluded_in is None else standing.excluded_in


def violated(standing: Standing, round_number: int, settings: TrustSettings, fixed: float | None = None) -> Standing:
    """Return the standing of a client that broke a rule.

    Args:
        standing: Before that.
        round_number: The first round that was not closed yet.
        settings: Of the federation.
        fixed: The trust that a person has set.
    """
    lowered = msgspec.structs.replace(standing, compliance=_step(standing.compliance, 0.0))
    trust = trust_score(lowered, settings) if fixed is None else fixed
    return msgspec.structs.replace(lowered, excluded_in=_excluded_in(standing, trust, round_number, settings))


def _step(factor: float, value: float) -> float:
    return factor + (_RISE if value >= factor else _FALL) * (value - factor)


def _consistency(usual: Usual | None, seen: Usual, cohort: _Cohort) -> float:
    """Return how usual an update is for its client: 1 for a first one."""
    if usual is None:
        return 1.0
    deviation = max(
        abs(seen.ln_ratio - usual.ln_ratio) / (4 * cohort.ratio_spread),
        abs(seen.cosine - usual.cosine) / (4 * cohort.cosine_spread),
    )
    return max(0.0, min(1.0, _TOLERANCE - deviation))


def _averaged(usual: Usual | None, seen: Usual) -> Usual:
    if usual is None:
        return seen
    return Usual(*(old + _USUAL_RATE * (new - old) for old, new in zip(usual, seen, strict=True)))


# What is to be done


def _advice(  # noqa: PLR0917 - the parts of one answer
    standing: Standing,
    update: ClientUpdate,
    cohort: _Cohort | None,
    quality: float | None,
    fault: str,
    in_quarantine: bool,  # noqa: FBT001 - the same
    settings: TrustSettings,
) -> ClientAdvice:
    trust = standing.recent[-1]
    band = Band.QUARANTINED if in_quarantine else band_of(trust, settings)
    told: dict[str, Any] = {"client_id": update.client_id, "trust": trust, "band": band, "quality": quality}
    if quality is None or cohort is None:
        return _refused(told, "no update came")
    refusal = _refusal(band, quality, fault)
    if refusal:
        return _refused(told, refusal)
    on_probation = standing.answered <= settings.probation_rounds
    weight = settings.reduced_weight if band is Band.REDUCED else 1.0
    if on_probation:
        weight = min(weight, settings.probation_weight)
    clip = cohort.norm if _norm(update) > cohort.norm else None
    why = "on probation" if on_probation else f"{band.value}: trust {trust:.2f}"
    return ClientAdvice(**told, accept=True, clip_norm=clip, weight_multiplier=weight, reason=why)


def _refused(told: dict[str, Any], reason: str) -> ClientAdvice:
    return ClientAdvice(**told, accept=False, clip_norm=None, weight_multiplier=0.0, reason=reason)


def _refusal(band: Band, quality: float, fault: str) -> str:
    """Return why an update is not aggregated; nothing when it is."""
    if band is Band.QUARANTINED:
        return "the client is in quarantine"
    if fault:
        return fault
    if quality < REJECT_BELOW:
        return f"its quality is {quality:.2f}, below {REJECT_BELOW:g}"
    return "the client is excluded" if band is Band.EXCLUDED else ""
