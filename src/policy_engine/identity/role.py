"""Roles: the sets of permissions that are given to people and components."""

from __future__ import annotations

from collections.abc import Iterable

from policy_engine.identity.permission import Permission as P  # noqa: N817 - the table below is read by columns

_VIEWER = frozenset({P.SIMULATE, P.READ_POLICIES, P.READ_DECISIONS, P.READ_EVENTS, P.READ_TRUST})
_CHECKER = frozenset({P.CHECK, P.PLAN_ROUNDS})
_CLIENTS = frozenset({P.READ_CONTEXTS, P.READ_CLIENT, P.READ_CLIENTS})

CLIENT = "client"
"""The role of one client of a federation: whoever has it may ask about itself alone."""

ADMIN = "admin"

ROLES: dict[str, frozenset[P]] = {
    "viewer": _VIEWER,
    "checker": _CHECKER,
    CLIENT: frozenset({P.CHECK, P.READ_CLIENT}),
    "reporter": _CHECKER | {P.REPORT_ROUNDS, P.REPORT_VIOLATIONS, P.SPEND_PRIVACY, P.READ_CLIENT, P.READ_CLIENTS},
    "author": _VIEWER | {P.CHECK, P.WRITE_POLICIES, P.ACTIVATE_POLICIES},
    "approver": _VIEWER | {P.ACTIVATE_POLICIES},
    "operator": _VIEWER | _CHECKER | _CLIENTS | {P.ACTIVATE_POLICIES, P.MANAGE_TRUST, P.FREEZE},
    "auditor": _VIEWER | _CLIENTS | {P.READ_KEYS},
    ADMIN: frozenset(P),
}
"""Every role and what it allows."""


def permissions(roles: Iterable[str]) -> frozenset[P]:
    """Return what roles allow together.

    Raises:
        KeyError: There is no such role.
    """
    return frozenset().union(*(ROLES[role] for role in roles))


def client_problem(roles: Iterable[str], client_id: str | None) -> str:
    """Return why roles and the client that they are bound to do not go together, empty when they do.

    Whoever is bound to a client may ask about it alone; further roles would take that back unseen.
    """
    given = tuple(roles)
    if CLIENT not in given:
        return "" if client_id is None else f"only the role `{CLIENT}` is bound to a client"
    if len(set(given)) > 1:
        return f"the role `{CLIENT}` does not go together with others"
    return "" if client_id else f"the role `{CLIENT}` needs the id of the client that it is bound to"
