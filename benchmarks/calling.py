"""Policy functions: what a call costs, and what hostile ones do to other checks of the same process."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from tests.functions.hostile import sources

from benchmarks.report import Report
from benchmarks.servers import Server, service
from policy_engine.functions.answer import read_answer
from policy_engine.functions.monty import MontySandbox
from policy_engine.functions.sandbox import SandboxError

FRIENDLY = """
def judge(context):
    size = context.get("model_size", 0)
    if size < 1_000_000:
        return {"allowed": False, "reason": f"{size} bytes is too small", "violations": ["small"]}
    return {"allowed": True, "reason": f"{size} bytes is within limits"}
"""
CALLERS = 4
PAUSE_SECONDS = 0.005

_CHECK = json.dumps(
    {"policy_type": "network_security", "context": {"protocol": "tcp", "dst_port": 8080}}, separators=(",", ":")
)


def run(report: Report, *, quick: bool) -> None:
    """Measure warm calls, the longest that a hostile one takes, and checks beside four callers that loop those."""
    print("policy functions (Monty, one session a call)")
    _run_calls(report, 200 if quick else 2000)
    with _serving() as server:
        alone = _Latencies(server).during(3 if quick else 10)
        with _hostile(server):
            beside = _Latencies(server).during(5 if quick else 30)
    report.add("function: p99 of checks alone", _p99(alone.checks) * 1e3, "ms")
    report.add("function: p99 of checks beside hostile functions", _p99(beside.checks) * 1e3, "ms")
    report.add("function: p99 of /livez beside hostile functions", _p99(beside.probes) * 1e3, "ms")


def _run_calls(report: Report, calls: int) -> None:
    sandbox = MontySandbox(1)
    try:
        report.add("function: warm call", median(_timed(sandbox, FRIENDLY) for _ in range(calls)) * 1e3, "ms")
        report.add("function: longest hostile call", max(_timed(sandbox, code) for _, code in sources().values()), "s")
    finally:
        sandbox.close()


def _timed(sandbox: MontySandbox, code: str) -> float:
    began = time.perf_counter()
    with suppress(SandboxError):
        read_answer(sandbox.call(code, "judge", {"model_size": 5_000_000, "client_id": "c"}))
    return time.perf_counter() - began


@contextmanager
def _serving() -> Iterator[Server]:
    """Run a service with one policy type for each hostile function, and one type that has none."""
    policies: list[dict[str, Any]] = [
        {"id": f"h{number}", "type": f"hostile-{number}", "function_code": code}
        for number, (_, code) in enumerate(sources().values())
    ]
    allow = {"id": "web", "type": "network_security", "rules": [{"action": "allow", "match": {"dst_port": 8080}}]}
    with TemporaryDirectory() as folder:
        file = Path(folder, "policies.json")
        file.write_text(json.dumps({"policies": [*policies, allow]}), encoding="utf-8")
        with service(file, Path(folder, "data")) as server:
            yield server


@contextmanager
def _hostile(server: Server) -> Iterator[None]:
    """Have some callers ask for hostile functions, one after the other, without a pause."""
    over = threading.Event()

    def call(first: int) -> None:
        connection = HTTPConnection("127.0.0.1", server.port, timeout=30)
        number = first
        while not over.is_set():
            number = (number + 1) % len(sources())
            body = json.dumps({"policy_type": f"hostile-{number}", "context": {"secret": "x"}})
            connection.request("POST", "/api/v1/check", body, {"Content-Type": "application/json"})
            connection.getresponse().read()
        connection.close()

    threads = [threading.Thread(target=call, args=(number * 25,)) for number in range(CALLERS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


class _Latencies:
    """How long checks, and `/livez`, take while something else goes on."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.checks: list[float] = []
        self.probes: list[float] = []

    def during(self, seconds: float) -> _Latencies:
        """Ask for so long."""
        connection = HTTPConnection("127.0.0.1", self._server.port, timeout=30)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.checks.append(_asked(connection, "POST", "/api/v1/check", _CHECK))
            self.probes.append(_asked(connection, "GET", "/livez", None))
            time.sleep(PAUSE_SECONDS)
        connection.close()
        return self


def _asked(connection: HTTPConnection, method: str, path: str, body: str | None) -> float:
    began = time.perf_counter()
    connection.request(method, path, body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{path} answered {answer.status}")
    return time.perf_counter() - began


def _p99(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]
