"""Slots for requests that wait for the store: one thread less than there are, so that checks always find one."""

from __future__ import annotations

from threading import BoundedSemaphore

from flask import Flask, g, request

from policy_engine.model.errors import BusyError

_WRITE_SECONDS = 0.05
_READ_SECONDS = 0.25
"""How long a request waits for a slot; it holds a thread meanwhile, so checks may have to wait as long."""

_STORE = frozenset({"revisions", "decisions", "events"})
"""The blueprints whose routes read the store."""


class Slots:
    """Lets so many requests at once wait for the store; the rest are told to try again."""

    def __init__(self, threads: int, writes: frozenset[str]) -> None:
        """Prepare slots.

        Args:
            threads: How many threads serve requests.
            writes: The endpoints that change something.
        """
        self._free = BoundedSemaphore(max(1, threads - 1))
        self._writes = writes

    def attach(self, app: Flask) -> None:
        """Give a slot to each request to such a route for as long as it takes."""
        app.before_request(self._take)
        app.teardown_request(self._give_back)

    def _take(self) -> None:
        is_write = request.endpoint in self._writes
        if not is_write and request.blueprint not in _STORE:
            return
        if not self._free.acquire(timeout=_WRITE_SECONDS if is_write else _READ_SECONDS):
            raise BusyError("too many requests wait for the store; try again")
        g.has_slot = True

    def _give_back(self, _error: BaseException | None) -> None:
        if g.pop("has_slot", False):
            self._free.release()
