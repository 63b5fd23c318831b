"""Which federations are run, and what each of them came to."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from typing import TypeVar

from rich.console import Console
from rich.progress import track

from policy_engine.simulation.federation import Federation, Scenario

AVERAGED = (
    "label_flip",
    "sign_flip",
    "sign_flip_3",
    "gaussian",
    "backdoor_boosted",
    "free_rider_noise",
    "free_rider_replay",
    "on_off",
    "cycling_on_off",
    "whitewashing",
    "alie",
)
"""The attacks whose accuracies the means and the worst are of."""

BREAKS = ("adaptive_blend", "adaptive_labels", "backdoor")
"""Attacks that are known to break something, and would hide in a mean: they have a table of their own."""

CYCLING = "cycling_on_off"
RENAMED = "whitewashing"
RECALLED = tuple(attack for attack in AVERAGED if attack not in {CYCLING, RENAMED})
"""Whom recall and precision are about. Cycling attackers behave well half of the time and may be trusted at the end
rightly: what they send meanwhile is judged update by update. Their recall is a figure of its own. Who has just come
back under a new name is not excluded yet, so that tells nothing either."""

T = TypeVar("T")

SHARES = (0.2, 0.4)
PROCESSES = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What a federation came to.

    Attributes:
        accuracy: At the end, in percent.
        backdoor: Which share of marked images is taken for the target at the end, in percent.
        attackers: How many there are.
        hit: How many of them are excluded at the end.
        wrong: How many honest clients are.
        ever_wrong: How many honest clients were at any time.
        held: How many rounds were held.
    """

    scenario: Scenario
    accuracy: float
    backdoor: float
    attackers: int
    hit: int
    wrong: int
    ever_wrong: int
    held: int


def scenarios(defences: Sequence[str], seeds: Sequence[int], rounds: int) -> list[Scenario]:
    """Return every federation that is run."""
    attacks = [(None, 0.0), *((attack, share) for attack in (*AVERAGED, *BREAKS) for share in SHARES)]
    return [
        Scenario(defence=defence, attack=attack, attackers=share, seed=seed, rounds=rounds)
        for attack, share in attacks
        for defence in defences
        for seed in seeds
    ]


def run(scenario: Scenario) -> Result:
    federation = Federation(scenario)
    rounds = list(federation.run())
    last = rounds[-1]
    ever = frozenset().union(*(each.excluded for each in rounds))
    return Result(
        scenario=scenario,
        accuracy=100 * last.accuracy,
        backdoor=100 * last.backdoor,
        attackers=len(federation.attackers),
        hit=len(last.excluded & federation.attackers),
        wrong=len(last.excluded - federation.attackers),
        ever_wrong=len(ever - federation.attackers),
        held=sum(each.held for each in rounds),
    )


def run_all(every: Sequence[Scenario]) -> list[Result]:
    """Run them in two processes, and show how far it is; the order is that of the scenarios."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, mp_context=context) as pool:
        futures = {pool.submit(run, scenario): number for number, scenario in enumerate(every)}
        found: list[Result | None] = [None] * len(every)
        for future in _watched(as_completed(futures), len(every)):
            found[futures[future]] = future.result()
    return [each for each in found if each is not None]


def _watched(items: Iterator[T], total: int) -> Iterator[T]:
    """Yield items, and show how many there were: a bar on a terminal, a line at each tenth elsewhere."""
    if sys.stderr.isatty():
        yield from track(items, "federations", total=total, console=Console(stderr=True))
        return
    for number, item in enumerate(items, 1):
        if number * 10 // total > (number - 1) * 10 // total:
            print(f"{number} of {total} federations", file=sys.stderr, flush=True)
        yield item
