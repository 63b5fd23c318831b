"""A decision that has to be on the disk when it is answered is there; the others get there together."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from tests.crash.client import Client
from tests.crash.killing import Services, alive_in
from tests.crash.load import SYNC
from tests.crash.tracing import Trace, traced
from tests.service.running import Running

CHECKS = 100
SETTLED_SECONDS = 0.5
WAL = "policy-engine.db-wal"


class Asked(NamedTuple):
    """When a check was sent and when its answer had arrived."""

    sent: float
    answered: float


def ask(service: Running, times: int, headers: dict[str, str] | None = None) -> list[Asked]:
    body = {"policy_type": "network_security", "context": {"protocol": "tcp", "dst_port": 8080}}
    asked = []
    with Client(service.port) as client:
        for _ in range(times):
            sent = time.time()
            answer = client.request("POST", "/api/v1/check", body, headers)
            asked.append(Asked(sent, time.time()))
            assert answer is not None
            assert answer.status == 200
    return asked


@pytest.fixture
def service(started: Services) -> Running:
    return started.start()


@pytest.fixture
def trace(service: Running, started: Services) -> Iterator[Trace]:
    (worker,) = (pid for pid in alive_in(service.process.pid) if pid != service.process.pid)
    with traced(worker, started.directory / "trace", lambda: ask(service, 1, SYNC)) as watched:
        time.sleep(SETTLED_SECONDS)
        yield watched


def test_each_decision_that_has_to_be_on_the_disk_is_there_before_its_answer(service: Running, trace: Trace) -> None:
    asked = ask(service, CHECKS, SYNC)
    flushes = trace.flushes(WAL)
    for check in asked:
        assert [one for one in flushes if check.sent <= one.began and one.ended <= check.answered]


def test_other_decisions_reach_the_disk_together(service: Running, trace: Trace) -> None:
    began = time.time()
    asked = ask(service, 10 * CHECKS)
    time.sleep(SETTLED_SECONDS)
    flushes = [flush for flush in trace.flushes(WAL) if flush.began >= began]
    assert 0 < len(flushes) < len(asked) / 10
