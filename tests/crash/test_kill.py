"""What was acknowledged is there after the service was killed at any moment."""

from __future__ import annotations

from random import Random

import pytest
from tests.crash.client import Client
from tests.crash.killing import Services, alive_in, wait_until_gone
from tests.crash.load import Checker, checkers, faults
from tests.crash.rounds import Round
from tests.crash.stored import Stored, missing, twice, url_of
from tests.crash.writers import PolicyWriter, wrong_policies
from tests.service.running import Running

WRITERS = 4
CHECKERS = 8


def rounds(started: Services, number: int, workers: int = 1) -> None:
    """Let a service live and die many times on the same data, and look after each time at what is left."""
    random = Random(number)
    service = started.start(POLICY_WORKERS=str(workers))
    stored = Stored(url_of(started.data), started.data / "keys")
    lived: list[Round] = []
    for turn in range(number):
        writers = [PolicyWriter([service.port], seed) for seed in range(WRITERS)]
        asking = checkers([service.port], sync_share=random.choice((0.1, 0.5)))
        lived.append(Round(service, random.uniform(0.1, 1.5), writers, asking))
        service = started.start(POLICY_WORKERS=str(workers))
        _check(service, stored, lived[-1], turn)
    with Client(service.port) as client:
        writers = [writer for life in lived for writer in life.writers]
        assert wrong_policies(client, writers) == []
    assert service.stop() == 0


def quiet_rounds(started: Services, number: int) -> None:
    """Do the same without writers, so that nothing but the clock brings decisions to the disk; one caller now and then
    waits for the disk, and so measures it.
    """
    random = Random(number)
    service = started.start()
    stored = Stored(url_of(started.data), started.data / "keys")
    for turn in range(number):
        gauge = Checker([service.port], CHECKERS, sync_share=1.0, pause_seconds=0.2)
        asking = [*checkers([service.port], CHECKERS - 1, sync_share=0.0), gauge]
        life = Round(service, random.uniform(0.3, 1.0), [], asking)
        service = started.start()
        _check(service, stored, life, turn)


def _check(service: Running, stored: Stored, life: Round, turn: int) -> None:
    logged = stored.logged(life.began)
    print(f"kill {turn + 1}: {life.describe(logged)}")  # noqa: T201 - shown with -s, and when the test fails
    assert faults(*life.writers, *life.checkers) == []
    assert life.decided
    assert missing(logged, life.promised()) == []
    assert twice(logged) == []
    assert stored.faults() == []
    assert service.readiness()["status"] == "ready"
    with Client(service.port) as client:
        assert wrong_policies(client, life.writers) == []


def test_what_was_answered_is_there_after_ten_kills(started: Services) -> None:
    rounds(started, 10)


def test_at_most_the_last_tenth_of_a_second_of_the_log_is_lost(started: Services) -> None:
    quiet_rounds(started, 3)


def test_what_several_workers_answered_is_there_after_kills(started: Services) -> None:
    rounds(started, 3, workers=3)


@pytest.mark.crash
def test_what_several_workers_answered_is_there_after_many_kills(started: Services) -> None:
    rounds(started, 20, workers=3)


@pytest.mark.crash
def test_at_most_the_last_tenth_of_a_second_of_the_log_is_lost_at_any_moment(started: Services) -> None:
    quiet_rounds(started, 30)


@pytest.mark.crash
def test_what_was_answered_is_there_after_fifty_kills(started: Services) -> None:
    rounds(started, 50)


def test_a_worker_ends_when_only_its_parent_is_killed(started: Services) -> None:
    service = started.start()
    assert len(alive_in(service.process.pid)) > 1
    service.process.kill()
    service.process.wait()
    wait_until_gone(service)
