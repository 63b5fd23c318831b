"""Policies: read, write, validate."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec
from flask import Blueprint, Response, request, url_for

from policy_engine.http.bodies import json_body, service
from policy_engine.http.problem import JSON, ProblemError
from policy_engine.language.report import report_on
from policy_engine.model.policy import Policy
from policy_engine.service import policy_document

policies = Blueprint("policies", __name__)


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(value), status, headers, content_type=JSON)


def _listed() -> list[Policy]:
    wanted = request.args.get("type")
    return [policy for policy in service().policies.values() if wanted is None or policy.type == wanted]


@policies.get("/api/v1/policies")
def list_policies() -> Response:
    """All policies as an array; `type` picks those of one type."""
    return _json([policy_document(policy) for policy in _listed()])


@policies.get("/policies")
def map_policies() -> Response:
    """All policies as an object by id; `type` picks those of one type."""
    return _json({"policies": {policy.id: policy_document(policy) for policy in _listed()}})


@policies.get("/api/v1/policies/<policy_id>")
@policies.get("/policies/<policy_id>", endpoint="get_policy_short")
def get_policy(policy_id: str) -> Response:
    """One policy."""
    return _json(policy_document(service().policy(policy_id)))


@policies.post("/api/v1/policies")
@policies.post("/policies", endpoint="create_policy_short")
def create_policy() -> Response:
    """Create a policy from a flat body, or from the older `{type, data}`; an id is made where there is none."""
    policy = service().create(_unwrapped(json_body()))
    location = url_for("policies.get_policy", policy_id=policy.id)
    return _json(_changed(policy), HTTPStatus.CREATED, {"Location": location})


@policies.put("/api/v1/policies/<policy_id>")
def merge_policy(policy_id: str) -> Response:
    """Change top-level fields of a policy; those that are not sent stay, one that is sent as null is removed."""
    return _json(_changed(service().merge(policy_id, _unwrapped(json_body()))))


@policies.put("/policies/<policy_id>")
def replace_policy(policy_id: str) -> Response:
    """Put another policy in the place of one."""
    return _json(_changed(service().replace(policy_id, _unwrapped(json_body()))))


@policies.delete("/api/v1/policies/<policy_id>")
@policies.delete("/policies/<policy_id>", endpoint="delete_policy_short")
def delete_policy(policy_id: str) -> Response:
    """Delete a policy."""
    service().delete(policy_id)
    return _json({"success": True, "id": policy_id, "deleted": True, "policy_version": service().revision.version})


@policies.post("/api/v1/policies/<policy_id>/enable")
def enable_policy(policy_id: str) -> Response:
    """Enable a policy; it is no error when it is enabled."""
    return _json(_changed(service().enable(policy_id, enabled=True)))


@policies.post("/api/v1/policies/<policy_id>/disable")
def disable_policy(policy_id: str) -> Response:
    """Disable a policy; it is no error when it is disabled."""
    return _json(_changed(service().enable(policy_id, enabled=False)))


@policies.post("/api/v1/policies/validate")
def validate_policy() -> Response:
    """Validate a policy, or a whole policy file, and change nothing; `errors` has pointers, `issues` plain text."""
    body = json_body()
    candidate = body["policy_data"] if isinstance(body.get("policy_data"), dict) else _unwrapped(body)
    report = report_on(lambda: service().read(candidate))
    return _json(
        {
            "valid": report.valid,
            "issues": [str(item) for item in report.errors],
            "warnings": [str(item) for item in report.warnings],
            "errors": report.errors,
        }
    )


def _changed(policy: Policy) -> dict[str, Any]:
    return {
        "success": True,
        "id": policy.id,
        "policy_version": service().revision.version,
        "policy": policy_document(policy),
    }


def _unwrapped(body: dict[str, Any]) -> dict[str, Any]:
    """Return the policy in a body; the older shape `{type, data}` holds it in `data`."""
    data = body.get("data")
    if data is None:
        return body
    if not isinstance(data, dict) or not body.keys() <= {"id", "type", "data"}:
        raise ProblemError(
            HTTPStatus.BAD_REQUEST, "the older body is `{type, data}` with the policy, an object, in `data`"
        )
    around = {key: value for key, value in body.items() if key != "data"}
    for key, value in around.items():
        if key in data and data[key] != value:
            raise ProblemError(HTTPStatus.BAD_REQUEST, f"`{key}` and `data.{key}` have two values")
    return {**around, **data}
