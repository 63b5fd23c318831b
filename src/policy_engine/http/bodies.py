"""Bodies of requests that Flask serves."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from flask import Response, current_app, request

from policy_engine.activation import Cause
from policy_engine.http.access import MAX_DIGITS, Access
from policy_engine.http.front import read_body
from policy_engine.http.problem import JSON, ProblemError
from policy_engine.identity.permission import Permission
from policy_engine.language import json_text
from policy_engine.model.diagnostic import Diagnostic
from policy_engine.model.errors import InvalidPolicyError
from policy_engine.service import PolicyService

MAX_VALIDATION_BYTES = 256 * 1024
"""How much of policies or functions those may have validated who may not write any."""


def service() -> PolicyService:
    """Return the service behind the running app."""
    found: PolicyService = current_app.extensions["policy_service"]
    return found


def access() -> Access:
    """Return what tells who asks."""
    found: Access = current_app.extensions["policy_access"]
    return found


def cause() -> Cause:
    """Return who asks for a change, and why."""
    return access().cause(request.environ)


def validation_limit() -> int:
    """Return how large a body may be that is only to be validated: that takes time, and strangers may ask for it."""
    most = service().settings.max_body_bytes
    is_author = access().principal(request.environ).may(Permission.WRITE_POLICIES)
    return most if is_author else min(most, MAX_VALIDATION_BYTES)


def whole_number(name: str, *, default: int, least: int = 1, most: int) -> int:
    """Return a number of the query; one above the most counts as that.

    Raises:
        ProblemError: It is not a number from the least on.
    """
    given = request.args.get(name, "") or str(default)
    if not (given.isascii() and given.isdigit() and len(given) <= MAX_DIGITS and int(given) >= least):
        raise invalid(name, f"`{given[:20]}` is not a number from {least} on")
    return min(int(given), most)


def invalid(name: str, detail: str, hint: str = "") -> ProblemError:
    """Return the problem that a parameter of the query is."""
    place = Diagnostic(pointer=f"/{name}", detail=detail, hint=hint)
    return ProblemError(HTTPStatus.BAD_REQUEST, str(place), [place])


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a value as JSON."""
    return Response(msgspec.json.encode(value), status, headers, content_type=JSON)


def json_body(limit: int | None = None) -> dict[str, Any]:
    """Return the JSON object that the request brings.

    Args:
        limit: How many bytes it may have; `max_body_bytes` by default.

    Raises:
        ProblemError: It brings something else.
    """
    if request.mimetype != JSON:
        raise ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"send the body as `Content-Type: {JSON}`")
    content = read_body(request.environ, limit or service().settings.max_body_bytes)
    try:
        value = json_text.parse(content)
    except InvalidPolicyError as error:
        raise ProblemError(HTTPStatus.BAD_REQUEST, str(error), error.errors) from None
    if not isinstance(value, dict):
        raise ProblemError(HTTPStatus.BAD_REQUEST, "the body has to be a JSON object")
    return value
