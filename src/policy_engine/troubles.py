"""Why the service is degraded though it answers."""

from __future__ import annotations

from datetime import UTC, datetime

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
    "function_unavailable": "policies name functions that are not there, so they deny",
}
"""Every code and what it means."""


class Troubles:
    """What is wrong at the moment, one reason a code; the service is well when there is none."""

    def __init__(self) -> None:
        self._held: dict[str, Trouble] = {}

    def __contains__(self, code: str) -> bool:
        return code in self._held

    def all(self) -> tuple[Trouble, ...]:
        """Return what is wrong, oldest first."""
        return tuple(self._held.values())

    def add(self, code: str, detail: str, errors: tuple[Diagnostic, ...] = ()) -> bool:
        """Note a reason and return whether it is news."""
        old = self._held.get(code)
        if old is not None and old.detail == detail:
            return False
        trouble = Trouble(code=code, detail=detail, since=datetime.now(UTC), errors=errors)
        self._held = {**self._held, code: trouble}
        return True

    def clear(self, *codes: str) -> None:
        """Forget reasons that no longer hold."""
        self._held = {code: trouble for code, trouble in self._held.items() if code not in codes}
