"""The Flask app factory."""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import cast

import msgspec
from flask import Flask, Response, current_app, request
from werkzeug.exceptions import HTTPException

from policy_engine import __version__
from policy_engine.bundle.refusal import BundleError
from policy_engine.http.access import Access
from policy_engine.http.bodies import access as current_access
from policy_engine.http.bodies import service as current_service
from policy_engine.http.bundle import bundle
from policy_engine.http.check import CheckEndpoints
from policy_engine.http.cors import Cors
from policy_engine.http.decisions import decisions
from policy_engine.http.events import events
from policy_engine.http.freezes import freezes
from policy_engine.http.front import PLAIN, REQUEST_ID, RETRY, Application, Front, guarded, read_body, request_id
from policy_engine.http.functions import functions
from policy_engine.http.health import health
from policy_engine.http.keys import keys
from policy_engine.http.limits import WriteLimit
from policy_engine.http.openapi import describe
from policy_engine.http.permissions import PERMISSIONS, SLOW, WRITES
from policy_engine.http.policies import policies
from policy_engine.http.privacy import privacy
from policy_engine.http.problem import JSON, ProblemError, Reply, problem
from policy_engine.http.revisions import revisions
from policy_engine.http.slots import Slots
from policy_engine.http.trust import trust
from policy_engine.ids import uuid7
from policy_engine.model.errors import (
    BusyError,
    FunctionBusyError,
    FunctionExistsError,
    FunctionInUseError,
    InvalidPolicyError,
    InvalidRequestError,
    LateRoundError,
    MissingExtraError,
    PolicyEngineError,
    PolicyExistsError,
    PreconditionError,
    ReservationError,
    RoundConflictError,
    StateError,
    StoreUnavailableError,
    TooManyFreezesError,
    UnknownClientError,
    UnknownDecisionError,
    UnknownFreezeError,
    UnknownFunctionError,
    UnknownKeyError,
    UnknownOverrideError,
    UnknownPolicyError,
    UnknownReservationError,
    UnknownRevisionError,
    UnsignedChangeError,
)
from policy_engine.service import PolicyService

log = logging.getLogger(__name__)

BLUEPRINTS = (health, policies, functions, revisions, decisions, events, trust, privacy, bundle, freezes, keys)

AT_ONCE = frozenset({"freezes.set_freeze", "freezes.lift_freeze"})
"""Those of them that wait for no other change: an emergency."""

_STATUS: dict[type[PolicyEngineError], HTTPStatus] = {
    InvalidPolicyError: HTTPStatus.BAD_REQUEST,
    InvalidRequestError: HTTPStatus.BAD_REQUEST,
    UnknownPolicyError: HTTPStatus.NOT_FOUND,
    PolicyExistsError: HTTPStatus.CONFLICT,
    PreconditionError: HTTPStatus.PRECONDITION_FAILED,
    UnknownRevisionError: HTTPStatus.NOT_FOUND,
    UnknownDecisionError: HTTPStatus.NOT_FOUND,
    UnknownKeyError: HTTPStatus.NOT_FOUND,
    UnknownClientError: HTTPStatus.NOT_FOUND,
    UnknownOverrideError: HTTPStatus.NOT_FOUND,
    LateRoundError: HTTPStatus.CONFLICT,
    RoundConflictError: HTTPStatus.CONFLICT,
    ReservationError: HTTPStatus.CONFLICT,
    UnknownReservationError: HTTPStatus.NOT_FOUND,
    UnknownFreezeError: HTTPStatus.NOT_FOUND,
    TooManyFreezesError: HTTPStatus.CONFLICT,
    MissingExtraError: HTTPStatus.NOT_IMPLEMENTED,
    BundleError: HTTPStatus.UNPROCESSABLE_ENTITY,
    UnsignedChangeError: HTTPStatus.FORBIDDEN,
    UnknownFunctionError: HTTPStatus.NOT_FOUND,
    FunctionExistsError: HTTPStatus.CONFLICT,
    FunctionInUseError: HTTPStatus.CONFLICT,
    FunctionBusyError: HTTPStatus.SERVICE_UNAVAILABLE,
    BusyError: HTTPStatus.SERVICE_UNAVAILABLE,
    StateError: HTTPStatus.SERVICE_UNAVAILABLE,
}


def create_app(service: PolicyService, access: Access | None = None) -> Flask:
    """Return the WSGI app of a service; hot endpoints are answered in front of Flask, in tests too.

    Args:
        service: What is served.
        access: What tells who asks, where others need it too.
    """
    access = access or Access(service)
    app = Flask("policy_engine", static_folder=None)
    app.extensions["policy_service"] = service
    app.extensions["policy_access"] = access
    app.extensions["policy_writes"] = WriteLimit(service.settings.rate_limit_writes)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    endpoints = CheckEndpoints(service).routes
    for path, endpoint in endpoints.items():
        app.add_url_rule(path, path, _flask_view(endpoint), methods=["POST"])
    app.add_url_rule("/", "index", _index)
    app.add_url_rule("/openapi.json", "openapi", _openapi)
    app.before_request(_authorise)
    Slots(service.settings.threads, (WRITES - AT_ONCE) | SLOW).attach(app)
    app.after_request(_label)
    app.register_error_handler(Exception, _to_problem)
    behind = cast("Application", app.wsgi_app)
    front: Application = Front(behind, endpoints, service.settings.max_body_bytes, access.caller)
    origins = service.settings.cors_origins
    app.wsgi_app = Cors(front, origins) if origins else front  # type: ignore[method-assign, assignment]
    return app


def _flask_view(endpoint: Callable[..., Reply]) -> Callable[[], Response]:
    """Return the Flask view of a hot endpoint, for apps that are mounted without the callable in front."""

    def view() -> Response:
        body = read_body(request.environ, current_service().settings.max_body_bytes)
        caller = current_access().caller(request.environ)
        return _response(guarded(request.path, endpoint, body, request.args, request_id(request.environ), caller))

    view.__doc__ = endpoint.__doc__
    return view


def _index() -> Response:
    """Say what this is and where to go on."""
    links = {
        "health": "/health",
        "ready": "/readyz",
        "policies": "/api/v1/policies",
        "functions": "/api/v1/functions",
        "check": "/api/v1/check",
        "revisions": "/api/v1/revisions",
        "decisions": "/api/v1/decisions",
        "trust": "/api/v1/trust",
        "privacy": "/api/v1/privacy",
        "freezes": "/api/v1/freeze",
        "events": "/events",
        "bundle": "/api/v1/bundle",
        "whoami": "/api/v1/whoami",
        "openapi": "/openapi.json",
    }
    return Response(
        msgspec.json.encode({"name": "FLOPY-NET Policy Engine", "version": __version__, "links": links}),
        content_type=JSON,
    )


def _openapi() -> Response:
    """Every route with its parameters, bodies and answers, as an OpenAPI 3.1 document."""
    return Response(msgspec.json.encode(describe(current_app)), content_type=JSON)


def _authorise() -> None:
    access = current_access()
    is_write = request.endpoint in WRITES
    try:
        access.authorise(request.endpoint, request.environ, request.view_args or {})
    except ProblemError as error:
        if is_write:
            access.note_refusal(request.environ, f"{request.method} {request.path}", error.detail)
        raise
    if request.endpoint in PERMISSIONS and access.breaks_glass(request.environ):
        asked = access.cause(request.environ)
        source, action = access.source(request.environ) or "", f"{request.method} {request.path}"
        current_service().emergency.note_break_glass(
            author=asked.author, source=source, action=action, is_change=is_write
        )
    if is_write and request.endpoint not in AT_ONCE:
        writes: WriteLimit = current_app.extensions["policy_writes"]
        writes.count(access.counted_as(request.environ))


_PAGE_HEADERS = (
    PLAIN,
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
)
"""What an answer lets a browser do that takes it for a page, unless it is one and says otherwise: nothing."""


def _label(response: Response) -> Response:
    response.headers[REQUEST_ID] = request_id(request.environ) or uuid7()
    for name, value in _PAGE_HEADERS:
        response.headers.setdefault(name, value)
    return response


def _to_problem(error: Exception) -> Response:
    return _response(guarded(request.path, _explain, error))


def _explain(error: Exception) -> Reply:
    if isinstance(error, HTTPException):
        status = HTTPStatus(error.code or HTTPStatus.INTERNAL_SERVER_ERROR)
        allowed: list[tuple[str, str]] = []
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            allowed = [(key, value) for key, value in error.get_headers() if key == "Allow"]
        detail = _DETAILS.get(status, error.name.lower())
        return problem(status, detail, request.path)._replace(headers=tuple(allowed))
    for kind, status in _STATUS.items():
        if isinstance(error, kind):
            detail = _AWAY if isinstance(error, StoreUnavailableError) else str(error)
            reply = problem(status, detail, request.path, getattr(error, "errors", ()), getattr(error, "code", None))
            return reply._replace(headers=RETRY) if status == HTTPStatus.SERVICE_UNAVAILABLE else reply
    raise error


_AWAY = "the database is away: nothing was changed, unless it went away in the moment of the commit; try again"
_DETAILS = {
    HTTPStatus.NOT_FOUND: "there is nothing at this path",
    HTTPStatus.METHOD_NOT_ALLOWED: "this path does not take this method",
}


def _response(reply: Reply) -> Response:
    return Response(reply.body, reply.status, list(reply.headers), content_type=reply.content_type)
