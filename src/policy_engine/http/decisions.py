"""The decision log: what was decided, for whom, from what, and why."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
from flask import Blueprint, Response, request

from policy_engine.http.bodies import access, invalid, json_response, service, whole_number
from policy_engine.identity.permission import Permission
from policy_engine.language.suggest import did_you_mean
from policy_engine.store.decisions import MAX_PAGE, DecisionQuery, LoggedDecision
from policy_engine.store.position import WRITER_BITS

decisions = Blueprint("decisions", __name__)

_PAGE = 100
_PARAMETERS = (
    "start_time",
    "end_time",
    "policy_type",
    "component",
    "client",
    "result",
    "policy_id",
    "cursor",
    "limit",
)
_END_OF_TIME = (1 << 63 - WRITER_BITS) - 1
"""What lies later than the last position there can be is that late."""

_RESULTS = {
    "allow": True,
    "allowed": True,
    "true": True,
    "1": True,
    "deny": False,
    "denied": False,
    "false": False,
    "0": False,
}


@decisions.get("/api/v1/decisions")
def list_decisions() -> Response:
    """Logged decisions, newest first; filters `start_time`, `end_time`, `policy_type`, `component`, `client`, `result`
    and `policy_id`; `cursor` goes on where a page ended, `limit` bounds it.
    """  # noqa: D205 - the summary becomes one line of the reference
    for name in request.args:
        if name not in _PARAMETERS:
            raise invalid(name, f"there is no parameter `{name[:40]}`", did_you_mean(name, _PARAMETERS))
    query = DecisionQuery(
        start=_moment("start_time"),
        end=_moment("end_time"),
        policy_type=request.args.get("policy_type") or None,
        component=request.args.get("component") or None,
        client=request.args.get("client") or None,
        allowed=_result(),
        policy_id=request.args.get("policy_id") or None,
    )
    if query.client is not None:
        access().require(request.environ, Permission.READ_CONTEXTS)
    limit = whole_number("limit", default=_PAGE, most=MAX_PAGE)
    try:
        page = service().store.decisions.page(query, limit=limit, cursor=request.args.get("cursor") or None)
    except ValueError as error:
        raise invalid("cursor", str(error)) from None
    shown = [_shown(item) for item in page.decisions]
    return json_response({"decisions": shown, "next_cursor": page.next_cursor})


@decisions.get("/api/v1/decisions/<decision_id>")
def get_decision(decision_id: str) -> Response:
    """One logged decision."""
    return json_response(_shown(service().store.decisions.get(decision_id)))


def _shown(logged: LoggedDecision) -> dict[str, Any]:
    """Return a decision as callers see it: flat, and what the request said only for those who may read that."""
    entry = logged.entry
    shown: dict[str, Any] = {"event_id": logged.event_id, **msgspec.structs.asdict(entry.decision)}
    del shown["explanation"]
    shown |= {"component": entry.component, "represents": entry.represents}
    if access().principal(request.environ).may(Permission.READ_CONTEXTS):
        shown |= {"client": entry.client, "context": entry.context, "facts": entry.facts, "source": entry.source}
    return shown


def _result() -> bool | None:
    given = request.args.get("result")
    if not given:
        return None
    if given.lower() not in _RESULTS:
        raise invalid("result", f"`{given[:20]}` is neither `allow` nor `deny`")
    return _RESULTS[given.lower()]


def _moment(name: str) -> int | None:
    """Return a time of the query, RFC 3339 or seconds since 1970, in microseconds."""
    given = request.args.get(name)
    if not given:
        return None
    try:
        moment = datetime.fromtimestamp(float(given), UTC) if _is_number(given) else datetime.fromisoformat(given)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=service().settings.zone)
        return min(max(0, int(moment.timestamp() * 1_000_000)), _END_OF_TIME)
    except (ValueError, OverflowError, OSError):
        raise invalid(
            name, f"`{given[:40]}` is neither a time such as 2026-01-01T12:00:00Z nor seconds since 1970"
        ) from None


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdigit()
