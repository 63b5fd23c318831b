"""What runs below a process, told so that whatever ends meanwhile does no harm."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def children_of(pid: int) -> set[int]:
    """The processes that a process has started, whichever of its threads did."""
    return {child for child, parent in _parents().items() if parent == pid}


def tree_of(pid: int) -> set[int]:
    """A process and all below it."""
    parents = _parents()
    below = {pid}
    while more := {child for child, parent in parents.items() if parent in below} - below:
        below |= more
    return below


def sandboxes_below(pid: int) -> set[int]:
    """The sandbox workers below a process, at any depth."""
    return {one for one in tree_of(pid) if is_sandbox(one)}


def is_sandbox(pid: int) -> bool:
    """Whether a process is there and is a sandbox worker."""
    with suppress(OSError):
        return b"monty" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def cores_of_threads(pid: int) -> Iterator[frozenset[int]]:
    """Yield which cores each thread of a process may use."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):
            yield frozenset(os.sched_getaffinity(int(task.name)))


def _parents() -> dict[int, int]:
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            stat = (path / "stat").read_text(encoding="utf-8", errors="replace")
            found[int(path.name)] = int(stat.rpartition(")")[2].split()[1])
    return found
