"""Time, as the processor spends it."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

REPEATS = 7
SECONDS = 0.25
"""How long one repeat lasts, about."""


def microseconds(work: Callable[[Any], object], items: Sequence[Any], *, repeats: int = REPEATS) -> float:
    """Return the median CPU time of one call in microseconds; a first pass over the items warms up."""
    rounds = min(200, max(1, int(SECONDS * 1e9 / max(_pass(work, items, 1), 1))))
    return median(_pass(work, items, rounds) / rounds / len(items) / 1e3 for _ in range(repeats))


def microseconds_once(work: Callable[[Any], object], lists: Sequence[Sequence[Any]]) -> float:
    """Return the median CPU time of one call in microseconds when no item comes twice; the first list warms up."""
    times = [_pass(work, items, 1) / len(items) / 1e3 for items in lists]
    return median(times[1:])


def seconds(work: Callable[[], object], *, repeats: int = 3) -> float:
    """Return the median CPU time of some work in seconds."""
    return median(_pass(lambda _: work(), [None], 1) / 1e9 for _ in range(repeats))


def _pass(work: Callable[[Any], object], items: Sequence[Any], rounds: int) -> int:
    """Return the CPU time of some rounds over the items in nanoseconds."""
    gc.collect()
    began = time.process_time_ns()
    for _ in range(rounds):
        for item in items:
            work(item)
    return time.process_time_ns() - began
