"""While PostgreSQL is away, checks go on and nothing that was acknowledged is lost."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from random import Random

import psycopg
import pytest
from tests.crash.killing import Services
from tests.crash.load import under
from tests.crash.server import Server
from tests.crash.stored import Stored
from tests.crash.trial import Trial, refuses_changes, wait_until_degraded, wait_until_ready
from tests.service.running import COMMAND, environment, free_port

Ways = tuple[Callable[[Server], None], Callable[[Server], None]]
"""How the server goes away, and how it comes back."""

CRASH: Ways = (Server.crash, Server.start)
FREEZE: Ways = (Server.freeze, Server.thaw)


def outage(server: Server, trial: Trial, ways: Ways, seconds: float) -> None:
    """Take the server away, look at the services, and give it back."""
    leave, return_ = ways
    leave(server)
    try:
        wait_until_degraded(trial.services)
        before = trial.answered()
        assert refuses_changes(trial.services)
        time.sleep(seconds)
        assert trial.answered() > before + 20
    finally:
        return_(server)
    wait_until_ready(trial.services)


@pytest.fixture
def url(server: Server) -> str:
    return server.create("engine")


def outages(server: Server, started: Services, url: str, ways: Ways, number: int) -> None:
    service = started.start(POLICY_DATABASE=url)
    random = Random(number)
    trial = Trial([service], Stored(url, started.data / "keys"), refused_means_unchanged=False)
    with under(*trial.callers):
        for _ in range(number):
            time.sleep(random.uniform(0.3, 1.0))
            outage(server, trial, ways, random.uniform(0.2, 2.0))
        time.sleep(0.5)
    trial.check()
    assert service.stop() == 0


@pytest.mark.parametrize("ways", [CRASH, FREEZE], ids=["stopped", "frozen"])
def test_checks_go_on_while_the_database_is_away(server: Server, started: Services, url: str, ways: Ways) -> None:
    outages(server, started, url, ways, 2)


@pytest.mark.parametrize("ways", [CRASH, FREEZE], ids=["stopped", "frozen"])
def test_a_service_that_nobody_asks_notices_too(server: Server, started: Services, url: str, ways: Ways) -> None:
    service = started.start(POLICY_DATABASE=url)
    leave, return_ = ways
    leave(server)
    try:
        wait_until_degraded([service])
    finally:
        return_(server)
    wait_until_ready([service])
    assert service.stop() == 0


@pytest.mark.crash
@pytest.mark.parametrize("ways", [CRASH, FREEZE], ids=["stopped", "frozen"])
def test_checks_go_on_however_often_the_database_goes_away(
    server: Server, started: Services, url: str, ways: Ways
) -> None:
    outages(server, started, url, ways, 15)


def cuts(server: Server, started: Services, url: str, number: int) -> None:
    services = [started.start(POLICY_DATABASE=url) for _ in range(2)]
    random = Random(number)
    trial = Trial(services, Stored(url, started.data / "keys"), refused_means_unchanged=False)
    with under(*trial.callers):
        for _ in range(number):
            time.sleep(random.uniform(0.1, 0.8))
            server.cut_all()
        time.sleep(0.5)
    wait_until_ready(services)
    trial.check()


def test_nothing_is_lost_or_repeated_when_connections_are_cut(server: Server, started: Services, url: str) -> None:
    cuts(server, started, url, 6)


@pytest.mark.crash
def test_nothing_is_lost_or_repeated_however_often_connections_are_cut(
    server: Server, started: Services, url: str
) -> None:
    cuts(server, started, url, 60)


@pytest.mark.crash
def test_checks_go_on_while_somebody_has_locked_the_tables(started: Services, url: str) -> None:
    service = started.start(POLICY_DATABASE=url)
    trial = Trial([service], Stored(url, started.data / "keys"), refused_means_unchanged=True)
    with under(*trial.callers), psycopg.connect(url) as other:
        time.sleep(0.3)
        other.execute("LOCK TABLE chain IN EXCLUSIVE MODE")
        wait_until_degraded(trial.services)
        before = trial.answered()
        time.sleep(2.0)
        assert trial.answered() > before + 20
        other.rollback()
        wait_until_ready(trial.services)
    trial.check()


def test_a_start_without_its_database_fails_and_says_why(server: Server, started: Services, url: str) -> None:
    server.crash()
    flags = ["--port", str(free_port()), "--metrics-port", "0", "--stream-port", "0", "--data-dir", str(started.data)]
    ended = subprocess.run(
        [*COMMAND, "serve", *flags, "--database", url, "--policy-file", str(started.policy_file)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 2
    assert "the database `postgresql" in ended.stderr
    assert "cannot be used" in ended.stderr
    assert "Traceback" not in ended.stderr
