"""What of checks somebody may not ask who may ask for some."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Self

from policy_engine.identity.permission import Permission


class Scope(NamedTuple):
    """The bounds of what a principal may ask.

    Attributes:
        client_id: The one client that it may ask about, None for anyone.
        simulates: Whether it may ask only for checks that leave nothing behind.
        explains: Whether it may have the rules explained.
    """

    client_id: str | None
    simulates: bool
    explains: bool

    @classmethod
    def of(cls, permissions: frozenset[Permission], client_id: str | None) -> Self | None:
        """Return the bounds of who has these permissions; None when there are none."""
        simulates = Permission.CHECK not in permissions
        explains = Permission.READ_POLICIES in permissions
        if explains and not simulates and client_id is None:
            return None
        return cls(client_id, simulates, explains)

    def refusal(self, contexts: Iterable[dict[str, Any]], *, simulated: bool, explain: bool) -> str:
        """Return why checks are not to be answered, empty when they are."""
        if self.simulates and not simulated:
            return f"the permission `{Permission.CHECK}` is missing: without it, name a time with `at`"
        if explain and not self.explains:
            return f"the permission `{Permission.READ_POLICIES}` is missing: explanations show the policies"
        if self.client_id is not None and any(each.get("client_id") != self.client_id for each in contexts):
            return f"this credential may ask only about `client_id` `{self.client_id}`"
        return ""
