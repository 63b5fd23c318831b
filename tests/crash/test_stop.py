"""A service that is told to stop under load keeps everything that it answered."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing

from tests.crash.client import Client
from tests.crash.killing import Services
from tests.crash.load import checkers, faults, under
from tests.crash.server import Server
from tests.crash.stored import Stored, missing, twice, url_of
from tests.crash.trial import wait_until_degraded, wait_until_ready
from tests.crash.writers import PolicyWriter, wrong_policies
from tests.service.running import Running, eventually


class Stopped:
    """What the callers of a service were answered until it had stopped."""

    def __init__(self, service: Running) -> None:
        self.writers = [PolicyWriter([service.port], seed, refused_means_unchanged=False) for seed in range(2)]
        self._checkers = checkers([service.port], 4, sync_share=0.1)
        with under(*self.writers, *self._checkers):
            time.sleep(0.5)
            eventually(lambda: sum(len(checker.decided) for checker in self._checkers) > 5, "some checks are answered")
            self.code = service.stop()

    def check(self, again: Running, stored: Stored) -> None:
        """Show that everything is there, once."""
        logged = stored.logged()
        decided = [decision.decision_id for checker in self._checkers for decision in checker.decided]
        assert self.code == 0
        assert len(decided) > 5
        assert faults(*self.writers, *self._checkers) == []
        assert missing(logged, decided) == []
        assert twice(logged) == []
        assert stored.faults() == []
        with Client(again.port) as client:
            assert wrong_policies(client, self.writers) == []


def test_a_stop_under_load_loses_nothing(started: Services) -> None:
    stopped = Stopped(started.start())
    stopped.check(started.start(), Stored(url_of(started.data), started.data / "keys"))


def test_a_stop_while_the_database_is_locked_loses_nothing(started: Services) -> None:
    service = started.start()
    with closing(sqlite3.connect(started.data / "policy-engine.db", isolation_level=None, timeout=20)) as other:
        other.execute("BEGIN IMMEDIATE")
        stopped = Stopped(service)
        other.execute("ROLLBACK")
    again = started.start()
    wait_until_ready([again])
    stopped.check(again, Stored(url_of(started.data), started.data / "keys"))


def test_a_stop_while_postgresql_is_away_loses_nothing(started: Services, server: Server) -> None:
    url = server.create("engine")
    service = started.start(POLICY_DATABASE=url)
    with under(*checkers([service.port], 1)):
        server.crash()
        wait_until_degraded([service])
    stopped = Stopped(service)
    server.start()
    again = started.start(POLICY_DATABASE=url)
    wait_until_ready([again])
    stopped.check(again, Stored(url, started.data / "keys"))


def test_a_service_ends_when_it_is_told_so_while_its_workers_start(started: Services) -> None:
    for _ in range(4):
        assert started.start(POLICY_WORKERS="3").stop() == 0
