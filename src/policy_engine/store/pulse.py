"""The pulse of a database server: whether it answers at all.

A server that is frozen, or that no packet reaches any more, leaves its connections open and says nothing: whoever waits
for it would wait until the system gives the connection up, or for good. How long an answer takes tells nothing, because
much work takes long. So a thread asks, again and again, what takes no time.
"""

from __future__ import annotations

import logging
from threading import Event, Thread
from typing import Protocol

log = logging.getLogger(__name__)

_BEAT_SECONDS = 0.5


class Probe(Protocol):
    """Asks a server something that takes no time."""

    def answers(self) -> bool | None:
        """Return whether an answer came in time; None when there was nothing to wait for: a refusal is no answer."""

    def close(self) -> None:
        """Close what it asks by."""


class Pulse:
    """Knows whether a server answers.

    Attributes:
        silences: How often it has begun not to. What was opened before the last time may wait for a machine that never
            comes back, even though another one answers by now.
    """

    def __init__(self, name: str, probe: Probe) -> None:
        """Take it that the server does.

        Args:
            name: What to call the server in the log.
            probe: Asks it.
        """
        self._name = name
        self._probe = probe
        self.silences = 0
        self._is_silent = False
        self._ended = Event()
        self._thread = Thread(target=self._run, name="pulse", daemon=True)

    @property
    def is_silent(self) -> bool:
        """Whether a question was not answered in time, and none was since."""
        return self._is_silent

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Ask no more."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(_BEAT_SECONDS):
            try:
                self._beat()
            except Exception:  # without a pulse, others would wait in vain for good, or not at all
                log.exception("asking the database `%s` failed; it goes on", self._name)
        self._probe.close()

    def _beat(self) -> None:
        answers = self._probe.answers()
        if answers is None or answers != self._is_silent:
            return
        if answers:
            log.info("the database `%s` answers again", self._name)
        else:
            self.silences += 1
            log.warning("the database `%s` does not answer: connections to it are given up", self._name)
        self._is_silent = not answers
