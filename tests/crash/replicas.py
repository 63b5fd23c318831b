"""Callers who talk to several processes of one store, and expect them to be one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from threading import Lock
from typing import Any

from tests.crash.client import Client
from tests.crash.load import Caller, Checker, faults, repeated
from tests.crash.stored import Stored
from tests.service.running import Answer

COUNTER = "counter"
PAGE = 200


class Clock:
    """The newest revision that anybody was told of."""

    def __init__(self) -> None:
        self._lock = Lock()
        self.version = 0
        self.at = 0.0

    def tell(self, version: int) -> None:
        with self._lock:
            if version > self.version:
                self.version, self.at = version, time.monotonic()


class Counting(Caller):
    """Adds one to a number in a policy that others change too, so many times, through whatever process comes first."""

    def __init__(self, ports: Sequence[int], number: int, times: int, clock: Clock) -> None:
        super().__init__(ports, number)
        self.left = times
        self._clock = clock

    def step(self, client: Client) -> None:
        if not self.left:
            self.finish()
            return
        read = client.request("GET", f"/api/v1/policies/{COUNTER}")
        if read is None or read.status != 200:
            self.faults.append(f"cannot read: {read}")
            return
        body = {"metadata": {"count": read.json["metadata"]["count"] + 1}}
        answer = client.request("PUT", f"/api/v1/policies/{COUNTER}", body, {"If-Match": read.headers["etag"]})
        self.note(answer, 200, 412)
        if answer is not None and answer.status == 200:
            self.left -= 1
            self._clock.tell(answer.json["policy"]["version"])


class Demanding(Checker):
    """Demands the newest revision that anybody was told of, and asks another process when one is behind."""

    def __init__(self, ports: Sequence[int], number: int, clock: Clock) -> None:
        super().__init__(ports, number, sync_share=0.05)
        self._clock = clock
        self._demanded = 0

    def headers(self) -> dict[str, str]:
        self._demanded = self._clock.version
        return {"X-Min-Policy-Version": str(self._demanded)}

    def take(self, decision: dict[str, Any], at: float, took: float, *, sync: bool) -> None:
        super().take(decision, at, took, sync=sync)
        if decision["policy_version"] < self._demanded:
            self.faults.append(f"version {decision['policy_version']} for who demands {self._demanded}")


class Following(Caller):
    """Follows all events, each page from another process."""

    def __init__(self, ports: Sequence[int], number: int, since: str) -> None:
        super().__init__(ports, number)
        self.seen: list[str] = []
        self._since = since

    def step(self, client: Client) -> None:
        answer = client.request("GET", f"/events?since_event_id={self._since}&limit={PAGE}")
        self.note(answer, 200)
        if answer is not None and answer.status == 200:
            self._take(answer.json)

    def _take(self, page: dict[str, Any]) -> None:
        if page["gap"]:
            self.faults.append("a gap")
        self.seen += [event["event_id"] for event in page["events"]]
        self._since = page["last_event_id"]

    def catch_up(self, port: int) -> None:
        """Read what is left, once nothing happens any more."""
        with Client(port) as client:
            repeated(lambda: self._rest(client), lambda answer: not answer.json["events"])

    def _rest(self, client: Client) -> Answer | None:
        answer = client.request("GET", f"/events?since_event_id={self._since}&limit={PAGE}")
        if answer is not None:
            self._take(answer.json)
        return answer


class Crowd:
    """Everybody who talks to some processes, and what came of it."""

    def __init__(self, ports: Sequence[int], changes: int, since: str) -> None:
        self.clock = Clock()
        self.changes = changes
        self.counting = [Counting(ports, number, changes // 4, self.clock) for number in range(4)]
        self.checkers = [Demanding(ports, number, self.clock) for number in range(4)]
        self.following = [Following(ports, number, since) for number in range(2)]

    @property
    def all(self) -> list[Caller]:
        return [*self.counting, *self.checkers, *self.following]

    def is_done(self) -> bool:
        return not any(counter.left for counter in self.counting) or bool(faults(*self.all))


def wrong_events(crowd: Crowd, stored: Stored, since: int) -> list[str]:
    """Return what those who followed the events lost, or saw twice."""
    there = stored.event_ids(since)
    wrong = []
    for follower in crowd.following:
        seen = set(follower.seen)
        if len(seen) != len(follower.seen):
            wrong.append(f"{len(follower.seen) - len(seen)} of {len(there)} events came twice")
        if lost := there - seen:
            wrong.append(f"{len(lost)} of {len(there)} events were lost: {sorted(lost)[:3]}")
        if more := seen - there:
            wrong.append(f"{len(more)} events are not stored: {sorted(more)[:3]}")
    return wrong
