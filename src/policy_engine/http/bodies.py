"""Bodies of requests that Flask serves."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from flask import current_app, request

from policy_engine.http.front import read_body
from policy_engine.http.problem import JSON, ProblemError
from policy_engine.language import json_text
from policy_engine.model.errors import InvalidPolicyError
from policy_engine.service import PolicyService


def service() -> PolicyService:
    """Return the service behind the running app."""
    found: PolicyService = current_app.extensions["policy_service"]
    return found


def json_body() -> dict[str, Any]:
    """Return the JSON object that the request brings.

    Raises:
        ProblemError: It brings something else.
    """
    if request.mimetype != JSON:
        raise ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"send the body as `Content-Type: {JSON}`")
    content = read_body(request.environ, service().settings.max_body_bytes)
    try:
        value = json_text.parse(content)
    except InvalidPolicyError as error:
        raise ProblemError(HTTPStatus.BAD_REQUEST, str(error), error.errors) from None
    if not isinstance(value, dict):
        raise ProblemError(HTTPStatus.BAD_REQUEST, "the body has to be a JSON object")
    return value
