"""Slots for changes, which wait for the database: one thread less than there are, so that checks always find one."""

from __future__ import annotations

from threading import BoundedSemaphore

from flask import Flask, g, request

from policy_engine.model.errors import BusyError

_WAIT_SECONDS = 0.05
"""How long a change waits for a slot; it holds a thread meanwhile, so checks may have to wait as long."""


class Slots:
    """Lets so many changes at once wait for the database; the rest are told to try again."""

    def __init__(self, threads: int, changes: frozenset[str]) -> None:
        """Prepare slots.

        Args:
            threads: How many threads serve requests.
            changes: The endpoints that change something.
        """
        self._free = BoundedSemaphore(max(1, threads - 1))
        self._changes = changes

    def attach(self, app: Flask) -> None:
        """Give a slot to each change for as long as it takes."""
        app.before_request(self._take)
        app.teardown_request(self._give_back)

    def _take(self) -> None:
        if request.endpoint not in self._changes:
            return
        if not self._free.acquire(timeout=_WAIT_SECONDS):
            raise BusyError("other changes wait for the database; try again")
        g.has_slot = True

    def _give_back(self, _error: BaseException | None) -> None:
        if g.pop("has_slot", False):
            self._free.release()
