"""One thread of one process at a time brings the policy file and the store together."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest
from tests.service.running import DEADLINE_SECONDS

from policy_engine.model.errors import BusyError, StateError
from policy_engine.policy_file import ImportLock

_HOLD = """
import sys
from pathlib import Path
from policy_engine.policy_file import ImportLock
with ImportLock(Path(sys.argv[1])).held(10):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "import"


def is_free(lock: ImportLock) -> bool:
    try:
        with lock.held(0.0):
            return True
    except BusyError:
        return False


@contextmanager
def other_process(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds the lock."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_it_is_held_by_one(path: Path) -> None:
    one, other = ImportLock(path), ImportLock(path)
    with one.held(1.0):
        assert not is_free(other)
        with pytest.raises(BusyError):
            other.held(0.05).__enter__()
    assert is_free(other)
    assert is_free(one)


def test_who_has_it_gets_it_again(path: Path) -> None:
    one, other = ImportLock(path), ImportLock(path)
    with one.held(1.0):
        with one.held(1.0), one.held(1.0):
            assert not is_free(other)
        assert not is_free(other), "it is held until the outermost end"
    assert is_free(other)


def test_an_error_inside_gives_it_back(path: Path) -> None:
    one, other = ImportLock(path), ImportLock(path)

    def fail() -> None:
        with one.held(1.0), one.held(1.0):
            raise ValueError(path)

    with pytest.raises(ValueError, match="import"):
        fail()
    assert is_free(other)


@pytest.mark.parametrize("shared", [True, False])
def test_another_thread_waits(path: Path, *, shared: bool) -> None:
    lock = ImportLock(path if shared else None)
    held, done = Event(), Event()

    def hold() -> None:
        with lock.held(1.0):
            held.set()
            done.wait(DEADLINE_SECONDS)

    thread = Thread(target=hold)
    thread.start()
    assert held.wait(DEADLINE_SECONDS)
    assert not is_free(lock)
    done.set()
    with lock.held(DEADLINE_SECONDS):
        pass
    thread.join()


def test_another_process_waits_until_that_one_is_gone(path: Path) -> None:
    lock = ImportLock(path)
    with other_process(path) as process:
        assert not is_free(lock)
        process.kill()
        process.wait(DEADLINE_SECONDS)
        with lock.held(DEADLINE_SECONDS):
            pass


def test_a_place_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="cannot lock"):
        ImportLock(tmp_path / "nowhere" / "import").held(1.0).__enter__()
