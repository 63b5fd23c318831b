"""What of checks somebody may not ask who may ask for some."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

from policy_engine.identity.permission import Permission
from policy_engine.identity.principal import Principal


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
    def of(cls, principal: Principal) -> Self | None:
        """Return the bounds of somebody; None when there are none."""
        simulates = not principal.may(Permission.CHECK)
        explains = principal.may(Permission.READ_POLICIES)
        if explains and not simulates and principal.client_id is None:
            return None
        return cls(principal.client_id, simulates, explains)

    def refusal(self, contexts: list[dict[str, Any]], *, simulated: bool, explain: bool) -> str:
        """Return why checks are not to be answered, empty when they are."""
        if self.simulates and not simulated:
            return f"the permission `{Permission.CHECK}` is missing: without it, name a time with `at`"
        if explain and not self.explains:
            return f"the permission `{Permission.READ_POLICIES}` is missing: explanations show the policies"
        if self.client_id is not None and any(each.get("client_id") != self.client_id for each in contexts):
            return f"this credential may ask only about `client_id` `{self.client_id}`"
        return ""
