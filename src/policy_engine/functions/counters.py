"""How often functions were called, and what came of it."""

from __future__ import annotations

from threading import Lock

import msgspec


class FunctionStats(msgspec.Struct, frozen=True, kw_only=True):
    """What was counted since the service started.

    Attributes:
        calls: Calls that reached the sandbox.
        answered: Those that came to an answer.
        failures: Those that did not, by kind: "timeout", "memory", "crashed", "raised", "source" or "answer".
        kills: Workers that had to be ended.
        busy: Calls that were refused because too many were running.
        cache_hits: Answers that were taken from the cache.
        cache_misses: Answers that were looked for there and had to be asked for.
        seconds: Time spent in calls.
    """

    calls: int
    answered: int
    failures: dict[str, int]
    kills: int
    busy: int
    cache_hits: int
    cache_misses: int
    seconds: float


class Counters:
    """Counts, for all threads of one process."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._answered = self._kills = self._busy = self._hits = self._misses = 0
        self._failures: dict[str, int] = {}
        self._seconds = 0.0

    def answered(self, seconds: float) -> None:
        """Count a call that came to an answer."""
        with self._lock:
            self._answered += 1
            self._seconds += seconds

    def failed(self, kind: str, seconds: float, *, killed: bool) -> None:
        """Count a call that did not."""
        with self._lock:
            self._failures[kind] = self._failures.get(kind, 0) + 1
            self._kills += killed
            self._seconds += seconds

    def busy(self) -> None:
        """Count a call that was refused."""
        with self._lock:
            self._busy += 1

    def looked_up(self, *, found: bool) -> None:
        """Count a look into the cache."""
        with self._lock:
            self._hits += found
            self._misses += not found

    def snapshot(self) -> FunctionStats:
        """Return the counts as they are now."""
        with self._lock:
            return FunctionStats(
                calls=self._answered + sum(self._failures.values()),
                answered=self._answered,
                failures=dict(self._failures),
                kills=self._kills,
                busy=self._busy,
                cache_hits=self._hits,
                cache_misses=self._misses,
                seconds=round(self._seconds, 6),
            )
