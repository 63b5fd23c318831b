"""A small disk of its own, that can be filled."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_BLOCK = bytes(64 * 1024)
_PATIENCE_SECONDS = 10


class SmallDisk:
    """A directory on a disk of a few megabytes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self, left_bytes: int = 0) -> None:
        """Take all space but for some."""
        with self._filler.open("wb", buffering=0) as file:
            for block in (_BLOCK, _BLOCK[:4096]):
                while shutil.disk_usage(self.path).free > left_bytes:
                    try:
                        file.write(block)
                    except OSError:
                        break

    def make_room(self) -> None:
        self._filler.unlink(missing_ok=True)

    def remount(self, options: str) -> None:
        _run("mount", "-o", f"remount,{options}", str(self.path))


@contextmanager
def small_disk(path: Path, megabytes: int) -> Iterator[SmallDisk]:
    """Mount a disk that lives in memory, and unmount it at the end; skip the test where that is not allowed."""
    if os.geteuid():
        pytest.skip("mounting a small disk needs root: run the tests as root, in a container of your own")
    path.mkdir(parents=True, exist_ok=True)
    if _run("mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "policy-engine-test", str(path)):
        pytest.skip("this place does not allow mounts: a container needs `--cap-add SYS_ADMIN`")
    try:
        yield SmallDisk(path)
    finally:
        _run("umount", "--lazy", str(path))


@contextmanager
def immutable(*paths: Path) -> Iterator[None]:
    """Let nothing be written to files, not even by who has them open; skip the test where that is not possible."""
    probe = paths[0].with_name("probe")
    with probe.open("wb", buffering=0) as file:
        allowed = not _run("chattr", "+i", str(probe))
        try:
            file.write(b"?")
            works = False
        except PermissionError:
            works = allowed
        _run("chattr", "-i", str(probe))
    probe.unlink()
    if not works:
        pytest.skip("files cannot be made immutable here: it takes root, and ext4 or the like under `--basetemp`")
    assert not _run("chattr", "+i", *map(str, paths))
    try:
        yield
    finally:
        assert not _run("chattr", "-i", *map(str, paths))


def _run(*command: str) -> int:
    return subprocess.run(command, check=False, capture_output=True, timeout=_PATIENCE_SECONDS).returncode
