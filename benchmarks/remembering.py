"""What remembering costs: the writer alone, the log's share of the HTTP rate, and a log that has grown."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.report import Report
from benchmarks.servers import Server, service
from benchmarks.workloads import network_document, network_requests, network_rules
from benchmarks.wrk import Load, is_missing, run_wrk, write_script
from policy_engine import PolicyEngine
from policy_engine.model.record import Checked
from policy_engine.store.decisions import DecisionQuery
from policy_engine.store.opened import Store
from policy_engine.store.options import StoreOptions

TYPE = "network_security"
RULES = network_rules(1000)
CLIENTS = 20_000
MILLION = 1_000_000
SAMPLE = 100_000


def run_log(report: Report, *, quick: bool) -> None:
    """Measure the writer on SQLite from an empty log to a million decisions, and queries there; and on PostgreSQL."""
    target, sample = (MILLION // 10, SAMPLE // 10) if quick else (MILLION, SAMPLE)
    print(f"the decision log (rows through the writer, up to {target:,})")
    with TemporaryDirectory() as folder:
        options = StoreOptions(url=f"sqlite:///{folder}/log.db", data_dir=Path(folder), queue=sample * 2)
        with _opened(options) as store:
            report.add("log sqlite: decisions a second, empty", _rate(store, sample), "1/s")
            _fill(store, target - 2 * sample, sample)
            report.add("log sqlite: decisions a second, a million decisions", _rate(store, sample), "1/s")
            _measure_pages(report, store)
        began = time.perf_counter()
        with _opened(options):
            report.add("log sqlite: start with a million decisions", time.perf_counter() - began, "s")
    _run_postgresql(report, sample)


def _run_postgresql(report: Report, sample: int) -> None:
    from tests.postgres import Postgres  # noqa: PLC0415 - a server that the tests bring along

    with TemporaryDirectory() as folder:
        server = Postgres(Path(folder, "server"))
        server.start()
        try:
            options = StoreOptions(url=server.url("postgres"), data_dir=Path(folder), queue=sample * 2)
            with _opened(options) as store:
                report.add("log postgresql: decisions a second", _rate(store, sample), "1/s")
        finally:
            server.stop()


@contextmanager
def _opened(options: StoreOptions) -> Iterator[Store]:
    store = Store(options)
    store.start()
    try:
        yield store
    finally:
        store.stop()


def _checks() -> list[Checked]:
    engine = PolicyEngine.from_document(network_document(RULES))
    requests = network_requests(RULES)
    asked = [{**requests[number % len(requests)], "client_id": f"client-{number}"} for number in range(CLIENTS)]
    return [engine.evaluate(TYPE, request) for request in asked]


def _rate(store: Store, count: int) -> float:
    """Return how many decisions a second get through the writer: how fast its queue empties, commits included."""
    checks = _checks()
    began = time.perf_counter()
    for number in range(count):
        store.writer.record_decisions((checks[number % CLIENTS],), "127.0.0.1")
    while store.writer.waiting:
        time.sleep(0.005)
    return count / (time.perf_counter() - began)


def _fill(store: Store, count: int, part: int) -> None:
    for start in range(0, count, part):
        _rate(store, min(part, count - start))
        print(f"    {start + part:,} rows", end="\r", flush=True)
    print(" " * 40, end="\r")


def _measure_pages(report: Report, store: Store) -> None:
    now = datetime.now(UTC)
    early = int((now - timedelta(hours=1)).timestamp() * 1e6)
    queries = {
        "newest": DecisionQuery(),
        "one client": DecisionQuery(client="client-77"),
        "one client, denied": DecisionQuery(client="client-77", allowed=False),
        "denied": DecisionQuery(allowed=False),
        "no such client": DecisionQuery(client="nobody"),
        "no such policy": DecisionQuery(policy_id="nowhere"),
        "type, component, result, since": DecisionQuery(
            policy_type=TYPE, component="fl-client", allowed=True, start=early
        ),
    }
    slowest = 0.0
    for query in queries.values():
        times = []
        for _ in range(5):
            began = time.perf_counter()
            store.decisions.page(query)
            times.append((time.perf_counter() - began) * 1e3)
        slowest = max(slowest, median(times))
    report.add("log sqlite: slowest of seven filtered pages", slowest, "ms")


def run_logged(report: Report, *, quick: bool) -> None:
    """Measure what the log costs the HTTP rate at 16 connections: with and without it, in turn.

    From one start to the next the rate of the same service differs by a fifth, so there are several.
    """
    print("the log over HTTP (wrk -t1 -c16, one worker, 1,000 network rules)")
    if is_missing():
        print("  these figures need wrk: apt-get install wrk")
        return
    requests = [{**request, "client_id": f"client-{number}"} for number, request in enumerate(network_requests(RULES))]
    loads: dict[str, list[Load]] = {"with": [], "without": []}
    with TemporaryDirectory() as folder:
        policies = Path(folder, "policies.json")
        policies.write_text(json.dumps(network_document(RULES)), encoding="utf-8")
        script = write_script(Path(folder), TYPE, requests)
        for start in range(1 if quick else 5):
            _load_in_turn(loads, policies, script, Path(folder, str(start)), seconds=2 if quick else 5)
    for name, runs in loads.items():
        report.add(f"logged: requests a second {name} the log", median(load.rate for load in runs), "1/s")
    shares = [1 - one.rate / other.rate for one, other in zip(loads["with"], loads["without"], strict=True)]
    report.add("logged: share of the rate that the log costs", median(shares))
    report.add("logged: p99 with the log", median(load.p99_ms for load in loads["with"]), "ms")


def _load_in_turn(loads: dict[str, list[Load]], policies: Path, script: Path, data: Path, *, seconds: int) -> None:
    """Start the service with and without the log, and load the two in turn."""
    settings = {"with": {}, "without": {"POLICY_DECISION_LOG": "off"}}
    with ExitStack() as stack:
        servers = {name: stack.enter_context(service(policies, data / name, **more)) for name, more in settings.items()}
        for server in servers.values():
            run_wrk(server.url, script, seconds=1)  # warms up
        for _ in range(3):
            for name, server in servers.items():
                loads[name].append(run_wrk(server.url, script, seconds=seconds))
                _settle(server)


def _settle(server: Server) -> None:
    """Wait until the log has caught up: the newest decision has been there for a moment."""
    seen: Sequence[Any] = ()
    for _ in range(200):
        connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
        connection.request("GET", "/api/v1/decisions?limit=1")
        newest = json.loads(connection.getresponse().read())["decisions"]
        connection.close()
        if newest == seen:
            return
        seen = newest
        time.sleep(0.3)
