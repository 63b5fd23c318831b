"""Background: threads that work beside those that decide."""

from __future__ import annotations

import os
from contextlib import suppress


def never_interrupt() -> None:
    """Have this thread run when it is its turn, and never in the place of another that has just begun.

    Whoever decides holds the interpreter; to be interrupted by a thread that wants it too helps nobody. What this
    thread starts inherits that, so it is not for threads that start what others wait for.
    """
    with suppress(AttributeError, OSError):  # another system, or it is not allowed
        if os.sched_getscheduler(0) == os.SCHED_OTHER:
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
