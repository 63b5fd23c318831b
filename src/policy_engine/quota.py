"""How much of what anonymous callers ask is logged: all of it up to a rate for each source, then a sample."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from time import monotonic

SAMPLE = 100
"""Beyond the rate, one decision in so many is logged."""

_MAX_SOURCES = 10_000
_TELL_SECONDS = 60.0


class _Bucket:
    __slots__ = ("skipped", "tokens", "told", "updated")

    def __init__(self, tokens: float, now: float) -> None:
        self.tokens = tokens
        self.updated = now
        self.skipped = 0
        self.told = -_TELL_SECONDS


class LogQuota:
    """A token bucket for each source.

    Attributes:
        unlogged: How many decisions have not been logged so far.
    """

    def __init__(
        self, per_second: int, exceeded: Callable[[str], None], *, clock: Callable[[], float] = monotonic
    ) -> None:
        """Make the buckets.

        Args:
            per_second: How many decisions of a source are logged each second; 0 for all.
            exceeded: Called with a source that asks more, at most once a minute.
            clock: Seconds that never go back.
        """
        self._rate = per_second
        self._exceeded = exceeded
        self._clock = clock
        self._lock = Lock()
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self.unlogged = 0

    def represents(self, source: str, count: int = 1) -> int:
        """Return how many decisions the ones at hand stand for in the log: 1 as a rule, 0 when they are not logged."""
        if not self._rate:
            return 1
        now = self._clock()
        with self._lock:
            bucket = self._bucket(source, now)
            if bucket.tokens >= min(count, self._rate):
                bucket.tokens -= count
                return 1
            bucket.skipped += count
            tell = now - bucket.told >= _TELL_SECONDS
            if tell:
                bucket.told = now
            stands_for = bucket.skipped // count if bucket.skipped >= SAMPLE * count else 0
            bucket.skipped -= stands_for * count
            if not stands_for:
                self.unlogged += count
        if tell:
            self._exceeded(source)
        return stands_for

    def _bucket(self, source: str, now: float) -> _Bucket:
        bucket = self._buckets.get(source)
        if bucket is None:
            bucket = self._buckets[source] = _Bucket(self._rate, now)
            if len(self._buckets) > _MAX_SOURCES:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(source)
            bucket.tokens = min(self._rate, bucket.tokens + (now - bucket.updated) * self._rate)
            bucket.updated = now
        return bucket
