"""The policy file on disk: read it, notice that it changed, write it back in its own shape."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from hashlib import sha256
from pathlib import Path
from threading import Event, RLock, Thread
from typing import Any, Protocol

from policy_engine.model.errors import BusyError, StateError
from policy_engine.model.policy import PolicySet
from policy_engine.store.atomic import write_atomically

log = logging.getLogger(__name__)

_RACY_SECONDS = 2.0
"""A file that changed this recently may change again without its time of change moving, so its content is compared."""

_LOCK_POLL_SECONDS = 0.005


class PolicySource(Protocol):
    """Where policies come from besides the API, and where what the API changes may be written to."""

    def turn(self) -> AbstractContextManager[None]:
        """Wait for the turn of a change, but not long; a change is made and written back in one turn.

        Raises:
            BusyError, StateError: It did not come.
        """

    def check_writable(self) -> None:
        """Refuse a change that could not be written without losing something.

        Raises:
            StateError: It could not.
        """

    def write_back(self) -> None:
        """Write what is in force, if that is wanted."""


class NoFile:
    """The source of policies where there is no file to keep: it takes no notice."""

    def turn(self) -> AbstractContextManager[None]:
        """Let every change begin."""
        return nullcontext()

    def check_writable(self) -> None:
        """Let every change pass."""

    def write_back(self) -> None:
        """Write nothing."""


class PolicyFile:
    """One policy file.

    It is watched by looking at it: that also sees renames, symbolic links that are turned (as container platforms do)
    and network mounts, where notifications from the kernel do not arrive.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, ...] | None = None
        self._content_seen = b""

    def read(self) -> bytes:
        """Return the content and remember it as seen.

        Raises:
            OSError: The file is not there or cannot be read.
        """
        self._seen = self._look()
        self._content_seen = b""
        if self.path.exists() and not (self.path.is_file() or self.path.is_dir()):
            raise OSError(errno.EINVAL, "not a regular file")  # reading a pipe would wait for ever
        content = self.path.read_bytes()
        self._content_seen = sha256(content).digest()
        return content

    def forget(self) -> None:
        """Take the file for one that was never read, so that it counts as changed."""
        self._seen = ()

    def changed(self) -> bool:
        """Whether the file is another than the one read last."""
        look = self._look()
        if look != self._seen:
            return True
        return look is not None and time.time() - look[-1] / 1e9 < _RACY_SECONDS and self._content_differs()

    def _content_differs(self) -> bool:
        try:
            return self.path.is_file() and sha256(self.path.read_bytes()).digest() != self._content_seen
        except OSError:
            return self._content_seen != b""

    def _look(self) -> tuple[int, ...] | None:
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns, status.st_mtime_ns

    def write(self, source: Mapping[str, Any], policy_set: PolicySet) -> None:
        """Write the policies and types of a set into the document that was read, keeping its shape.

        Raises:
            OSError: The file could not be written; it is as it was.
        """
        documents = {policy_id: policy_set.policies[policy_id].document for policy_id in _order(source, policy_set)}
        policies = list(documents.values()) if isinstance(source.get("policies"), list) else documents
        document = {**source, "policies": policies}
        if policy_set.type_documents or "types" in source:
            document["types"] = policy_set.type_documents
        text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        write_atomically(self.path, text.encode())
        self.read()


def _order(source: Mapping[str, Any], policy_set: PolicySet) -> list[str]:
    """Return the ids in the order of the document that was read, new ones last."""
    policies = source.get("policies", ())
    before = list(policies) if isinstance(policies, dict) else [policy.get("id") for policy in policies]
    kept = [policy_id for policy_id in before if policy_id in policy_set.policies]
    return [*kept, *(policy_id for policy_id in policy_set.policies if policy_id not in set(kept))]


class ImportLock:
    """Lets one thread of one process at a time bring a policy file and the store together.

    It is reentrant, and ends with the process, however that ends.
    """

    def __init__(self, path: Path | None) -> None:
        """Use a file that all processes of the store share; None where there are none."""
        self._path = path
        self._threads = RLock()
        self._depth = 0
        self._descriptor = -1

    @contextmanager
    def held(self, seconds: float) -> Iterator[None]:
        """Hold the lock, and wait for it at most so long.

        Raises:
            BusyError: It was not free in time.
            StateError: There is no such lock to be had.
        """
        deadline = time.monotonic() + seconds
        if not self._threads.acquire(timeout=seconds):
            raise BusyError("the policy file is being read or written; try again")
        try:
            if not self._depth:
                self._acquire(deadline)
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
                if not self._depth:
                    self._release()
        finally:
            self._threads.release()

    def _acquire(self, deadline: float) -> None:
        if self._path is None:
            return
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateError(f"cannot lock `{self._path}`: {error.strerror}") from error
        while not _is_locked(descriptor):
            if time.monotonic() >= deadline:
                os.close(descriptor)
                raise BusyError("another process reads or writes the policy file; try again")
            time.sleep(_LOCK_POLL_SECONDS)
        self._descriptor = descriptor

    def _release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _is_locked(descriptor: int) -> bool:
    """Lock a file if it is free, and return whether it was."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Watcher:
    """Looks at where policies come from again and again."""

    def __init__(
        self,
        look: Callable[[], None],
        interval_seconds: float,
        *,
        name: str = "policy-file-watcher",
        at_once: bool = False,
    ) -> None:
        """Get ready to look, the first time after an interval or at once."""
        self._at_once = at_once
        self._look = look
        self._interval = interval_seconds
        self._stop = Event()
        self._thread = Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """End watching and wait for it."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        if self._at_once:
            self._look()
        while not self._stop.wait(self._interval):
            self._look()
