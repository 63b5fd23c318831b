"""What the federations came to, as tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean

from benchmarks.trust.runs import AVERAGED, BREAKS, CYCLING, RECALLED, SHARES, Result

TITLES = {
    "fedavg": "plain FedAvg",
    "multi_krum": "Multi-Krum (number of attackers known)",
    "trimmed_mean": "trimmed mean, 40 % at each end",
    "fltrust": "FLTrust (100 root samples)",
    "engine_median": "**the engine, median reference**",
    "engine_root": "**the engine, root reference**",
}
_EXCLUDING = ("multi_krum", "fltrust", "engine_median", "engine_root")

HEAD = (
    *("method", "clean", "mean 20 %", "mean 40 %", "worst", "backdoor success 20 / 40 %"),
    *("recall / precision", "cycling recall", "honest excluded, clean", "rounds held"),
)


class Results:
    """The results of all federations."""

    def __init__(self, results: Sequence[Result]) -> None:
        self._results = results

    def of(self, defence: str, attacks: Iterable[str | None], share: float | None = None) -> list[Result]:
        """Return those of a defence under some attacks; `share` picks a share of attackers."""
        wanted = set(attacks)
        return [
            each
            for each in self._results
            if each.scenario.defence == defence
            and each.scenario.attack in wanted
            and share in {None, each.scenario.attackers}
        ]

    def clean(self, defence: str) -> float:
        return _accuracy(self.of(defence, [None]))

    def mean(self, defence: str, share: float) -> float:
        return _accuracy(self.of(defence, AVERAGED, share))

    def worst(self, defence: str) -> float:
        """Return the worst mean over the seeds."""
        return min(_accuracy(self.of(defence, [attack], share)) for attack in AVERAGED for share in SHARES)

    def recall(self, defence: str, attacks: Iterable[str] = RECALLED) -> float:
        found = self.of(defence, attacks)
        return 100 * sum(each.hit for each in found) / sum(each.attackers for each in found)

    def precision(self, defence: str) -> float:
        found = self.of(defence, RECALLED)
        excluded = sum(each.hit + each.wrong for each in found)
        return 100 * sum(each.hit for each in found) / excluded if excluded else 0.0

    def wrong_when_clean(self, defence: str) -> int:
        return sum(each.ever_wrong for each in self.of(defence, [None]))

    def backdoor(self, defence: str, attack: str, share: float) -> float:
        return fmean(each.backdoor for each in self.of(defence, [attack], share))

    def held(self, defence: str, attacks: Iterable[str | None]) -> int:
        return sum(each.held for each in self.of(defence, attacks))

    def gains(self, defence: str, attack: str, share: float) -> list[float]:
        """Return by how much a defence beats plain averaging with each seed."""
        pairs = zip(self.of(defence, [attack], share), self.of("fedavg", [attack], share), strict=True)
        return [mine.accuracy - plain.accuracy for mine, plain in pairs]


def _accuracy(results: Sequence[Result]) -> float:
    return fmean(each.accuracy for each in results)


def summary(results: Results, defences: Sequence[str]) -> str:
    """Return the table of the averaged attacks."""
    return _markdown(HEAD, [_row(results, defence) for defence in defences])


def _row(results: Results, defence: str) -> list[str]:
    excludes = defence in _EXCLUDING
    low, high = (results.backdoor(defence, "backdoor_boosted", share) for share in SHARES)
    return [
        TITLES[defence],
        f"{results.clean(defence):.1f}",
        *(f"{results.mean(defence, share):.1f}" for share in SHARES),
        f"{results.worst(defence):.0f}",
        f"{low:.0f} / {high:.0f}",
        f"{results.recall(defence):.0f} / {results.precision(defence):.0f}" if excludes else "-",
        f"{results.recall(defence, [CYCLING]):.0f}" if excludes else "-",
        str(results.wrong_when_clean(defence)) if excludes else "-",
        str(results.held(defence, [None, *AVERAGED])) if defence.startswith("engine") else "-",
    ]


def by_attack(results: Results, defences: Sequence[str]) -> str:
    """Return the accuracy at 40 % under each averaged attack."""
    rows = [
        [f"`{attack}`", *(f"{_accuracy(results.of(defence, [attack], SHARES[-1])):.1f}" for defence in defences)]
        for attack in AVERAGED
    ]
    return _markdown(("attack, 40 %", *(f"`{defence}`" for defence in defences)), rows)


def breaks(results: Results, defences: Sequence[str]) -> str:
    """Return the accuracy under each attack that breaks something, of each seed, and the success of the backdoor."""
    rows = [
        [f"`{attack}`, {share:.0%}", *(_broken(results, defence, attack, share) for defence in defences)]
        for attack in BREAKS
        for share in SHARES
    ]
    return _markdown(("attack", *(f"`{defence}`" for defence in defences)), rows)


def _broken(results: Results, defence: str, attack: str, share: float) -> str:
    found = results.of(defence, [attack], share)
    told = " ".join(f"{each.accuracy:.0f}" for each in found)
    if attack == "backdoor":
        told += f"; works {results.backdoor(defence, attack, share):.0f}"
    held = sum(each.held for each in found)
    return f"{told}; held {held}" if held else told


def _markdown(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    titles = list(head)
    lines = [titles, ["---"] * len(titles), *(list(row) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
