"""Emergency stops: set, listed and lifted."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from flask import Blueprint, Response, request

from policy_engine.http.bodies import cause, json_response, service
from policy_engine.http.front import read_body
from policy_engine.http.problem import JSON, ProblemError, decoding_problem
from policy_engine.model.diagnostic import Diagnostic
from policy_engine.model.freeze import Freeze
from policy_engine.trust.observation import FederationName

freezes = Blueprint("freezes", __name__)

_MAX_TTL_SECONDS = 366 * 24 * 3600.0
_PolicyId = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


class FreezeRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body that stops something.

    Attributes:
        scope: `all`, or the federation that is stopped.
        reason: What callers are told.
        expires_at: When it ends by itself; `ttl_seconds` says the same as a time from now.
        policies: Which policies stay in force.
    """

    scope: FederationName
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
    expires_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    ttl_seconds: Annotated[float, msgspec.Meta(gt=0, le=_MAX_TTL_SECONDS)] | None = None
    policies: Annotated[tuple[_PolicyId, ...], msgspec.Meta(max_length=1000)] = ()

    def __post_init__(self) -> None:
        """Check that it does not say twice when it ends.

        Raises:
            ValueError: It does.
        """
        if self.expires_at is not None and self.ttl_seconds is not None:
            raise ValueError("either `expires_at` or `ttl_seconds` may be given")

    @property
    def expires(self) -> float | None:
        """When it ends by itself, in seconds since 1970."""
        if self.ttl_seconds is not None:
            return datetime.now(UTC).timestamp() + self.ttl_seconds
        return None if self.expires_at is None else self.expires_at.timestamp()


@freezes.post("/api/v1/freeze")
def set_freeze() -> Response:
    """Stop a federation, or everything: checks are denied until that is lifted or a time has come."""
    if request.mimetype != JSON:
        raise ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"send the body as `Content-Type: {JSON}`")
    try:
        asked = _decode(read_body(request.environ, service().settings.max_body_bytes))
    except msgspec.DecodeError as error:
        raise decoding_problem(error) from None
    if asked.expires is not None and asked.expires > time.time() + _MAX_TTL_SECONDS + 1:
        place = Diagnostic(pointer="/expires_at", detail="it is more than a year from now: leave it out, and lift it")
        raise ProblemError(HTTPStatus.BAD_REQUEST, str(place), [place])
    made = service().emergency.freeze(
        asked.scope, reason=asked.reason, author=cause().author, expires=asked.expires, policies=asked.policies
    )
    return json_response(_shown(made), HTTPStatus.CREATED)


_decode = msgspec.json.Decoder(FreezeRequest).decode


@freezes.get("/api/v1/freeze")
def list_freezes() -> Response:
    """What is stopped at the moment, and why."""
    found = service().emergency.all()
    return json_response({"frozen": bool(found), "freezes": [_shown(each) for each in found]})


@freezes.delete("/api/v1/freeze/<freeze_id>")
def lift_freeze(freeze_id: str) -> Response:
    """Go on: lift a stop before its time; `X-Change-Reason` says why."""
    why = cause()
    if not why.reason:
        raise ProblemError(HTTPStatus.BAD_REQUEST, "say in the header `X-Change-Reason` why it is lifted")
    return json_response(_shown(service().emergency.lift(freeze_id, author=why.author, reason=why.reason)))


def _shown(freeze: Freeze) -> dict[str, Any]:
    return {
        "freeze_id": freeze.freeze_id,
        "scope": freeze.scope,
        "reason": freeze.reason,
        "author": freeze.author,
        "since": datetime.fromtimestamp(freeze.at, UTC),
        "expires_at": None if freeze.expires is None else datetime.fromtimestamp(freeze.expires, UTC),
        "policies": freeze.policies,
    }
