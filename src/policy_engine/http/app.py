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
from policy_engine.http.access import Access, authorise_write
from policy_engine.http.bodies import access as current_access
from policy_engine.http.bodies import service as current_service
from policy_engine.http.check import CheckEndpoints
from policy_engine.http.cors import Cors
from policy_engine.http.decisions import decisions
from policy_engine.http.events import events
from policy_engine.http.freezes import freezes
from policy_engine.http.front import PLAIN, REQUEST_ID, RETRY, Application, Front, guarded, read_body, request_id
from policy_engine.http.health import health
from policy_engine.http.limits import Limits
from policy_engine.http.openapi import describe
from policy_engine.http.policies import policies
from policy_engine.http.privacy import privacy
from policy_engine.http.problem import JSON, Reply, problem
from policy_engine.http.revisions import revisions
from policy_engine.http.slots import Slots
from policy_engine.http.trust import trust
from policy_engine.ids import uuid7
from policy_engine.model.errors import (
    BusyError,
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
    UnknownPolicyError,
    UnknownReservationError,
    UnknownRevisionError,
)
from policy_engine.service import PolicyService

log = logging.getLogger(__name__)

WRITES = frozenset(
    {
        "policies.create_policy",
        "policies.create_policy_short",
        "policies.merge_policy",
        "policies.replace_policy",
        "policies.delete_policy",
        "policies.delete_policy_short",
        "policies.enable_policy",
        "policies.disable_policy",
        "revisions.roll_back",
        "freezes.set_freeze",
        "freezes.lift_freeze",
        "trust.observe_round",
        "trust.report_violation",
        "trust.override_trust",
        "trust.release_override",
        "trust.quarantine_client",
        "trust.release_client",
        "trust.recalculate_trust",
        "privacy.reserve_privacy",
        "privacy.commit_privacy",
        "privacy.release_privacy",
    }
)
"""The endpoints that change something."""

AT_ONCE = frozenset({"freezes.set_freeze", "freezes.lift_freeze"})
"""Those of them that wait for no other change: an emergency."""

KEYED = frozenset({"decisions", "trust", "privacy"})
"""The blueprints that show more to those with a key, so that it could be guessed there too."""

_STATUS: dict[type[PolicyEngineError], HTTPStatus] = {
    InvalidPolicyError: HTTPStatus.BAD_REQUEST,
    InvalidRequestError: HTTPStatus.BAD_REQUEST,
    UnknownPolicyError: HTTPStatus.NOT_FOUND,
    PolicyExistsError: HTTPStatus.CONFLICT,
    PreconditionError: HTTPStatus.PRECONDITION_FAILED,
    UnknownRevisionError: HTTPStatus.NOT_FOUND,
    UnknownDecisionError: HTTPStatus.NOT_FOUND,
    UnknownClientError: HTTPStatus.NOT_FOUND,
    LateRoundError: HTTPStatus.CONFLICT,
    RoundConflictError: HTTPStatus.CONFLICT,
    ReservationError: HTTPStatus.CONFLICT,
    UnknownReservationError: HTTPStatus.NOT_FOUND,
    UnknownFreezeError: HTTPStatus.NOT_FOUND,
    TooManyFreezesError: HTTPStatus.CONFLICT,
    MissingExtraError: HTTPStatus.NOT_IMPLEMENTED,
    BusyError: HTTPStatus.SERVICE_UNAVAILABLE,
    StateError: HTTPStatus.SERVICE_UNAVAILABLE,
}


def create_app(service: PolicyService) -> Flask:
    """Return the WSGI app of a service; hot endpoints are answered in front of Flask, in tests too."""
    app = Flask("policy_engine", static_folder=None)
    app.extensions["policy_service"] = service
    access = app.extensions["policy_access"] = Access(service.settings.admin_key)
    app.extensions["policy_limits"] = Limits(service.settings, access)
    for blueprint in (health, policies, revisions, decisions, events, trust, privacy, freezes):
        app.register_blueprint(blueprint)
    endpoints = CheckEndpoints(service).routes
    for path, endpoint in endpoints.items():
        app.add_url_rule(path, path, _flask_view(endpoint), methods=["POST"])
    app.add_url_rule("/", "index", _index)
    app.add_url_rule("/openapi.json", "openapi", _openapi)
    app.before_request(_authorise)
    Slots(service.settings.threads, WRITES - AT_ONCE).attach(app)
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
        "check": "/api/v1/check",
        "revisions": "/api/v1/revisions",
        "decisions": "/api/v1/decisions",
        "trust": "/api/v1/trust",
        "privacy": "/api/v1/privacy",
        "freezes": "/api/v1/freeze",
        "events": "/events",
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
    limits: Limits = current_app.extensions["policy_limits"]
    is_write = request.endpoint in WRITES
    if is_write or request.blueprint in KEYED:
        limits.count_login(request.environ)
    if is_write:
        authorise_write(request.environ, current_service().settings.admin_key)
        if request.endpoint not in AT_ONCE:
            limits.count_write(request.environ)


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
