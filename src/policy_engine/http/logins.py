"""Logins that failed: told as events, a few of them, however many there are."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from threading import Lock
from typing import Any

log = logging.getLogger(__name__)

MOST = 20
WINDOW_SECONDS = 60.0
"""So many are told one by one in so long; of the rest only how many there were, with the next one that is told."""


class FailedLogins:
    """Tells of credentials that are not valid."""

    def __init__(self, record: Callable[[str, dict[str, Any]], object]) -> None:
        """Prepare.

        Args:
            record: Takes the type of an event and its details.
        """
        self._record = record
        self._until = 0.0
        self._told = 0
        self._untold = 0
        self._lock = Lock()

    def note(self, method: str, reason: str, source: str, **more: str | None) -> None:
        """Tell of one, or count it.

        Args:
            method: What was shown: a key, a token or a certificate.
            reason: Why it is not valid; nothing that was shown.
            source: The address.
            more: What else is known, such as the prefix of a key.
        """
        with self._lock:
            now = time.monotonic()
            if now >= self._until:
                self._until, self._told = now + WINDOW_SECONDS, 0
            if self._told >= MOST:
                self._untold += 1
                return
            self._told += 1
            untold, self._untold = self._untold, 0
        known = {name: value for name, value in more.items() if value is not None}
        self._record(
            "LOGIN_FAILED",
            {"source": source, "method": method, "reason": reason, **known, "result": "refused", "untold": untold},
        )
        log.warning("login_failed: %s from %s: %s", method, source, reason)
