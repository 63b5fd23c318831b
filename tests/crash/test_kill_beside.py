"""Kills in bad company: while the database is away, and while another replica goes on."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from random import Random

import pytest
from tests.crash.client import Client
from tests.crash.killing import Services
from tests.crash.load import Checker, checkers, faults, under
from tests.crash.rounds import Round
from tests.crash.server import Server
from tests.crash.stored import Stored, missing, twice, url_of
from tests.crash.trial import Trial, wait_until_degraded, wait_until_ready
from tests.crash.writers import PolicyWriter, wrong_policies
from tests.service.running import Running

FOLLOWED_SECONDS = 1.0
"""Within this time replicas follow each other."""


def _asking(service: Running) -> list[Checker]:
    return checkers([service.port], 4, sync_share=0.2)


def _check(life: Round, stored: Stored) -> None:
    logged = stored.logged(life.began)
    print(life.describe(logged))  # noqa: T201 - shown with -s, and when the test fails
    assert faults(*life.writers, *life.checkers) == []
    assert life.decided
    assert missing(logged, life.promised()) == []
    assert twice(logged) == []
    assert stored.faults() == []


def test_what_was_spooled_is_there_after_a_kill(started: Services) -> None:
    service = started.start()
    stored = Stored(url_of(started.data), started.data / "keys")
    with closing(sqlite3.connect(started.data / "policy-engine.db", isolation_level=None, timeout=20)) as other:
        other.execute("BEGIN IMMEDIATE")
        with under(*checkers([service.port], 1)):
            wait_until_degraded([service])
        life = Round(service, 1.0, [], _asking(service))
        assert list(started.data.glob("spool/*.spool"))
        other.execute("ROLLBACK")
    again = started.start()
    wait_until_ready([again])
    _check(life, stored)
    assert not list(started.data.glob("spool/*.spool"))


def test_what_was_spooled_is_there_after_a_kill_while_postgresql_is_away(started: Services, server: Server) -> None:
    url = server.create("engine")
    service = started.start(POLICY_DATABASE=url)
    stored = Stored(url, started.data / "keys")
    with under(*checkers([service.port], 1)):
        server.crash()
        wait_until_degraded([service])
    life = Round(service, 1.0, [], _asking(service))
    server.start()
    again = started.start(POLICY_DATABASE=url)
    wait_until_ready([again])
    _check(life, stored)


def kills(started: Services, server: Server, keys: Path, number: int) -> None:
    """Kill one replica again and again while the other one is as busy."""
    url = server.create("engine")
    settings = {"POLICY_DATABASE": url, "POLICY_KEY_DIR": str(keys)}
    places = [started.directory / "steady", started.directory / "mortal"]
    steady, mortal = (started.start(place, **settings) for place in places)
    stored = Stored(url, keys)
    trial = Trial([steady], Stored(url, keys), refused_means_unchanged=True)
    random = Random(number)
    with under(*trial.callers):
        for _ in range(number):
            writers = [PolicyWriter([mortal.port], seed) for seed in range(2)]
            life = Round(mortal, random.uniform(0.2, 1.0), writers, _asking(mortal))
            mortal = started.start(places[1], **settings)
            _check(life, stored)
            _check_policies([steady, mortal], writers)
    trial.check()


def _check_policies(services: Sequence[Running], writers: Sequence[PolicyWriter]) -> None:
    time.sleep(FOLLOWED_SECONDS)
    for service in services:
        with Client(service.port) as client:
            assert wrong_policies(client, writers) == []


def test_a_replica_may_be_killed_while_another_one_goes_on(started: Services, server: Server, tmp_path: Path) -> None:
    kills(started, server, tmp_path / "keys", 3)


@pytest.mark.crash
def test_a_replica_may_be_killed_many_times(started: Services, server: Server, tmp_path: Path) -> None:
    kills(started, server, tmp_path / "keys", 20)
