"""Who asks, once that is known."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Self

import msgspec

from policy_engine.identity.permission import Permission
from policy_engine.identity.role import permissions
from policy_engine.identity.scope import Scope

Method = Literal["anonymous", "page", "network", "admin_key", "key", "token", "certificate"]
"""How somebody was told: not at all, not at all because a web page of another origin asks, by the address, or by one of
the credentials."""

MAX_NAME = 200


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who asks.

    Attributes:
        name: As it stands in changes and events.
        roles: What was given.
        permissions: What that allows.
        method: How it was found out.
        client_id: The client that it is bound to: it may ask about that one alone.
        key_id: The key that it showed.
        expires_at: When the credential ends, in seconds since 1970.
        scope: The bounds of what it may check, None when there are none.
    """

    name: str
    roles: tuple[str, ...]
    permissions: frozenset[Permission]
    method: Method
    client_id: str | None = None
    key_id: str | None = None
    expires_at: float | None = None
    scope: Scope | None = None

    @classmethod
    def of(
        cls,
        name: str,
        roles: Iterable[str],
        method: Method,
        *,
        client_id: str | None = None,
        key_id: str | None = None,
        expires_at: float | None = None,
    ) -> Self:
        """Return who has these roles.

        Raises:
            KeyError: There is no such role.
        """
        given = tuple(dict.fromkeys(roles))
        allowed = permissions(given)
        shown = "".join(letter if letter.isprintable() else "?" for letter in name[:MAX_NAME])
        return cls(
            name=shown,
            roles=given,
            permissions=allowed,
            method=method,
            client_id=client_id,
            key_id=key_id,
            expires_at=expires_at,
            scope=Scope.of(allowed, client_id),
        )

    @property
    def is_known(self) -> bool:
        """Whether it is somebody in particular."""
        return self.method not in {"anonymous", "page"}

    def may(self, permission: Permission) -> bool:
        """Whether it may do something."""
        return permission in self.permissions


class Grant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What settings give to somebody.

    Attributes:
        roles: The roles.
        client_id: The client that the role `client` is bound to.
    """

    roles: tuple[str, ...]
    client_id: str | None = None
