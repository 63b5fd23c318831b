"""Event streams: two thousand subscribers of one service process while it answers checks."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.report import Report
from benchmarks.servers import Server, free_port, proportional_memory, service
from benchmarks.workloads import network_document, network_requests, network_rules

TYPE = "network_security"
RULES = network_rules(1000)
SUBSCRIBERS = 2000
PACE_SECONDS = 0.5
CHECK_THREADS = 4
CHECK_PAUSE_SECONDS = 0.004
PATH = "/api/v1/events/stream?event_type=POLICY_CREATED,POLICY_DELETED"

_AT_ONCE = 100
_CONNECT_SECONDS = 60
_LATE_SECONDS = 10


def run(report: Report, *, quick: bool) -> None:
    """Measure how late events reach the last of many subscribers, and what that does to checks."""
    subscribers = SUBSCRIBERS // 10 if quick else SUBSCRIBERS
    print(f"event streams ({subscribers:,} subscribers of one process, a change every {PACE_SECONDS} s, paced checks)")
    seconds = 5 if quick else 30
    with _serving() as (server, stream_port):
        alone = _latencies(server, seconds / 2)
        idle = proportional_memory(server.pid)
        audience = Audience(stream_port, subscribers)
        with audience.listening():
            report.add(
                "stream: memory a subscriber", (proportional_memory(server.pid) - idle) * 1024 / subscribers, "kB"
            )
            changes = Changes(server, audience)
            with changes.under_way():
                beside = _latencies(server, seconds)
            delays = audience.delays(changes.made)
    report.add("stream: changes delivered to everybody", len(delays))
    report.add("stream: worst delay of a delivery", max(delays), "s")
    report.add("stream: median delay of a delivery to the last", sorted(delays)[len(delays) // 2], "s")
    report.add("stream: checks beside it", len(beside))
    report.add("stream: p99 of checks without subscribers", _p99(alone) * 1e3, "ms")
    report.add("stream: p99 of checks beside it", _p99(beside) * 1e3, "ms")


@contextmanager
def _serving() -> Iterator[tuple[Server, int]]:
    stream_port = free_port()
    with TemporaryDirectory() as folder:
        policies = Path(folder, "policies.json")
        policies.write_text(json.dumps(network_document(RULES)), encoding="utf-8")
        with service(policies, Path(folder, "data"), POLICY_STREAM_PORT=str(stream_port)) as server:
            yield server, stream_port


# Subscribers


class _Subscriber(asyncio.Protocol):
    """Notes when the event of each change came; it looks for its id alone, since there are thousands of these."""

    def __init__(self, arrivals: dict[bytes, list[float]], joined: asyncio.Semaphore) -> None:
        self._arrivals = arrivals
        self._joined = joined
        self._began = False
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        if not self._began:
            assert data.startswith(b"HTTP/1.1 200 "), data[:200]
            self._began = True
            self._joined.release()
        now = time.monotonic()
        *blocks, self._rest = (self._rest + data).split(b"\n\n")
        for block in blocks:
            _, found, rest = block.partition(b'"policy_id":"')
            if found:
                self._arrivals.setdefault(_change(block, rest.partition(b'"')[0]), []).append(now)


def _change(block: bytes, policy_id: bytes) -> bytes:
    return (b"+" if b"POLICY_CREATED" in block else b"-") + policy_id


class Audience:
    """Many subscribers on one event loop in a thread of its own, so that the client is not what is measured."""

    def __init__(self, port: int, count: int) -> None:
        self._port = port
        self._count = count
        self._arrivals: dict[bytes, list[float]] = {}
        self._joined = threading.Event()

    @contextmanager
    def listening(self) -> Iterator[None]:
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=self._run, args=(loop,))
        thread.start()
        try:
            if not self._joined.wait(_CONNECT_SECONDS):
                raise SystemExit("not every subscriber was served: nothing was measured")
            yield
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        transports: list[asyncio.BaseTransport] = []
        joining = loop.create_task(self._join(transports))
        loop.run_forever()
        joining.cancel()
        for transport in transports:
            transport.close()
        loop.run_until_complete(asyncio.sleep(0.1))

    async def _join(self, transports: list[asyncio.BaseTransport]) -> None:
        loop = asyncio.get_running_loop()
        joined = asyncio.Semaphore(0)
        for start in range(0, self._count, _AT_ONCE):
            for _ in range(start, min(start + _AT_ONCE, self._count)):
                transport, _ = await loop.create_connection(
                    lambda: _Subscriber(self._arrivals, joined), "127.0.0.1", self._port
                )
                transports.append(transport)
        for _ in range(self._count):
            await joined.acquire()
        self._joined.set()

    def has_all(self, name: bytes) -> bool:
        return len(self._arrivals.get(name, ())) == self._count

    def delays(self, made: Sequence[tuple[bytes, float]]) -> list[float]:
        """Return how long after it was asked for each change reached the last subscriber.

        So the time that the change itself takes is in it: the figure is an upper bound.
        """
        for name, _ in made:
            if len(self._arrivals.get(name, ())) != self._count:
                raise SystemExit(f"{name!r} reached {len(self._arrivals.get(name, ()))} subscribers of {self._count}")
        return [max(self._arrivals[name]) - asked for name, asked in made]


# Load


class Changes:
    """Somebody who creates and deletes a policy, so that there are management events."""

    def __init__(self, server: Server, audience: Audience) -> None:
        self.made: list[tuple[bytes, float]] = []
        self._server = server
        self._audience = audience
        self._done = threading.Event()

    @contextmanager
    def under_way(self) -> Iterator[None]:
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._done.set()
            thread.join()
        if not self.made:
            raise SystemExit("no change was made: nothing was measured")
        deadline = time.monotonic() + _LATE_SECONDS
        while not self._audience.has_all(self.made[-1][0]) and time.monotonic() < deadline:
            time.sleep(0.05)

    def _run(self) -> None:
        number = 0
        while not self._done.wait(PACE_SECONDS):
            policy = {"id": f"made-{number // 2}", "type": "other", "rules": [{"action": "allow", "match": {"a": 1}}]}
            asked = time.monotonic()
            if number % 2 == 0:
                made = self._ask("POST", "/api/v1/policies", policy)
            else:
                made = self._ask("DELETE", f"/api/v1/policies/{policy['id']}", None)
            if made:  # a busy service may refuse one, and says so; then it is asked again
                self.made.append((f"{'-' if number % 2 else '+'}{policy['id']}".encode(), asked))
                number += 1

    def _ask(self, method: str, path: str, body: Any) -> bool:
        connection = HTTPConnection("127.0.0.1", self._server.port, timeout=30)
        try:
            connection.request(
                method, path, None if body is None else json.dumps(body), {"Content-Type": "application/json"}
            )
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        if response.status not in {200, 201, 204, 503}:
            raise SystemExit(f"{method} {path} answers {response.status}: {content[:200]!r}")
        return response.status != 503


def _latencies(server: Server, seconds: float) -> list[float]:
    """Return how long each check took of some callers that ask at a steady pace."""
    bodies = [json.dumps({"policy_type": TYPE, "context": context}).encode() for context in network_requests(RULES)]
    until = time.monotonic() + seconds
    latencies: list[list[float]] = [[] for _ in range(CHECK_THREADS)]
    threads = [threading.Thread(target=_check, args=(server, bodies, until, into)) for into in latencies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [latency for part in latencies for latency in part]


def _check(server: Server, bodies: Sequence[bytes], until: float, latencies: list[float]) -> None:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        while time.monotonic() < until:
            began = time.perf_counter()
            body = bodies[len(latencies) % len(bodies)]
            connection.request("POST", "/api/v1/check", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            response.read()
            latencies.append(time.perf_counter() - began)
            if response.status != 200:
                raise SystemExit(f"a check answers {response.status}")
            time.sleep(CHECK_PAUSE_SECONDS)
    finally:
        connection.close()


def _p99(latencies: Sequence[float]) -> float:
    return sorted(latencies)[int(len(latencies) * 0.99)]
