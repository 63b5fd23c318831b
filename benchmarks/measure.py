"""Time, as the processor spends it."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

REPEATS = 7
SECONDS = 0.25


def microseconds(work: Callable[[Any], object], items: Sequence[Any], *, quick: bool = False) -> float:
    """Return the median CPU time of one call in microseconds."""
    began = time.process_time_ns()
    for item in items:
        work(item)
    once = max(time.process_time_ns() - began, 1)
    rounds = max(1, int(SECONDS * 1e9 / (4 if quick else 1) / once))
    rounds = min(rounds, 200)
    results = []
    for _ in range(3 if quick else REPEATS):
        gc.collect()
        began = time.process_time_ns()
        for _ in range(rounds):
            for item in items:
                work(item)
        results.append((time.process_time_ns() - began) / rounds / len(items) / 1e3)
    return median(results)


def seconds(work: Callable[[], object], *, repeats: int = 3) -> float:
    """Return the median CPU time of some work in seconds."""
    results = []
    for _ in range(repeats):
        gc.collect()
        began = time.process_time_ns()
        work()
        results.append((time.process_time_ns() - began) / 1e9)
    return median(results)
