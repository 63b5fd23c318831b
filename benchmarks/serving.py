"""The service over HTTP, beside plain Flask and a bare WSGI callable on the same server, in one run."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import subprocess
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.report import Report
from benchmarks.servers import Server, granian, proportional_memory, service
from benchmarks.workloads import network_document, network_requests, network_rules

REAL_FILE = Path("../shared/data/flopynet/policies.json")
OWN_FILE = Path("config/policies/policies.json")
BATCH = 10_000

_LUA = """
local bodies = { %s }
local at = 0
request = function()
  at = at %% #bodies + 1
  return wrk.format("POST", "/api/v1/check", {["Content-Type"] = "application/json"}, bodies[at])
end
"""


def run(report: Report, *, quick: bool) -> None:
    """Measure rates, latencies, batches and memory."""
    rules = network_rules(1000)
    requests = network_requests(rules)
    with TemporaryDirectory() as folder, ExitStack() as stack:
        place = Path(folder)
        policies = place / "policies.json"
        policies.write_text(json.dumps(network_document(rules)), encoding="utf-8")
        servers = {
            "service": stack.enter_context(service(policies, place / "data")),
            "plain Flask": stack.enter_context(granian("benchmarks.plain:flask")),
            "bare WSGI": stack.enter_context(granian("benchmarks.plain:bare")),
        }
        if shutil.which("wrk") is None:
            raise SystemExit("the HTTP figures need wrk: apt-get install wrk")
        _measure_rates(report, servers, _script(place, requests), quick=quick)
        _measure_batches(report, servers["service"], requests, quick=quick)
    _measure_memory(report)


def _script(place: Path, requests: list[dict[str, Any]]) -> Path:
    bodies = [json.dumps({"policy_type": "network_security", "context": context}) for context in requests[:200]]
    script = place / "post.lua"
    script.write_text(_LUA % ",".join(f"[==[{body}]==]" for body in bodies), encoding="utf-8")
    return script


def _measure_rates(report: Report, servers: dict[str, Server], script: Path, *, quick: bool) -> None:
    print("over HTTP (wrk -t1 -c16, one worker, 1,000 network rules)")
    rates: dict[str, list[float]] = {name: [] for name in servers}
    tails: dict[str, list[float]] = {name: [] for name in servers}
    for _ in range(2 if quick else 7):  # in turn, so that a machine that drifts drifts for all
        for name, server in servers.items():
            rate, tail = _wrk(server, script, seconds=1 if quick else 3)
            rates[name].append(rate)
            tails[name].append(tail)
    for name in servers:
        report.add(f"http {name}: requests a second", median(rates[name]), "1/s")
        report.add(f"http {name}: p99", median(tails[name]), "ms")
    report.add("http: service / plain Flask", _ratio(rates, "service", "plain Flask"), "x")
    report.add("http: service / bare WSGI", _ratio(rates, "service", "bare WSGI"), "x")
    report.add("http: p99 service / bare WSGI", _ratio(tails, "service", "bare WSGI"), "x")


def _ratio(series: dict[str, list[float]], one: str, other: str) -> float:
    """Return the median of the ratios, pair by pair."""
    return median(mine / theirs for mine, theirs in zip(series[one], series[other], strict=True))


_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


def _wrk(server: Server, script: Path, *, seconds: int) -> tuple[float, float]:
    """Return requests a second and the 99th percentile of the latency in milliseconds."""
    command = ["wrk", "-t1", "-c16", f"-d{seconds}", "--latency", "-s", str(script), server.url]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    if "Non-2xx" in said:
        raise SystemExit(f"errors while measuring:\n{said}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    tail = re.search(r"99%\s+([\d.]+)(us|ms|s)", said)
    if rate is None or tail is None:
        raise SystemExit(f"wrk says something else:\n{said}")
    return float(rate[1]), float(tail[1]) * _UNITS[tail[2]]


def _measure_batches(report: Report, server: Server, requests: list[dict[str, Any]], *, quick: bool) -> None:
    contexts = (requests * (BATCH // len(requests) + 1))[:BATCH]
    batch = json.dumps({"policy_type": "network_security", "contexts": contexts}).encode()
    single = json.dumps({"policy_type": "network_security", "context": requests[0]}).encode()
    rounds = 4 if quick else 15
    latencies: list[float] = []
    done = threading.Event()
    beside = threading.Thread(target=_check_steadily, args=(server, single, latencies, done))
    _post(server, "/api/v1/check/batch", batch)
    beside.start()
    try:
        for name, query in (("http: batch", ""), ("http: batch of two fields", "?fields=allowed,reason_code")):
            times = [_post(server, f"/api/v1/check/batch{query}", batch) for _ in range(rounds)]
            report.add(name, BATCH / median(times), "1/s")
    finally:
        done.set()
        beside.join()
    latencies.sort()
    report.add("http: p99 of single checks beside batches", latencies[int(len(latencies) * 0.99)] * 1e3, "ms")


def _post(server: Server, path: str, body: bytes) -> float:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    began = time.perf_counter()
    connection.request("POST", path, body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    response.read()
    took = time.perf_counter() - began
    connection.close()
    if response.status != 200:
        raise SystemExit(f"{path} answers {response.status}")
    return took


def _check_steadily(server: Server, body: bytes, latencies: list[float], done: threading.Event) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    while not done.wait(0.002):
        began = time.perf_counter()
        connection.request("POST", "/api/v1/check", body, {"Content-Type": "application/json"})
        connection.getresponse().read()
        latencies.append(time.perf_counter() - began)
    connection.close()


def _measure_memory(report: Report) -> None:
    file = REAL_FILE if REAL_FILE.exists() else OWN_FILE
    body = json.dumps({"policy_type": "network_security", "context": {"protocol": "tcp", "dst_port": 80}}).encode()
    with TemporaryDirectory() as folder, service(file, Path(folder)) as server:
        for _ in range(2000):
            _post(server, "/api/v1/check", body)
        report.add("memory of the service", proportional_memory(server.pid), "MB")
