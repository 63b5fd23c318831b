"""The types of events that somebody asks for."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus

from policy_engine.http.bodies import invalid
from policy_engine.http.problem import ProblemError
from policy_engine.identity.permission import Permission
from policy_engine.language.suggest import did_you_mean
from policy_engine.model.event import EVENT_TYPES


def read_event_types(given: Iterable[str]) -> frozenset[str]:
    """Return the types named in parameters, each of which may hold several with commas; none means all.

    Raises:
        ProblemError: There is no such type.
    """
    names = frozenset(name for part in given for name in part.split(",") if name)
    for name in sorted(names - EVENT_TYPES.keys()):
        raise invalid("event_type", f"there is no event type `{name[:40]}`", did_you_mean(name, EVENT_TYPES))
    return names


def visible(wanted: frozenset[str], hidden: frozenset[str]) -> frozenset[str]:
    """Return the types that somebody gets to see of those wanted (none means all), where some are hidden.

    Raises:
        ProblemError: One is hidden that is named.
    """
    if not hidden:
        return wanted
    for name in sorted(wanted & hidden):
        detail = f"events of the type `{name}` are for those who have the permission `{Permission.READ_KEYS}`"
        raise ProblemError(HTTPStatus.FORBIDDEN, detail)
    return wanted or frozenset(EVENT_TYPES) - hidden
