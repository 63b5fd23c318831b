"""Everybody who asks something of a service, and what has to be so while its database is in trouble and afterwards."""

from __future__ import annotations

from collections.abc import Sequence

from tests.crash.client import Client, is_clear_refusal
from tests.crash.load import Caller, Prober, Reader, checkers, faults, total
from tests.crash.stored import Stored, missing, twice
from tests.crash.writers import PolicyWriter, wrong_policies
from tests.service.running import Running, eventually

AWAY = "store_unavailable"


class Trial:
    """Writers, checkers, readers and probes on both ports, of some services on one store."""

    def __init__(self, services: Sequence[Running], stored: Stored, *, refused_means_unchanged: bool) -> None:
        ports = [service.port for service in services]
        self.services = services
        self.writers = [PolicyWriter(ports, seed, refused_means_unchanged=refused_means_unchanged) for seed in range(4)]
        self.checkers = checkers(ports, 4, sync_share=0.2)
        self._readers = [Reader(ports, seed) for seed in range(2)]
        self._probers = [Prober(ports, 1), Prober([service.metrics_port for service in services], 2)]
        self._stored = stored

    @property
    def callers(self) -> list[Caller]:
        return [*self.writers, *self.checkers, *self._readers, *self._probers]

    def answered(self) -> int:
        """How many checks were answered."""
        return total(self.checkers)[200]

    def check(self) -> None:
        """Show that what was answered was right, and is stored once."""
        print(f"writers {dict(total(self.writers))}, checkers {dict(total(self.checkers))}")  # noqa: T201 - with -s
        assert faults(*self.callers) == []
        decided = [decision.decision_id for checker in self.checkers for decision in checker.decided]
        eventually(lambda: not missing(self._stored.logged(), decided), "every acknowledged decision is in the log")
        assert twice(self._stored.logged()) == []
        assert self._stored.faults() == []
        eventually(lambda: len(set(map(_version, self.services))) == 1, "the services agree on the newest revision")
        for service in self.services:
            with Client(service.port) as client:
                assert wrong_policies(client, self.writers) == []


def wait_until_degraded(services: Sequence[Running]) -> None:
    """Wait until every service says that its database is away."""
    eventually(lambda: all(map(_is_away, services)), "every service says that its database is away")


def wait_until_ready(services: Sequence[Running]) -> None:
    eventually(lambda: all(map(_is_ready, services)), "every service is ready again")


def _version(service: Running) -> int:
    version: int = service.readiness()["policy_version"]
    return version


def _is_away(service: Running) -> bool:
    state = service.readiness()
    return state["status"] == "degraded" and AWAY in {reason["code"] for reason in state["reasons"]}


def _is_ready(service: Running) -> bool:
    return bool(service.readiness()["status"] == "ready")


def refuses_changes(services: Sequence[Running]) -> bool:
    """Whether every service refuses a change and says so clearly."""
    body = {"id": "too-late", "type": "fl_performance", "rules": [{"action": "allow", "match": {}}]}
    refusals = []
    for service in services:
        with Client(service.port) as client:
            refusals.append(client.request("POST", "/api/v1/policies", body))
    return all(answer is not None and is_clear_refusal(answer) for answer in refusals)
