"""Events: what happened lately, page by page; the stream has a listener of its own."""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import urlsplit, urlunsplit

from flask import Blueprint, Response, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from policy_engine.http.bodies import access, json_response, service, whole_number
from policy_engine.http.cloudevents import BATCH_JSON, accepts_batch, encode_batch, page_headers
from policy_engine.http.event_types import read_event_types, visible
from policy_engine.http.problem import ProblemError
from policy_engine.http.stream import STREAM_PATH
from policy_engine.store.events import MAX_PAGE

events = Blueprint("events", __name__)


@events.get("/events")
def list_events() -> Response:
    """Events, oldest first; `since_event_id` goes on after one, `limit` bounds the page, `event_type` picks types."""
    limit, types = request.args.get("limit", ""), [*request.args.getlist("event_type"), *request.args.getlist("type")]
    page = service().events.page(
        since_event_id=request.args.get("since_event_id") or None,
        limit=whole_number("limit", default=MAX_PAGE, most=MAX_PAGE),
        event_types=visible(read_event_types(types), access().hidden_events(request.environ)),
    )
    if not accepts_batch(request.headers.get("Accept", "")):
        return json_response(page)
    again = {key: value for key, value in (("limit", limit), ("event_type", ",".join(types))) if value}
    headers = page_headers(page, request.path, again)
    return Response(encode_batch(page.events), headers=headers, content_type=BATCH_JSON)


@events.get(STREAM_PATH)
def redirect_to_stream() -> AnyResponse:
    """Events as they happen (Server-Sent Events): a redirect to `stream_port`, where they are streamed."""
    port = service().settings.stream_port
    if not port:
        raise ProblemError(HTTPStatus.NOT_FOUND, "this service streams no events: its `stream_port` is 0")
    here = urlsplit(request.url)
    host = here.hostname or ""
    there = here._replace(netloc=f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    return redirect(urlunsplit(there), HTTPStatus.TEMPORARY_REDIRECT)
