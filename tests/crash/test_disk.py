"""A disk that is full, a database that cannot be written or is locked: nothing that was acknowledged is lost."""

from __future__ import annotations

import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random

import pytest
from tests.crash.killing import Services
from tests.crash.load import under
from tests.crash.small_disk import SmallDisk, immutable, small_disk
from tests.crash.stored import Stored, url_of
from tests.crash.trial import Trial, refuses_changes, wait_until_degraded, wait_until_ready
from tests.service.running import COMMAND, environment, free_port

MEGABYTES = 24
QUEUE = "400"
"""A short queue, so that checks come to be refused."""


@pytest.fixture
def disk(tmp_path: Path, started: Services) -> Iterator[SmallDisk]:
    """The data directory as a disk of its own; services end before it does."""
    with small_disk(tmp_path / "data", MEGABYTES) as mounted:
        yield mounted
        started.stop()


def trial_of(started: Services, log_queue: str = "20000") -> Trial:
    service = started.start(POLICY_LOG_QUEUE=log_queue)
    return Trial([service], Stored(url_of(started.data), started.data / "keys"), refused_means_unchanged=True)


def full_disks(started: Services, disk: SmallDisk, number: int) -> None:
    trial = trial_of(started, QUEUE)
    random = Random(number)
    with under(*trial.callers):
        for turn in range(number):
            time.sleep(random.uniform(0.3, 0.8))
            disk.fill(left_bytes=random.randrange(0, 100_000) if turn else 0)
            wait_until_degraded(trial.services)
            assert refuses_changes(trial.services)
            time.sleep(random.uniform(0.5, 2.0))
            disk.make_room()
            wait_until_ready(trial.services)
        time.sleep(0.3)
    trial.check()
    (service,) = trial.services
    assert service.stop() == 0


def test_a_disk_that_fills_up_loses_nothing(started: Services, disk: SmallDisk) -> None:
    full_disks(started, disk, 2)


@pytest.mark.crash
def test_a_disk_that_fills_up_again_and_again_loses_nothing(started: Services, disk: SmallDisk) -> None:
    full_disks(started, disk, 12)


def test_a_database_that_cannot_be_written_loses_nothing(started: Services) -> None:
    trial = trial_of(started)
    files = [started.data / f"policy-engine.db{suffix}" for suffix in ("", "-wal")]
    with under(*trial.callers):
        time.sleep(0.3)
        with immutable(*files):
            wait_until_degraded(trial.services)
            before = trial.answered()
            assert refuses_changes(trial.services)
            time.sleep(1.0)
            assert trial.answered() > before + 20
        wait_until_ready(trial.services)
        time.sleep(0.3)
    trial.check()


def test_a_database_that_another_process_has_locked_loses_nothing(started: Services) -> None:
    trial = trial_of(started)
    with (
        under(*trial.callers),
        closing(sqlite3.connect(started.data / "policy-engine.db", isolation_level=None, timeout=20)) as other,
    ):
        time.sleep(0.3)
        other.execute("BEGIN IMMEDIATE")
        wait_until_degraded(trial.services)
        before = trial.answered()
        assert refuses_changes(trial.services)
        time.sleep(5.0)
        assert trial.answered() > before + 20
        other.execute("ROLLBACK")
        wait_until_ready(trial.services)
        time.sleep(0.3)
    trial.check()


def test_a_start_on_a_disk_that_cannot_be_written_fails_and_says_why(started: Services, disk: SmallDisk) -> None:
    assert started.start().stop() == 0
    disk.remount("ro")
    flags = ["--port", str(free_port()), "--metrics-port", "0", "--stream-port", "0", "--data-dir", str(disk.path)]
    ended = subprocess.run(
        [*COMMAND, "serve", *flags, "--policy-file", str(started.policy_file)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 2
    assert str(disk.path) in ended.stderr
    assert "Traceback" not in ended.stderr
