"""`python -m benchmarks`: measure, print, and fail where a threshold does not hold."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

import click

from benchmarks import calling, conditions, decisions, identifying, remembering, serving, streaming, trusting
from benchmarks.report import Report

SUITES = {
    "network": decisions.run_network,
    "threshold": decisions.run_threshold,
    "load": decisions.run_load,
    "conditions": conditions.run,
    "http": serving.run_http,
    "batch": serving.run_batch,
    "memory": serving.run_memory,
    "log": remembering.run_log,
    "logged": remembering.run_logged,
    "stream": streaming.run,
    "trust": trusting.run,
    "function": calling.run,
    "identity": identifying.run,
}
BUSY = 0.5


@click.command()
@click.option("--only", type=click.Choice(list(SUITES)), help="Run one suite, and hold it to its thresholds alone.")
@click.option("--quick", is_flag=True, help="Fewer requests and repeats, about a minute: to see that it runs.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write machine and figures to a file.")
def main(only: str | None, json_file: Path | None, *, quick: bool) -> None:
    """Measure the engine beside its peers and hold it to benchmarks/thresholds.toml.

    \b
    network     decisions on 20 to 10,000 network rules, beside cedarpy, datalogic-py, pycasbin
    threshold   decisions on 10 to 1,000 rules that compare metrics with limits, beside the same
    load        from the text of 10,000 rules to a program
    conditions  one condition alone, beside cel-expr-python (no thresholds)
    http        requests a second and p99, beside plain Flask and a bare WSGI callable (needs wrk)
    batch       batches of 10,000, and single checks beside them
    memory      PSS of the service, all its processes
    log         decisions a second through the writer, pages and start-up at a million decisions; SQLite and PostgreSQL
    logged      what the log costs the HTTP rate (needs wrk)
    stream      2,000 subscribers of events, and checks beside them
    trust       rounds of 1,000 clients over HTTP, a fact in a condition, start-up and memory with many on record
    function    calls of policy functions, and checks beside callers that loop hostile ones

    Each line is a figure, its median, and, where it has one, its threshold and whether that holds. In-process figures
    are CPU time; all engines get the same seeded requests and must give the same answers first, or nothing is
    measured. `no request twice` is what is left when nothing that the engine remembers can help. HTTP figures are wall
    clock, the servers in turn, and worth quoting only from a machine that does nothing else.

    \b
    make bench                                   everything, about ten minutes
    make bench ARGS="--quick"                    does it run?
    make bench ARGS="--only http --json out.json"

    Exit code 1 when a threshold does not hold or could not be measured.
    """
    machine = _describe_machine()
    report = Report()
    suites = [only] if only else list(SUITES)
    for name in suites:
        SUITES[name](report, quick=quick)
    failures = report.failures(suites)
    if json_file is not None:
        content = {"machine": machine, "quick": quick, "figures": report.as_json(), "failures": failures}
        json_file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print("every threshold holds" if not failures else "FAIL:\n  " + "\n  ".join(failures))
    raise SystemExit(1 if failures else 0)


def _describe_machine() -> dict[str, Any]:
    """Print and return what the figures were measured on."""
    load = os.getloadavg()[0]
    print(f"Python {platform.python_version()} on {os.cpu_count()} processors, load {load:.2f}")
    if load > BUSY:
        print("warning: the machine is busy with something else; do not quote these figures")
    return {"python": platform.python_version(), "processors": os.cpu_count(), "load": load}


if __name__ == "__main__":
    main()
