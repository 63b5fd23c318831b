"""Rate limits: how often one address, or one key, may do something in this process."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from threading import Lock
from time import time

from limits import RateLimitItem, parse_many
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter

from policy_engine.config import NO_LIMIT
from policy_engine.model.errors import RateLimitedError

MAX_KEYS = 10_000
"""How many are counted at a time; the one that has been counted longest is forgotten for one more."""

_IPV6_HOST_BITS = 64
"""Whoever has one address of IPv6 has so many bits of them."""


class _Memory(Storage):
    """Counters of bounded number: the library's own grows with the number of addresses."""

    STORAGE_SCHEME = None

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock
        self._lock = Lock()
        self._counted: OrderedDict[str, tuple[int, float]] = OrderedDict()

    @property
    def base_exceptions(self) -> type[Exception]:
        return LookupError  # there are none to be translated

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        now = self._clock()
        with self._lock:
            count, ends = self._counted.get(key, (0, 0.0))
            if ends <= now:
                count, ends = 0, now + expiry
                self._counted.pop(key, None)
                if len(self._counted) >= MAX_KEYS:
                    self._counted.popitem(last=False)
            self._counted[key] = (count + amount, ends)
        return count + amount

    def get(self, key: str) -> int:
        count, ends = self._counted.get(key, (0, 0.0))
        return count if ends > self._clock() else 0

    def get_expiry(self, key: str) -> float:
        return self._counted.get(key, (0, self._clock()))[1]

    def check(self) -> bool:
        return True

    def reset(self) -> int:
        with self._lock:
            forgotten = len(self._counted)
            self._counted.clear()
        return forgotten

    def clear(self, key: str) -> None:
        with self._lock:
            self._counted.pop(key, None)

    def __len__(self) -> int:
        return len(self._counted)


class RateLimit:
    """Counts by key, in fixed windows of time, by one or several limits such as `10/minute;100/hour`."""

    def __init__(self, text: str, what: str, *, clock: Callable[[], float] = time) -> None:
        """Begin to count.

        Args:
            text: The limits, in the notation of the library `limits`.
            what: What is counted, for those who are refused.
            clock: Seconds since 1970.

        Raises:
            ValueError: The text says no limit.
        """
        self._what = what
        self._clock = clock
        self._items = parse_many(text)
        self._memory = _Memory(clock)
        self._limiter = FixedWindowRateLimiter(self._memory)

    @property
    def counted(self) -> int:
        """How many keys are counted."""
        return len(self._memory)

    def take(self, key: str, cost: int = 1) -> None:
        """Count something.

        Raises:
            RateLimitedError: It is too much.
        """
        for item in self._items:
            if not self._limiter.hit(item, key, cost=cost):
                self._refuse(item, key)

    def check(self, key: str) -> None:
        """Count nothing.

        Raises:
            RateLimitedError: Nothing more is allowed.
        """
        for item in self._items:
            if not self._limiter.test(item, key):
                self._refuse(item, key)

    def _refuse(self, item: RateLimitItem, key: str) -> None:
        ends = self._limiter.get_window_stats(item, key).reset_time
        raise RateLimitedError(self._what, str(item), max(1, math.ceil(ends - self._clock())))


def rate_limit(text: str, what: str) -> RateLimit | None:
    """Return a limit, None where the text is empty or `off`."""
    return None if text in NO_LIMIT else RateLimit(text, what)


@lru_cache(maxsize=4096)
def address_key(address: str) -> str:
    """Return under what an address is counted: IPv6 by its network, since a host has as many as it likes there."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(IPv6Address(int(parsed) >> _IPV6_HOST_BITS << _IPV6_HOST_BITS))
