"""The signed bundle: which one is active, and handing one in."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus

import msgspec
from flask import Blueprint, Response, request

from policy_engine.bundle_import import LastError
from policy_engine.http.bodies import cause, json_response, service
from policy_engine.http.front import read_body
from policy_engine.http.problem import JSON, ProblemError
from policy_engine.store.bundles import Accepted

bundle = Blueprint("bundle", __name__)


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """What `GET /api/v1/bundle` answers.

    Attributes:
        active: The bundle that was accepted last; null when none was.
        in_force: Whether its policies are those in force.
        source: Where bundles are pulled from; null when they are not.
        last_pull: When that was read last, by this process.
        last_error: Why the last pull brought nothing.
        trusted_keys: The ids of the keys that may sign.
        threshold: How many of them have to.
        require_signatures: Whether every other change of policies is refused.
    """

    active: Accepted | None
    in_force: bool
    source: str | None
    last_pull: datetime | None
    last_error: LastError | None
    name: str
    trusted_keys: list[str]
    threshold: int
    require_signatures: bool


@bundle.get("/api/v1/bundle")
def get_bundle() -> Response:
    """The signed bundle that was accepted last, whose signatures count, and how the last pull went."""
    of = service()
    active = of.bundles.active()
    trust = of.bundles.trust
    return json_response(
        Shown(
            active=active,
            in_force=active is not None and of.bundles.holds(active),
            source=of.settings.bundle_source or None,
            last_pull=of.bundles.last_pull,
            last_error=of.bundles.last_error,
            name=of.settings.bundle_name,
            trusted_keys=sorted(key.key_id for key in trust.keys),
            threshold=trust.threshold,
            require_signatures=of.settings.require_signatures,
        )
    )


@bundle.post("/api/v1/bundle")
def take_bundle() -> Response:
    """Bring a signed bundle into force, if it is to be believed; `X-Change-Reason` says why."""
    if request.mimetype != JSON:
        raise ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"send the bundle as `Content-Type: {JSON}`")
    content = read_body(request.environ, service().settings.max_body_bytes)
    active = service().bundles.take(content, cause=cause())
    return json_response({"success": True, "policy_version": service().revision.version, "bundle": active})
