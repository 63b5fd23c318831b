"""Events: what happened lately."""

from __future__ import annotations

from http import HTTPStatus

import msgspec
from flask import Blueprint, Response, request

from policy_engine.http.bodies import service
from policy_engine.http.problem import JSON, ProblemError
from policy_engine.language.suggest import did_you_mean
from policy_engine.model.diagnostic import Diagnostic
from policy_engine.model.event import EVENT_TYPES
from policy_engine.store.rings import MAX_PAGE

events = Blueprint("events", __name__)


@events.get("/events")
def list_events() -> Response:
    """Events, oldest first; `since_event_id` goes on after one, `limit` bounds the page, `event_type` picks types."""
    page = service().events.page(
        since_event_id=request.args.get("since_event_id") or None, limit=_limit(), event_types=_event_types()
    )
    return Response(msgspec.json.encode(page), content_type=JSON)


def _limit() -> int:
    given = request.args.get("limit", "") or str(MAX_PAGE)
    if not (given.isascii() and given.isdigit() and len(given) <= 9 and int(given) >= 1):  # noqa: PLR2004 - digits
        raise _invalid("limit", f"`{given[:20]}` is not a number from 1 on")
    return min(int(given), MAX_PAGE)


def _event_types() -> list[str]:
    given = [*request.args.getlist("event_type"), *request.args.getlist("type")]
    names = [name for part in given for name in part.split(",") if name]
    for name in names:
        if name not in EVENT_TYPES:
            raise _invalid("event_type", f"there is no event type `{name[:40]}`", did_you_mean(name, EVENT_TYPES))
    return names


def _invalid(name: str, detail: str, hint: str = "") -> ProblemError:
    place = Diagnostic(pointer=f"/{name}", detail=detail, hint=hint)
    return ProblemError(HTTPStatus.BAD_REQUEST, str(place), [place])
