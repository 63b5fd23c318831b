"""`python -m benchmarks.trust`: attack federations under each defence, and fail where a threshold does not hold."""

from __future__ import annotations

import os
import time
from pathlib import Path
from statistics import fmean

import click

from benchmarks.report import Report
from benchmarks.trust.runs import AVERAGED, BREAKS, CYCLING, RENAMED, SHARES, run_all, scenarios
from benchmarks.trust.table import TITLES, Results, breaks, by_attack, summary
from policy_engine.simulation.federation import Scenario

THRESHOLDS = Path(__file__).with_name("thresholds.toml")
ENGINES = ("engine_root", "engine_median")
SEEDS = (0, 1, 2)
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@click.command()
@click.option("--only", type=click.Choice(list(TITLES)), multiple=True, help="A defence; FedAvg always runs beside it.")
@click.option("--quick", is_flag=True, help="One seed, a minute or two: to see that it runs.")
@click.option("--report", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write the tables to a file.")
def main(only: tuple[str, ...], file: Path | None, *, quick: bool) -> None:
    """Attack small federations under each defence and hold the engine to benchmarks/trust/thresholds.toml.

    Twenty clients train a small network on scikit-learn's digits, unevenly spread, for thirty rounds; nobody, a fifth
    or two fifths of them attack, in every way that the simulation knows, with three seeds. All defences get the same
    clients, models and seeds. Takes a few minutes on two cores; the same seeds give the same figures.

    \b
    make bench-trust                                             everything
    make bench-trust ARGS="--quick"                              does it run?
    make bench-trust ARGS="--only engine_root --report out.md"   one defence, beside FedAvg

    Exit code 1 when a threshold does not hold; not with --quick, for the thresholds are about the mean of three seeds.
    """
    for name in _THREADS:  # two processes, one thread each
        os.environ.setdefault(name, "1")
    began = time.monotonic()
    defences = [name for name in TITLES if not only or name in only or name == "fedavg"]
    seeds, rounds = (SEEDS[:1] if quick else SEEDS), Scenario().rounds
    results = Results(run_all(scenarios(defences, seeds, rounds)))
    text = _tables(results, defences, len(seeds), rounds)
    print(text)
    if file is not None:
        file.write_text(text, encoding="utf-8")
    print(f"held to {THRESHOLDS.name}:")
    failures = _judged(results, defences)
    print("every threshold holds" if not failures else "FAIL:\n  " + "\n  ".join(failures))
    print(f"{time.monotonic() - began:.0f} seconds")
    raise SystemExit(1 if failures and not quick else 0)


def _tables(results: Results, defences: list[str], seeds: int, rounds: int) -> str:
    conditions = (
        f"20 clients, {rounds} rounds, {seeds} seeds; accuracy in percent. The engine holds a round in which more than"
        f" {Scenario().max_excluded_share:.0%} of the clients are excluded or rejected.\n"
    )
    averaged = (
        f"Means and worst are over {len(AVERAGED)} attacks: {', '.join(AVERAGED)}. Backdoor success is that of"
        f" backdoor_boosted. Recall and precision are of exclusion at the end, {CYCLING} and {RENAMED} left out: the"
        " first has a column of its own, the others have just come back under new names.\n"
    )
    broken = f"Known breaks, in no mean: {', '.join(BREAKS)}. Accuracy with each seed; how often the backdoor works.\n"
    parts = (
        *(conditions, summary(results, defences), averaged, by_attack(results, defences)),
        *(broken, breaks(results, defences)),
    )
    return "\n".join(parts)


def _judged(results: Results, defences: list[str]) -> list[str]:
    report = Report(THRESHOLDS)
    engines = [name for name in ENGINES if name in defences]
    for name in engines:
        lost = results.clean(name) - results.mean(name, SHARES[-1])
        report.add(f"{name}: lost at 40 %", lost, "points")
        report.add(f"{name}: recall", results.recall(name), "%")
        report.add(f"{name}: precision", results.precision(name), "%")
        report.add(f"{name}: honest clients excluded in clean runs", results.wrong_when_clean(name))
        gains = [results.gains(name, "adaptive_blend", share) for share in SHARES]
        report.add(f"{name}: adaptive blend, gain over fedavg", min(map(fmean, gains)), "points")
        report.add(f"{name}: adaptive blend, gain with any seed", min(map(min, gains)), "points")
    return report.failures(engines)


if __name__ == "__main__":
    main()
