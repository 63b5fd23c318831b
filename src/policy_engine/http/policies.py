"""Policies: read, write, validate."""

from __future__ import annotations

from http import HTTPStatus
from operator import attrgetter
from typing import Any

from flask import Blueprint, Response, request, url_for

from policy_engine.http.bodies import cause, json_body, json_response, service, validation_limit
from policy_engine.http.conditional import conditional, expect_nothing, expected
from policy_engine.http.problem import ProblemError
from policy_engine.language.report import report_on
from policy_engine.model.policy import Policy
from policy_engine.pap import entity_tag, policy_document

policies = Blueprint("policies", __name__)


def _listed() -> list[Policy]:
    """Return the policies that were asked for, by id: every process of a store lists them alike."""
    wanted = request.args.get("type")
    listed = [policy for policy in service().policies.values() if wanted is None or policy.type == wanted]
    return sorted(listed, key=attrgetter("id"))


@policies.get("/api/v1/policies")
def list_policies() -> Response:
    """All policies as an array; `type` picks those of one type."""
    return conditional(json_response([policy_document(policy) for policy in _listed()]))


@policies.get("/policies")
def map_policies() -> Response:
    """All policies as an object by id; `type` picks those of one type."""
    return conditional(json_response({"policies": {policy.id: policy_document(policy) for policy in _listed()}}))


@policies.get("/api/v1/policies/<policy_id>")
@policies.get("/policies/<policy_id>", endpoint="get_policy_short")
def get_policy(policy_id: str) -> Response:
    """One policy."""
    return conditional(_shown(service().administration.policy(policy_id)))


@policies.post("/api/v1/policies")
@policies.post("/policies", endpoint="create_policy_short")
def create_policy() -> Response:
    """Create a policy from a flat body, or from the older `{type, data}`; an id is made where there is none."""
    expect_nothing()
    policy = service().administration.create(_unwrapped(json_body()), cause=cause())
    location = url_for("policies.get_policy", policy_id=policy.id)
    return json_response(
        _changed(policy), HTTPStatus.CREATED, {"Location": location, "ETag": f'"{entity_tag(policy)}"'}
    )


@policies.put("/api/v1/policies/<policy_id>")
def merge_policy(policy_id: str) -> Response:
    """Change top-level fields of a policy; those that are not sent stay, one that is sent as null is removed."""
    return _answer(
        service().administration.merge(policy_id, _unwrapped(json_body()), expected=expected(), cause=cause())
    )


@policies.put("/policies/<policy_id>")
def replace_policy(policy_id: str) -> Response:
    """Put another policy in the place of one."""
    return _answer(
        service().administration.replace(policy_id, _unwrapped(json_body()), expected=expected(), cause=cause())
    )


@policies.delete("/api/v1/policies/<policy_id>")
@policies.delete("/policies/<policy_id>", endpoint="delete_policy_short")
def delete_policy(policy_id: str) -> Response:
    """Delete a policy."""
    service().administration.delete(policy_id, expected=expected(), cause=cause())
    return json_response(
        {"success": True, "id": policy_id, "deleted": True, "policy_version": service().revision.version}
    )


@policies.post("/api/v1/policies/<policy_id>/enable")
def enable_policy(policy_id: str) -> Response:
    """Enable a policy; it is no error when it is enabled."""
    return _answer(service().administration.enable(policy_id, enabled=True, expected=expected(), cause=cause()))


@policies.post("/api/v1/policies/<policy_id>/disable")
def disable_policy(policy_id: str) -> Response:
    """Disable a policy; it is no error when it is disabled."""
    return _answer(service().administration.enable(policy_id, enabled=False, expected=expected(), cause=cause()))


@policies.post("/api/v1/policies/validate")
def validate_policy() -> Response:
    """Validate a policy, or a whole policy file, and change nothing; `errors` has pointers, `issues` plain text."""
    body = json_body(validation_limit())
    candidate = body["policy_data"] if isinstance(body.get("policy_data"), dict) else _unwrapped(body)
    report = report_on(lambda: service().administration.read(candidate))
    return json_response(
        {
            "valid": report.valid,
            "issues": [str(item) for item in report.errors],
            "warnings": [str(item) for item in report.warnings],
            "errors": report.errors,
        }
    )


def _answer(policy: Policy) -> Response:
    return json_response(_changed(policy), headers={"ETag": f'"{entity_tag(policy)}"'})


def _shown(policy: Policy) -> Response:
    return json_response(policy_document(policy), headers={"ETag": f'"{entity_tag(policy)}"'})


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
