"""Services that can be killed and started again on the same data."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL

from tests.service.running import Running, eventually

GONE_SECONDS = 10.0


class Services:
    """Starts real services and ends them; all of them have the same data directory unless told otherwise."""

    def __init__(self, directory: Path, policy_file: Path) -> None:
        self.directory = directory
        self.policy_file = policy_file
        self._started: list[Running] = []

    @property
    def data(self) -> Path:
        return self.directory / "data"

    def start(self, directory: Path | None = None, **environment: str) -> Running:
        where = directory or self.directory
        where.mkdir(exist_ok=True)
        running = Running.start(where, {"POLICY_FILE": str(self.policy_file), **environment})
        self._started.append(running)
        return running

    def stop(self) -> None:
        for running in self._started:
            if running.process.poll() is None:  # else its number may be that of somebody else's processes by now
                kill(running)
                wait_until_gone(running)


def kill(running: Running) -> float:
    """Kill a service, the parent and its workers at once; return when, on the monotonic clock."""
    assert running.process.poll() is None
    moment = time.monotonic()
    os.killpg(running.process.pid, SIGKILL)
    running.process.wait()
    return moment


def wait_until_gone(running: Running) -> None:
    """Wait for the end of every process of a service that was killed."""
    eventually(lambda: not alive_in(running.process.pid), "every process of the service is gone", GONE_SECONDS)


def alive_in(group: int) -> list[int]:
    """Return the processes of a group that have not ended; those that nobody has asked for since have."""
    return [pid for pid, found, state in _processes() if found == group and state not in "ZX"]


def is_running(pid: int) -> bool:
    return any(found == pid and state not in "ZX" for found, _, state in _processes())


def _processes() -> Iterator[tuple[int, int, str]]:
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, group = path.read_text().rpartition(")")[2].split()[:3]
            yield int(path.parent.name), int(group), state
