"""`python -m benchmarks`: measure, print, and fail where a threshold does not hold."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path

import click

from benchmarks import decisions, serving
from benchmarks.report import Report

SUITES = {"decisions": decisions.run, "serving": serving.run}
BUSY = 0.5


@click.command()
@click.option("--only", type=click.Choice(list(SUITES)), help="Run one suite.")
@click.option("--quick", is_flag=True, help="Fewer repeats: to see that it runs, not to quote.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures to a file.")
def main(only: str | None, json_file: Path | None, *, quick: bool) -> None:
    """Measure the engine beside its peers and hold it to benchmarks/thresholds.toml.

    In-process figures are medians of CPU time a decision; HTTP figures are medians of several runs of wrk, the servers
    in turn. Run it on a machine that does nothing else: each suite takes one to two minutes.

    Exit code 1 when a threshold does not hold.
    """
    load = os.getloadavg()[0]
    print(f"Python {platform.python_version()} on {os.cpu_count()} processors, load {load:.2f}")
    if load > BUSY:
        print("the machine is busy with something else: take these figures with a grain of salt")
    report = Report()
    for name, run in SUITES.items():
        if only in (None, name):
            run(report, quick=quick)
    if json_file is not None:
        json_file.write_text(json.dumps(report.figures, indent=2) + "\n", encoding="utf-8")
    failures = report.failures()
    print("every threshold holds" if not failures else f"does not hold: {', '.join(failures)}")
    raise SystemExit(1 if failures else 0)


if __name__ == "__main__":
    main()
