"""Why the service is degraded though it answers."""

from __future__ import annotations

from datetime import UTC, datetime
from threading import Lock

import msgspec

from policy_engine.model.diagnostic import Diagnostic


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """One reason, since when it holds, and the faults behind it."""

    code: str
    detail: str
    since: datetime
    errors: tuple[Diagnostic, ...] = ()


CODES: dict[str, str] = {
    "reload_failed": "the policy file was refused, or could not be read or taken over",
    "reload_conflict": "the policy file changed, and so did policies through the API since it was read",
    "functions_refused": "the directory of functions was refused, or could not be read or taken over",
    "functions_conflict": "the directory of functions changed, and so did functions through the API",
    "write_back_failed": "what the API changed could not be written to the policy file; it is tried again",
    "bundle_refused": "the bundle that is there was refused; the last good one stays",
    "bundle_unavailable": "no bundle can be had from its source; it is tried again, the last good one stays",
    "bundle_not_in_force": "other policies than those of the bundle that was accepted last are in force",
    "bundle_expired": "the bundle that was accepted last has expired, and no newer one is there; it stays in force",
    "revision_refused": "another process made a revision that cannot be used here; the last good program stays",
    "store_unavailable": "the database is away: checks go on, what they decide is spooled, changes are refused",
    "spool_full": "the database is away and the spool takes no more: checks are refused once the queue is full",
    "audit_unsigned": "checkpoints cannot be signed, so what is logged from now on is not protected",
    "frozen": "checks are denied, or most are, by an emergency stop",
    "function_unavailable": "policies name functions that are not there, so they deny",
}
"""Every code and what it means."""


class Troubles:
    """What is wrong at the moment, one reason a code; the service is well when there is none."""

    def __init__(self) -> None:
        self._held: dict[str, Trouble] = {}
        self._lock = Lock()

    def __contains__(self, code: str) -> bool:
        return code in self._held

    def all(self) -> tuple[Trouble, ...]:
        """Return what is wrong, oldest first."""
        return tuple(self._held.values())

    def add(self, code: str, detail: str, errors: tuple[Diagnostic, ...] = ()) -> bool:
        """Note a reason and return whether it is news."""
        with self._lock:
            old = self._held.get(code)
            if old is not None and old.detail == detail:
                return False
            since = old.since if old is not None else datetime.now(UTC)
            self._held = {**self._held, code: Trouble(code=code, detail=detail, since=since, errors=errors)}
        return True

    def clear(self, *codes: str) -> None:
        """Forget reasons that no longer hold."""
        if not self._held.keys().isdisjoint(codes):
            with self._lock:
                self._held = {code: trouble for code, trouble in self._held.items() if code not in codes}
