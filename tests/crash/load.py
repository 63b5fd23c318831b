"""Callers who keep a service busy, and remember everything that they were answered."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from random import Random
from threading import Event, Thread
from typing import Any, NamedTuple

from tests.crash.client import Client, is_clear_refusal
from tests.service.running import Answer

SYNC = {"X-Decision-Log": "sync"}
_PAUSE_SECONDS = 0.02
_JOIN_SECONDS = 60.0
_TICK_SECONDS = 0.005

_ASKED: tuple[tuple[str, dict[str, Any], bool], ...] = (
    ("network_security", {"protocol": "tcp", "dst_port": 22}, False),
    ("network_security", {"protocol": "tcp", "dst_port": 8080}, True),
    ("fl_client_start", {"operation": "client_registration"}, True),
    ("fl_client_start", {"operation": "something else"}, False),
)
"""What the checkers ask, and what they have to be answered whatever else happens to the policies."""


class Decided(NamedTuple):
    """An answer to a check: what it was, and when it had arrived, on the monotonic clock."""

    decision_id: str
    at: float
    took: float
    sync: bool
    version: int


class Caller:
    """Asks again and again until it is told to stop.

    Attributes:
        faults: What should not have been answered.
        statuses: How often each status was answered; 0 counts requests without an answer.
    """

    def __init__(self, ports: Sequence[int], number: int) -> None:
        self.random = Random(number)
        self.faults: list[str] = []
        self.statuses: Counter[int] = Counter()
        self.number = number
        self._clients = [Client(port) for port in ports]
        self._over = Event()
        self._thread = Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                self.step(self.random.choice(self._clients))
            except Exception as error:  # noqa: BLE001 - it is shown by the test, not lost with the thread
                self.faults.append(f"{type(error).__name__}: {error}")
                self._over.wait(_PAUSE_SECONDS)
        for client in self._clients:
            client.close()

    def step(self, client: Client) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        self._over.set()

    def join(self) -> None:
        self._thread.join(_JOIN_SECONDS)
        assert not self._thread.is_alive()

    def pause(self) -> None:
        """Wait a little after a refusal, as callers should."""
        self._over.wait(_PAUSE_SECONDS)

    def note(self, answer: Answer | None, *expected: int) -> None:
        """Count an answer; one that is not expected has to be a clear refusal."""
        self.statuses[answer.status if answer else 0] += 1
        if answer is None:
            self.pause()
        elif answer.status not in expected:
            if not is_clear_refusal(answer):
                self.faults.append(f"{answer.status}: {answer.body.decode()}")
            self.pause()


class Checker(Caller):
    """Asks for decisions; some, all or none of them have to be on the disk when they are answered."""

    def __init__(
        self, ports: Sequence[int], number: int, sync_share: float = 0.5, *, pause_seconds: float = 0.0
    ) -> None:
        super().__init__(ports, number)
        self.decided: list[Decided] = []
        self._sync_share = sync_share
        self._pause_seconds = pause_seconds

    def headers(self) -> dict[str, str]:
        return {}

    def step(self, client: Client) -> None:
        policy_type, context, allowed = self.random.choice(_ASKED)
        sync = self.random.random() < self._sync_share
        headers = {**(SYNC if sync else {}), **self.headers()}
        before = time.monotonic()
        answer = client.request("POST", "/api/v1/check", {"policy_type": policy_type, "context": context}, headers)
        now = time.monotonic()
        self.note(answer, 200)
        if answer is not None and answer.status == 200:
            decision = answer.json
            if decision["allowed"] is not allowed:
                self.faults.append(f"a wrong answer: {decision}")
            self.take(decision, now, now - before, sync=sync)
        if self._pause_seconds:
            self._over.wait(self._pause_seconds)

    def take(self, decision: dict[str, Any], at: float, took: float, *, sync: bool) -> None:
        self.decided.append(Decided(decision["decision_id"], at, took, sync, decision["policy_version"]))


class Reader(Caller):
    """Looks at what is stored, as a dashboard does."""

    def step(self, client: Client) -> None:
        path = self.random.choice(("/api/v1/decisions?limit=5", "/api/v1/revisions?limit=5", "/events?limit=5"))
        self.note(client.request("GET", path), 200)
        self.pause()


class Metronome(Caller):
    """Only wants to be woken in time.

    Attributes:
        late: How late it was at worst, in seconds: what the machine withholds from any thread at the moment.
    """

    def __init__(self) -> None:
        super().__init__([0], 0)
        self.late = 0.0

    def step(self, client: Client) -> None:  # noqa: ARG002 - it asks nobody
        before = time.monotonic()
        self._over.wait(_TICK_SECONDS)
        self.late = max(self.late, time.monotonic() - before - _TICK_SECONDS)


class Prober(Caller):
    """Asks whether the process is alive, on whatever port it has for that."""

    def step(self, client: Client) -> None:
        answer = client.request("GET", "/livez")
        self.note(answer, 200)
        if answer is None or answer.status != 200:
            self.faults.append(f"not alive: {answer}")
        self.pause()


@contextmanager
def under(*callers: Caller) -> Iterator[None]:
    """Let callers do their work; end them and wait for it."""
    for caller in callers:
        caller.start()
    try:
        yield
    finally:
        for caller in callers:
            caller.finish()
        for caller in callers:
            caller.join()


def faults(*callers: Caller) -> list[str]:
    """Return what was wrong with the answers, from each caller the first few."""
    return [fault for caller in callers for fault in caller.faults[:3]]


def total(callers: Sequence[Caller]) -> Counter[int]:
    return sum((caller.statuses for caller in callers), Counter())


def checkers(ports: Sequence[int], number: int = 8, sync_share: float = 0.5) -> list[Checker]:
    return [Checker(ports, seed, sync_share) for seed in range(number)]


def repeated(wanted: Callable[[], Answer | None], until: Callable[[Answer], bool], tries: int = 200) -> Answer:
    """Ask until the answer is what is wanted, as often as is bearable."""
    for _ in range(tries):
        answer = wanted()
        if answer is not None and until(answer):
            return answer
        time.sleep(_PAUSE_SECONDS)
    raise AssertionError("asked too often")


numbers = count(1)
"""Numbers that nobody else in this process has."""
