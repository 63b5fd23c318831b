"""Refusals, told as events: the first ones in a minute, and how many more there were, however many there are."""

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


class Refusals:
    """Tells of what was refused."""

    def __init__(self, record: Callable[[str, dict[str, Any]], object], event_type: str) -> None:
        """Prepare.

        Args:
            record: Takes the type of an event and its details.
            event_type: The type of these events.
        """
        self._record = record
        self._event_type = event_type
        self._until = 0.0
        self._told = 0
        self._untold = 0
        self._lock = Lock()

    def note(self, source: str, reason: str, **more: str | None) -> None:
        """Tell of one, or count it.

        Args:
            source: The address it came from.
            reason: Why it was refused; nothing that was shown.
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
        details = {"source": source, "reason": reason, **known, "result": "refused", "untold": untold}
        self._record(self._event_type, details)
        log.warning("%s: from %s: %s", self._event_type.lower(), source, reason)
