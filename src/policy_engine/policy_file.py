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
from typing import Any

from policy_engine.model.policy import PolicySet
from policy_engine.store.atomic import write_atomically

log = logging.getLogger(__name__)

_RACY_SECONDS = 2.0
"""A file that changed this recently may change again without its time of change moving, so its content is compared."""


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
        """Write the policies of a set into the document that was read, keeping its shape.

        Raises:
            OSError: The file could not be written; it is as it was.
        """
        documents = {policy_id: policy.document for policy_id, policy in policy_set.policies.items()}
        policies = list(documents.values()) if isinstance(source.get("policies"), list) else documents
        text = json.dumps({**source, "policies": policies}, indent=2, ensure_ascii=False) + "\n"
        write_atomically(self.path, text.encode())
        self.read()


class Watcher:
    """Calls back when a policy file changed."""

    def __init__(self, file: PolicyFile, changed: Callable[[], None], interval_seconds: float) -> None:
        self._file = file
        self._changed = changed
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
            if self._file.changed():
                self._changed()
