"""What a service asks of the disk, seen from outside by strace."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGINT
from typing import NamedTuple

import pytest
from tests.service.running import eventually

INSTALL = "apt-get install strace"
_PATIENCE_SECONDS = 10.0
_LINE = re.compile(r"^(?P<began>[\d.]+) (?:fsync|fdatasync)\(\d+<(?P<path>[^>]+)>\) += 0 <(?P<took>[\d.]+)>$")


class Flush(NamedTuple):
    """A file that reached the disk; times are those of the system's clock."""

    path: str
    began: float
    ended: float


class Trace:
    """The flushes of a process since it is watched."""

    def __init__(self, prefix: Path) -> None:
        self._prefix = prefix

    def flushes(self, suffix: str) -> list[Flush]:
        """Return those of files whose name ends so, in order."""
        found = [
            Flush(match["path"], float(match["began"]), float(match["began"]) + float(match["took"]))
            for path in self._prefix.parent.glob(f"{self._prefix.name}.*")
            for match in map(_LINE.match, path.read_text().splitlines())
            if match is not None and match["path"].endswith(suffix)
        ]
        return sorted(found, key=lambda flush: flush.began)


@contextmanager
def traced(pid: int, prefix: Path, provoke: Callable[[], object]) -> Iterator[Trace]:
    """Watch a process; skip the test where that is not possible.

    Args:
        pid: Which one.
        prefix: How the files of notes, one a thread, are called.
        provoke: Makes it flush a file, which shows that it is watched.
    """
    command = shutil.which("strace")
    if command is None:
        pytest.skip(f"no strace: {INSTALL}")
    arguments = ["-ff", "-ttt", "-T", "-y", "-e", "trace=fsync,fdatasync", "-o", str(prefix), "-p", str(pid)]
    trace = Trace(prefix)
    with subprocess.Popen([command, *arguments], stderr=subprocess.PIPE, text=True) as tracer:
        try:
            eventually(lambda: _provoked(trace, provoke) or tracer.poll() is not None, "strace watches")
            if tracer.poll() is not None and tracer.stderr is not None:
                pytest.skip(f"strace may not watch processes here: {tracer.stderr.read()[:200]}")
            yield trace
        finally:
            tracer.send_signal(SIGINT)  # it lets go of the process
            tracer.communicate(timeout=_PATIENCE_SECONDS)


def _provoked(trace: Trace, provoke: Callable[[], object]) -> bool:
    provoke()
    return bool(trace.flushes(""))
