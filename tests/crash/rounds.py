"""A round: callers of a service, and a kill."""

from __future__ import annotations

import time
from collections.abc import Container

from tests.crash.killing import kill, wait_until_gone
from tests.crash.load import Checker, Decided, Metronome, total, under
from tests.crash.stored import this_moment
from tests.crash.writers import PolicyWriter
from tests.service.running import Running

PROMISED_SECONDS = 0.1


class Round:
    """What the callers of a service were answered until it was killed.

    Attributes:
        began: A position before everything that it logged.
        killed: When, on the monotonic clock of the callers.
    """

    def __init__(self, service: Running, seconds: float, writers: list[PolicyWriter], checkers: list[Checker]) -> None:
        self.began = this_moment()
        self.writers = writers
        self.checkers = checkers
        self._metronome = Metronome()
        with under(*writers, *checkers, self._metronome):
            time.sleep(seconds)
            self.killed = kill(service)
        wait_until_gone(service)

    @property
    def decided(self) -> list[Decided]:
        return [decided for checker in self.checkers for decided in checker.decided]

    @property
    def slack(self) -> float:
        """What the promise is stretched by in this round, as it was measured.

        The promise is for a machine that has time for the writer; here a dozen callers, the service and whatever else
        runs share the cores. So it is allowed how long a decision took at worst to reach the disk, as those saw who
        waited for it, and how late at worst a thread was woken that only wanted that.
        """
        commit = max((decided.took for decided in self.decided if decided.sync), default=0.0)
        return commit + self._metronome.late

    def promised(self) -> list[str]:
        """Return the decisions that have to be in the log."""
        border = self.killed - PROMISED_SECONDS - self.slack
        return [decided.decision_id for decided in self.decided if decided.sync or decided.at <= border]

    def describe(self, logged: Container[str]) -> str:
        lost = [decided for decided in self.decided if decided.decision_id not in logged]
        oldest = max((self.killed - decided.at for decided in lost), default=0.0)
        return (
            f"writers {dict(total(self.writers))}, checkers {dict(total(self.checkers))}, "
            f"lost {len(lost)}, the oldest {oldest * 1000:.0f} ms before the kill, slack {self.slack * 1000:.0f} ms"
        )
