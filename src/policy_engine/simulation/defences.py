"""What a server does with the updates of a round: plain averaging, robust aggregation, and this engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from policy_engine.authority import TrustAuthority
from policy_engine.simulation.vector import Matrix, Vector, length, unit
from policy_engine.trust.advice import RoundAdvice
from policy_engine.trust.observation import RoundObservation
from policy_engine.trust.settings import TrustSettings
from policy_engine.trust.standing import Band
from policy_engine.trust.statistics import RoundStatistics, clipped

FEDERATION = "simulation"
_TRIM = 0.4


class Setting(NamedTuple):
    """What a defence is told before the first round.

    Attributes:
        attackers: How many attackers to expect; only Multi-Krum asks, and is told the truth.
        max_excluded_share: Above which share of excluded clients the engine holds a round.
    """

    attackers: int
    max_excluded_share: float = 0.5


class Received(NamedTuple):
    """What came in a round.

    Attributes:
        updates: Client -> its update, of those that were invited.
        samples: Client -> on how many samples it says it trained.
        root: What training on the root samples gives.
    """

    round: int
    updates: Mapping[str, Vector]
    samples: Mapping[str, int]
    root: Callable[[], Vector]


class Outcome(NamedTuple):
    """What a defence makes of a round.

    Attributes:
        step: By what the global model moves; None when it stays.
        excluded: Whose updates count nothing, for what they are or for what their clients did before.
        trust: Client -> trust, for a defence that has such a thing.
        held: Whether the defence does not believe the round.
    """

    step: Vector | None
    excluded: frozenset[str] = frozenset()
    trust: Mapping[str, float] = {}
    held: bool = False


class Defence(Protocol):
    """A defence of one federation, round by round."""

    def invite(self, round_number: int, names: Sequence[str]) -> Sequence[str]:
        """Return who of all clients is asked for an update."""

    def aggregate(self, received: Received) -> Outcome:
        """Return what becomes of the global model."""


DEFENCES: dict[str, Callable[[Setting], Defence]] = {}


def register(name: str, make: Callable[[Setting], Defence]) -> None:
    """Make a defence known under a name."""
    DEFENCES[name] = make


# Those that know one round only


class _Rule:
    """A defence that is a function of the updates."""

    def __init__(self, setting: Setting, rule: Callable[[Received, Setting], Outcome]) -> None:
        self._setting = setting
        self._rule = rule

    def invite(self, round_number: int, names: Sequence[str]) -> Sequence[str]:  # noqa: ARG002 - always all of them
        return names

    def aggregate(self, received: Received) -> Outcome:
        return self._rule(received, self._setting)


def _stacked(received: Received) -> Matrix:
    return np.stack(list(received.updates.values()))


def fedavg(received: Received, setting: Setting) -> Outcome:  # noqa: ARG001 - a rule
    """Return the mean, weighted by samples (McMahan et al., 2017)."""
    weights = np.array([received.samples[name] for name in received.updates], dtype=np.float64)
    return Outcome(weights @ _stacked(received) / weights.sum())


def multi_krum(received: Received, setting: Setting) -> Outcome:
    """Return the mean of those that have the closest neighbours, as many as are honest (Blanchard et al., 2017)."""
    stacked = _stacked(received)
    squares = (stacked**2).sum(axis=1)
    distances = squares[:, None] + squares[None, :] - 2 * stacked @ stacked.T
    np.fill_diagonal(distances, np.inf)
    kept = len(stacked) - setting.attackers
    neighbours = max(1, kept - 2)
    scores = np.sort(distances, axis=1)[:, :neighbours].sum(axis=1)
    chosen = np.argsort(scores, kind="stable")[:kept]
    out = frozenset(received.updates) - {list(received.updates)[number] for number in chosen}
    return Outcome(stacked[chosen].mean(axis=0), out)


def trimmed_mean(received: Received, setting: Setting) -> Outcome:  # noqa: ARG001 - a rule
    """Return the mean without the largest and the smallest two fifths, number by number (Yin et al., 2018)."""
    ordered = np.sort(_stacked(received), axis=0)
    cut = min(int(_TRIM * len(ordered)), (len(ordered) - 1) // 2)
    return Outcome(ordered[cut : len(ordered) - cut].mean(axis=0))


def fltrust(received: Received, setting: Setting) -> Outcome:  # noqa: ARG001 - a rule
    """Return the mean weighted by cosine to the root update, each as long as that one (Cao et al., 2021)."""
    root = received.root()
    units = np.stack([unit(update) for update in received.updates.values()])
    scores = np.maximum(units @ unit(root), 0.0)
    out = frozenset(name for name, score in zip(received.updates, scores, strict=True) if score == 0)
    if not scores.any():
        return Outcome(None, out)
    return Outcome(length(root) * (scores @ units) / scores.sum(), out)


# This engine


class EngineDefence:
    """The trust of this engine, asked as an FL server asks it."""

    def __init__(self, settings: TrustSettings) -> None:
        self._names: Sequence[str] = ()
        self._uses_root = settings.reference == "root"
        self._authority = TrustAuthority(settings={FEDERATION: settings}, clock=lambda: 0.0)
        self._statistics = RoundStatistics()
        self._probed: frozenset[str] = frozenset()
        self._on_probation: frozenset[str] = frozenset()
        self._left_out: tuple[str, ...] = ()

    def invite(self, round_number: int, names: Sequence[str]) -> Sequence[str]:
        """Ask the engine whom to invite."""
        self._names = names
        selection = self._authority.select(FEDERATION, round_number, names)
        self._probed = frozenset(selection.probed)
        self._on_probation = frozenset(selection.on_probation)
        self._left_out = tuple(selection.left_out)
        asked = {*selection.invited, *selection.probed}
        return [name for name in names if name in asked]

    def aggregate(self, received: Received) -> Outcome:
        """Tell the engine what came, and do as it says."""
        if not received.updates:  # all are excluded, and none is probed
            return self._outcome(None, held=True)
        root = received.root() if self._uses_root else None
        observed = self._statistics.observe(
            received.updates, excluded=self._probed, on_probation=self._on_probation, root=root
        )
        observation = RoundObservation(
            federation=FEDERATION, round=received.round, clients=tuple(observed), left_out=self._left_out
        )
        advice = self._authority.observe(observation)
        step = None if advice.held else _advised(received, advice)
        if step is not None:
            self._statistics.accept(step)
        return self._outcome(step, held=advice.held)

    def _outcome(self, step: Vector | None, *, held: bool) -> Outcome:
        known = {name: self._authority.known(name, FEDERATION) for name in self._names}
        excluded = frozenset(name for name, found in known.items() if found.band == Band.EXCLUDED.value)
        return Outcome(step, excluded, {name: found.record.trust for name, found in known.items()}, held)


def _advised(received: Received, advice: RoundAdvice) -> Vector | None:
    """Return the mean of what was accepted, clipped and weighted as advised; None when nothing was."""
    accepted = [each for each in advice.clients if each.accept and each.weight_multiplier > 0]
    if not accepted:
        return None
    weights = np.array([each.weight_multiplier * received.samples[each.client_id] for each in accepted])
    stacked = np.stack([clipped(received.updates[each.client_id], each.clip_norm) for each in accepted])
    mean: Vector = weights @ stacked / weights.sum()
    return mean


def _engine(reference: str) -> Callable[[Setting], Defence]:
    def make(setting: Setting) -> Defence:
        return EngineDefence(
            TrustSettings(
                reference="root" if reference == "root" else "median", max_excluded_share=setting.max_excluded_share
            )
        )

    return make


def _rule(rule: Callable[[Received, Setting], Outcome]) -> Callable[[Setting], Defence]:
    return lambda setting: _Rule(setting, rule)


register("fedavg", _rule(fedavg))
register("multi_krum", _rule(multi_krum))
register("trimmed_mean", _rule(trimmed_mean))
register("fltrust", _rule(fltrust))
register("engine_median", _engine("median"))
register("engine_root", _engine("root"))
