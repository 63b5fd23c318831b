"""The policy file on disk: read it, notice that it changed, write it back in its own shape."""

from __future__ import annotations

import errno
import json
import logging
import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from threading import Event, Thread
from typing import Any, Protocol

from policy_engine.model.policy import PolicySet
from policy_engine.store.atomic import write_atomically

log = logging.getLogger(__name__)

_RACY_SECONDS = 2.0
"""A file that changed this recently may change again without its time of change moving, so its content is compared."""


class PolicySource(Protocol):
    """Where policies come from besides the API, and where what the API changes may be written to."""

    def check_writable(self) -> None:
        """Refuse a change that could not be written without losing something.

        Raises:
            StateError: It could not.
        """

    def write_back(self) -> None:
        """Write what is in force, if that is wanted."""


class NoFile:
    """The source of policies where there is no file to keep: it takes no notice."""

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


class Watcher:
    """Looks at a policy file again and again."""

    def __init__(self, look: Callable[[], None], interval_seconds: float) -> None:
        self._look = look
        self._interval = interval_seconds
        self._stop = Event()
        self._thread = Thread(target=self._run, name="policy-file-watcher", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """End watching and wait for it."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            self._look()
