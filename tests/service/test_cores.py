"""Threads that share an interpreter are gathered on one core while they are busy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread, get_native_id

import pytest
from tests.conftest import DOCUMENT
from tests.processes import children_of, cores_of_threads, sandboxes_below
from tests.service.running import Running, eventually

from policy_engine import cores
from policy_engine.cores import Gathering, anywhere
from policy_engine.functions.monty import MontySandbox

ALL = os.sched_getaffinity(0)
BATCH = {"policy_type": "network_security", "contexts": [{"protocol": "tcp", "dst_port": 8080}] * 5000}

pytestmark = pytest.mark.skipif(len(ALL) < 2, reason="there is one core")


def count(one: int, other: int) -> int:
    return sum(range(one, 1000 * other))


class Busy:
    """Two threads that call a function all the time, until they are told to rest."""

    def __init__(self, work: Callable[[int, int], int]) -> None:
        self.work = work
        self.resting = Event()
        self.ended = Event()
        self.threads = [Thread(target=self.run, daemon=True) for _ in range(2)]
        for thread in self.threads:
            thread.start()

    def run(self) -> None:
        while not self.ended.is_set():
            self.work(1, 2)
            if self.resting.is_set():
                self.ended.wait(0.01)

    def cores(self) -> list[set[int]]:
        return [os.sched_getaffinity(thread.native_id or 0) for thread in self.threads]

    def stop(self) -> None:
        self.ended.set()
        for thread in self.threads:
            thread.join()


@pytest.fixture
def gathering() -> Iterator[Gathering]:
    made = Gathering()
    yield made
    made.stop()


@pytest.fixture
def busy(gathering: Gathering) -> Iterator[Busy]:
    threads = Busy(gathering.around(count))
    yield threads
    threads.stop()


def looked(gathering: Gathering, wanted: Callable[[], bool]) -> Callable[[], bool]:
    """Return what looks, and says whether something has come of it."""

    def look() -> bool:
        time.sleep(0.1)
        gathering.look()
        return wanted()

    return look


def test_busy_threads_are_gathered_and_let_go_when_they_rest(
    gathering: Gathering, busy: Busy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cores, "_CROWDED", 2.0)  # other tests may want the core
    assert busy.cores() == [ALL, ALL]
    eventually(looked(gathering, lambda: gathering.core is not None), "they are gathered")
    assert busy.cores() == [{gathering.core}] * 2
    assert os.sched_getaffinity(get_native_id()) == ALL
    busy.resting.set()
    for _ in range(10):
        time.sleep(0.05)
        gathering.look()
    assert gathering.core is not None
    monkeypatch.setattr(cores, "_IDLE_SECONDS", 0.1)
    eventually(looked(gathering, lambda: gathering.core is None), "they are let go")
    assert busy.cores() == [ALL, ALL]


def test_whoever_joins_later_is_gathered_too(gathering: Gathering, busy: Busy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "_CROWDED", 2.0)  # other tests may want the core
    monkeypatch.setattr(cores, "_IDLE", 0.0)
    eventually(looked(gathering, lambda: gathering.core is not None), "they are gathered")
    more = Busy(busy.work)
    eventually(looked(gathering, lambda: more.cores() == [{gathering.core}] * 2), "the others are gathered")
    more.stop()
    gathering.look()
    assert busy.cores() == [{gathering.core}] * 2


def test_they_are_let_go_when_somebody_else_wants_the_core(busy: Busy) -> None:
    now = [0.0]
    gathering = Gathering(clock=lambda: now[0])
    gathering._joined.update({thread.ident or 0: thread.native_id or 0 for thread in busy.threads})

    def look() -> bool:
        time.sleep(0.2)
        now[0] += 0.2
        gathering.look()
        return gathering.core is not None

    eventually(look, "they are gathered")
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3)]
    try:
        for other in others:
            os.sched_setaffinity(other.pid, {gathering.core or 0})
        eventually(lambda: not look(), "they are let go")
        assert busy.cores() == [ALL, ALL]
        assert not any(look() for _ in range(5))
    finally:
        for other in others:
            other.kill()
            other.wait()
    now[0] += 30
    eventually(look, "they are gathered")
    gathering.stop()


def test_nobody_is_kept_after_the_end(gathering: Gathering, busy: Busy) -> None:
    eventually(looked(gathering, lambda: gathering.core is not None), "they are gathered")
    gathering.stop()
    assert busy.cores() == [ALL, ALL]
    assert not any(looked(gathering, lambda: gathering.core is not None)() for _ in range(5))
    assert busy.cores() == [ALL, ALL]


def test_a_thread_that_somebody_else_keeps_on_a_core_stays_there() -> None:
    found: list[set[int]] = []

    def run() -> None:
        os.sched_setaffinity(0, {min(ALL)})
        with anywhere(), anywhere():
            found.append(os.sched_getaffinity(0))

    thread = Thread(target=run)
    thread.start()
    thread.join()
    assert found == [{min(ALL)}]


def once_gathered(gathering: Gathering, act: Callable[[], None]) -> None:
    """Do something in a thread that is kept on one core."""
    may_act = Event()

    def run() -> None:
        work = gathering.around(count)
        while not may_act.is_set():
            work(1, 2)
        act()

    thread = Thread(target=run)
    thread.start()
    eventually(looked(gathering, lambda: gathering.core is not None), "it is gathered")
    assert os.sched_getaffinity(thread.native_id or 0) == {gathering.core}
    may_act.set()
    thread.join()


def test_what_a_gathered_thread_starts_may_run_anywhere(gathering: Gathering) -> None:
    found: list[set[int]] = []

    def start() -> None:
        with anywhere():
            gathering.look()
            child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        with child:
            found.append(os.sched_getaffinity(child.pid))
            child.kill()

    once_gathered(gathering, start)
    assert found == [ALL]


def test_the_sandbox_of_a_gathered_thread_is_not_kept_on_its_core(gathering: Gathering) -> None:
    sandbox = MontySandbox(1)
    before = sandboxes_below(os.getpid())
    found: list[set[int]] = []

    def call() -> None:
        assert sandbox.call("def evaluate(context):\n    return 7", "evaluate", {}) == 7
        found.extend(os.sched_getaffinity(child) for child in sandboxes_below(os.getpid()) - before)

    once_gathered(gathering, call)
    sandbox.close()
    assert found
    assert found == [ALL] * len(found)


@pytest.mark.parametrize("gathers", [True, False])
def test_the_service_gathers_if_it_may(tmp_path: Path, *, gathers: bool) -> None:
    policy_file = tmp_path / "policies.json"
    policy_file.write_text(json.dumps(DOCUMENT))
    settings = {"POLICY_FILE": str(policy_file), "POLICY_GATHER_THREADS": str(gathers).lower()}
    running = Running.start(tmp_path, settings)
    try:
        (worker,) = children_of(running.process.pid)
        kept: set[frozenset[int]] = set()

        def ask() -> bool:
            for _ in range(5):
                assert running.request("POST", "/api/v1/check/batch", BATCH).status == 200
            kept.update(cores_of_threads(worker))
            return any(len(cores) == 1 for cores in kept)

        if gathers:
            eventually(ask, "a thread is kept on one core")
        else:
            for _ in range(10):
                ask()
        assert any(len(cores) == 1 for cores in kept) == gathers
    finally:
        running.stop()
