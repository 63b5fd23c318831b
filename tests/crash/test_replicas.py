"""Several processes on one store are one service."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from tests.crash.client import Client
from tests.crash.killing import Services
from tests.crash.load import Prober, faults, repeated, total, under
from tests.crash.replicas import COUNTER, Crowd, wrong_events
from tests.crash.server import Server
from tests.crash.stored import Stored, missing, this_moment, twice, url_of
from tests.service.running import Running, eventually

PATIENCE_SECONDS = 120.0
PROMISED_SECONDS = 1.0
SETTLED_SECONDS = 0.5
PROCESS_LOOKS = 10


class Cluster:
    """Services on one store, with the policy that all of them count in.

    Attributes:
        count: What it has come to.
    """

    def __init__(self, services: Sequence[Running], stored: Stored) -> None:
        self.services = services
        self.stored = stored
        self.count = 0
        self.ports = [service.port for service in services]
        rules = [{"action": "allow", "match": {"asker": "nobody"}}]
        body = {"id": COUNTER, "type": "fl_performance", "rules": rules, "metadata": {"count": 0}}
        with Client(self.ports[0]) as client:
            made = repeated(
                lambda: client.request("POST", "/api/v1/policies", body), lambda answer: answer.status == 201
            )
        self.wait_for(made.json["policy"]["version"])

    def end_of_events(self) -> str:
        """Return the cursor behind everything that has happened, while nothing happens."""
        time.sleep(SETTLED_SECONDS)
        with Client(self.ports[0]) as client:
            page = client.request("GET", "/events?limit=2000")
            for _ in range(1000):
                assert page is not None
                cursor: str = page.json["last_event_id"]
                page = client.request("GET", f"/events?limit=2000&since_event_id={cursor}")
                if page is not None and not page.json["events"]:
                    return cursor
        raise AssertionError("the events do not end")

    def wait_for(self, version: int, processes: int = 1) -> float:
        """Wait until everybody is there; return when that was seen, on the monotonic clock."""
        looks = 1 if processes == 1 else PROCESS_LOOKS * processes  # who answers on a shared port is chance
        for service in self.services:
            for _ in range(looks):
                eventually(partial(_follows, service, version), "the service follows")
        return time.monotonic()


def _follows(service: Running, version: int) -> bool:
    return bool(service.readiness()["policy_version"] >= version)


def exercise(cluster: Cluster, changes: int, processes: int = 1) -> float:
    """Let a crowd loose on a cluster; return how long after the last change everybody was there."""
    crowd = Crowd(cluster.ports, changes, cluster.end_of_events())
    began = this_moment()
    probers = [Prober(cluster.ports, 1)]
    with under(*crowd.all, *probers):
        eventually(crowd.is_done, "all changes are made", PATIENCE_SECONDS)
        reached = cluster.wait_for(crowd.clock.version, processes)
    took = reached - crowd.clock.at
    print(  # noqa: T201 - shown with -s, and when the test fails
        f"changes {dict(total(crowd.counting))}, checks {dict(total(crowd.checkers))}, "
        f"pages {dict(total(crowd.following))}, everybody there after {took * 1000:.0f} ms"
    )
    assert faults(*crowd.all, *probers) == []
    cluster.count += changes
    _check_policies(cluster)
    _check_logs(cluster, crowd, began)
    return took


def _check_policies(cluster: Cluster) -> None:
    ready = [service.readiness() for service in cluster.services]
    assert {state["status"] for state in ready} == {"ready"}
    assert len({(state["policy_version"], state["revision_digest"]) for state in ready}) == 1
    for service in cluster.services:
        assert service.get(f"/api/v1/policies/{COUNTER}")["metadata"] == {"count": cluster.count}


def _check_logs(cluster: Cluster, crowd: Crowd, began: int) -> None:
    decided = [decision.decision_id for checker in crowd.checkers for decision in checker.decided]
    eventually(lambda: not missing(cluster.stored.logged(), decided), "every decision is in the log")
    for number, follower in enumerate(crowd.following):
        follower.catch_up(cluster.ports[number % len(cluster.ports)])
    assert faults(*crowd.following) == []
    time.sleep(SETTLED_SECONDS)
    assert wrong_events(crowd, cluster.stored, began) == []
    assert twice(cluster.stored.logged()) == []
    assert cluster.stored.faults() == []


def replicas(started: Services, server: Server, keys: Path, number: int = 3) -> Cluster:
    """Start services that share a database and a key, and nothing else."""
    url = server.create("engine")
    settings = {"POLICY_DATABASE": url, "POLICY_KEY_DIR": str(keys)}
    services = [started.start(started.directory / f"replica-{place}", **settings) for place in range(number)]
    return Cluster(services, Stored(url, keys))


def test_replicas_on_postgresql_are_one_service(started: Services, server: Server, tmp_path: Path) -> None:
    cluster = replicas(started, server, tmp_path / "keys")
    exercise(cluster, 200)


@pytest.mark.crash
def test_replicas_follow_within_a_second(started: Services, server: Server, tmp_path: Path) -> None:
    cluster = replicas(started, server, tmp_path / "keys")
    for _ in range(5):
        assert exercise(cluster, 200) < PROMISED_SECONDS


def test_workers_on_sqlite_are_one_service(started: Services) -> None:
    service = started.start(POLICY_WORKERS="3", POLICY_THREADS="2")
    cluster = Cluster([service], Stored(url_of(started.data), started.data / "keys"))
    exercise(cluster, 40, processes=3)


def test_replicas_that_start_together_on_an_empty_database_agree(
    started: Services, server: Server, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    settings = {"POLICY_DATABASE": server.create("engine"), "POLICY_KEY_DIR": str(keys)}
    with ThreadPoolExecutor(3) as pool:
        places = [started.directory / f"replica-{place}" for place in range(3)]
        services = list(pool.map(lambda place: started.start(place, **settings), places))
    ready = [service.readiness() for service in services]
    assert {state["status"] for state in ready} == {"ready"}
    assert len({(state["policy_version"], state["revision_digest"]) for state in ready}) == 1
    assert len(services[0].get("/api/v1/revisions")["revisions"]) == 1
    stored = Stored(settings["POLICY_DATABASE"], keys)
    assert stored.faults() == []
