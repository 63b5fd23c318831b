"""The service over HTTP, beside plain Flask and a bare WSGI callable on the same server, in one run."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.report import Report
from benchmarks.servers import ROOT, Server, granian, proportional_memory, service
from benchmarks.workloads import network_document, network_requests, network_rules
from benchmarks.wrk import Load, is_missing, run_wrk, write_script
from policy_engine import PolicyEngine

TYPE = "network_security"
RULES = network_rules(1000)
REAL_FILE = ROOT / "../shared/data/flopynet/policies.json"
OWN_FILE = ROOT / "config/policies/policies.json"
BATCH = 10_000
MIN_SAMPLES = 20


def run_http(report: Report, *, quick: bool) -> None:
    """Measure rates and latencies of single checks."""
    print("over HTTP (wrk -t1 -c16, one worker, 1,000 network rules)")
    if is_missing():
        print("  these figures need wrk: apt-get install wrk")
        return
    requests = network_requests(RULES)
    # What the log costs is a suite of its own; the other servers here remember nothing either.
    with _serving_rules(POLICY_DECISION_LOG="off") as server, TemporaryDirectory() as folder, ExitStack() as stack:
        _compare_answers(server, requests[:30])
        script = write_script(Path(folder), TYPE, requests)
        servers = {
            "service": server,
            "plain Flask": stack.enter_context(granian("benchmarks.plain:flask")),
            "bare WSGI": stack.enter_context(granian("benchmarks.plain:bare")),
        }
        for other in servers.values():
            run_wrk(other.url, script, seconds=1)  # warms up
        loads: dict[str, list[Load]] = {name: [] for name in servers}
        for _ in range(3 if quick else 7):  # in turn, so that a machine that drifts drifts for all
            for name, other in servers.items():
                loads[name].append(run_wrk(other.url, script, seconds=1 if quick else 3))
    _report_loads(report, loads)


def _report_loads(report: Report, loads: Mapping[str, Sequence[Load]]) -> None:
    for name, runs in loads.items():
        report.add(f"http {name}: requests a second", median(load.rate for load in runs), "1/s")
        report.add(f"http {name}: p99", median(load.p99_ms for load in runs), "ms")
    own, flask, bare = loads["service"], loads["plain Flask"], loads["bare WSGI"]
    pairs = zip(own, flask, bare, strict=True)
    ratios = [(mine.rate / slow.rate, mine.rate / fast.rate, mine.p99_ms / fast.p99_ms) for mine, slow, fast in pairs]
    names = ("http: service / plain Flask", "http: service / bare WSGI", "http: p99 service / bare WSGI")
    for name, series in zip(names, zip(*ratios, strict=True), strict=True):
        report.add(name, median(series), "x")


def run_batch(report: Report, *, quick: bool) -> None:
    """Measure batches back to back, and single checks beside them."""
    print("batches of 10,000 over HTTP, back to back (wall clock)")
    requests = network_requests(RULES)
    batch = _body(contexts=(requests * (BATCH // len(requests) + 1))[:BATCH])
    latencies: list[float] = []
    done = threading.Event()
    with _serving_rules(POLICY_DECISION_LOG="off") as server, _connection(server) as connection:
        if json.loads(_post(connection, "/api/v1/check/batch", batch))["count"] != BATCH:
            raise SystemExit("a batch was not answered in full")
        single = threading.Thread(target=_check_steadily, args=(server, requests, latencies, done))
        single.start()
        try:
            for suffix, query in (("", ""), (", two fields", "?fields=allowed,reason_code")):
                path = f"/api/v1/check/batch{query}"
                times = [_timed_post(connection, path, batch) for _ in range(5 if quick else 25)]
                report.add(f"batch: decisions a second{suffix}", BATCH / median(times), "1/s")
        finally:
            done.set()
            single.join()
    if len(latencies) < MIN_SAMPLES:
        raise SystemExit(f"only {len(latencies)} single checks were answered beside the batches")
    report.add("batch: single checks beside it", len(latencies))
    latencies.sort()
    report.add("batch: p99 of single checks beside it", latencies[int(len(latencies) * 0.99)] * 1e3, "ms")
    with _serving_rules() as server, _connection(server) as connection:
        times = [_timed_post(connection, "/api/v1/check/batch", batch) for _ in range(5 if quick else 25)]
        report.add("batch: decisions a second, logged", BATCH / median(times), "1/s")


def _check_steadily(
    server: Server, requests: Sequence[dict[str, Any]], latencies: list[float], done: threading.Event
) -> None:
    bodies = [_body(context=request) for request in requests]
    with _connection(server) as connection:
        while not done.wait(0.002):
            body = bodies[len(latencies) % len(bodies)]
            latencies.append(_timed_post(connection, "/api/v1/check", body))


def run_memory(report: Report, *, quick: bool) -> None:
    """Measure the memory of the service with a file of ordinary size, after some thousand checks."""
    file = REAL_FILE if REAL_FILE.exists() else OWN_FILE
    bodies = [_body(context=request) for request in network_requests(RULES)]
    with TemporaryDirectory() as folder, service(file, Path(folder)) as server, _connection(server) as connection:
        for number in range(2000 if quick else 5000):
            _post(connection, "/api/v1/check", bodies[number % len(bodies)])
        report.add("memory of the service", proportional_memory(server.pid), "MB")


@contextmanager
def _serving_rules(**settings: str) -> Iterator[Server]:
    with TemporaryDirectory() as folder:
        policies = Path(folder, "policies.json")
        policies.write_text(json.dumps(network_document(RULES)), encoding="utf-8")
        with service(policies, Path(folder, "data"), **settings) as server:
            yield server


def _compare_answers(server: Server, requests: Sequence[dict[str, Any]]) -> None:
    """Make sure that what is measured decides, and decides as the engine does."""
    engine = PolicyEngine.from_document(network_document(RULES))
    with _connection(server) as connection:
        for request in requests:
            given = json.loads(_post(connection, "/api/v1/check", _body(context=request)))["allowed"]
            if given is not engine.check(TYPE, request).allowed:
                raise SystemExit(f"the service answers {given} to {request}: nothing was measured")


@contextmanager
def _connection(server: Server) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        yield connection
    finally:
        connection.close()


def _body(**parts: Any) -> bytes:
    return json.dumps({"policy_type": TYPE, **parts}).encode()


def _post(connection: http.client.HTTPConnection, path: str, body: bytes) -> bytes:
    connection.request("POST", path, body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    answer = response.read()
    if response.status != 200:
        raise SystemExit(f"{path} answers {response.status}: {answer[:200]!r}")
    return answer


def _timed_post(connection: http.client.HTTPConnection, path: str, body: bytes) -> float:
    began = time.perf_counter()
    _post(connection, path, body)
    return time.perf_counter() - began
