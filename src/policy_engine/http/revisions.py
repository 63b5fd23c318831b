"""Revisions: what the policies were, what changed between, and going back."""

from __future__ import annotations

from typing import Any

import msgspec
from flask import Blueprint, Response, url_for

from policy_engine.http.bodies import cause, json_response, service, whole_number
from policy_engine.http.conditional import conditional, expected
from policy_engine.model.errors import UnknownPolicyError
from policy_engine.pap import revision_tag
from policy_engine.store.revisions import POLICY, Revision

revisions = Blueprint("revisions", __name__)

MAX_PAGE = 1000
_PAGE = 100
_NO_NUMBER = 1 << 53


@revisions.get("/api/v1/revisions")
def list_revisions() -> Response:
    """Revisions, newest first; `before` goes on below a number, `limit` bounds the page."""
    limit = whole_number("limit", default=_PAGE, most=MAX_PAGE)
    before = whole_number("before", default=_NO_NUMBER, most=_NO_NUMBER)
    found = service().store.revisions.newest(before=before, limit=limit)
    return json_response({"revisions": [_summary(revision) for revision in found], "next_before": _next(found, limit)})


@revisions.get("/api/v1/revisions/<int:number>")
def get_revision(number: int) -> Response:
    """One revision with all policies, types and functions that it held."""
    revision = service().store.revisions.get(number)
    _, documents = service().store.revisions.documents(number)
    tag = revision_tag(revision.number, revision.digest)
    return conditional(json_response({**_summary(revision), **documents._asdict()}, headers={"ETag": f'"{tag}"'}))


@revisions.get("/api/v1/revisions/<int:number>/diff/<int:other>")
def diff_revisions(number: int, other: int) -> Response:
    """What has to change in one revision to get another one: each policy and type before and after."""
    return json_response({"from": number, "to": other, "changes": service().administration.difference(number, other)})


@revisions.post("/api/v1/revisions/<int:number>/rollback")
def roll_back(number: int) -> Response:
    """Make a new revision that holds what an older one held, unless another one is in force than `If-Match` names."""
    asked = msgspec.structs.replace(cause(), source="rollback")
    version = service().administration.roll_back(number, expected=expected(is_optional=True), cause=asked)
    answer = {"success": True, "rolled_back_to": number, "policy_version": version}
    return json_response(answer, headers={"Location": url_for("revisions.get_revision", number=version)})


@revisions.get("/api/v1/policies/<policy_id>/history")
def list_history(policy_id: str) -> Response:
    """The revisions that changed a policy, newest first, with the policy as it was then; a deleted policy's too."""
    limit = whole_number("limit", default=_PAGE, most=MAX_PAGE)
    before = whole_number("before", default=_NO_NUMBER, most=_NO_NUMBER)
    if "\0" in policy_id:  # PostgreSQL does not take it
        raise UnknownPolicyError(policy_id)
    found = service().store.revisions.of_policy(policy_id, before=before, limit=limit)
    if not found and before == _NO_NUMBER:
        service().administration.policy(policy_id)
    history = [_entry(policy_id, revision, document) for revision, document in found]
    return json_response(
        {"policy_id": policy_id, "history": history, "next_before": _next([item[0] for item in found], limit)}
    )


def _summary(revision: Revision) -> dict[str, Any]:
    return {name: getattr(revision, name) for name in revision.__struct_fields__}


def _entry(policy_id: str, revision: Revision, document: dict[str, Any] | None) -> dict[str, Any]:
    actions = [part.action for part in revision.parts if part.kind == POLICY and part.name == policy_id]
    summary = {key: value for key, value in _summary(revision).items() if key != "parts"}
    return {**summary, "action": actions[0] if actions else "updated", "policy": document}


def _next(found: list[Revision], limit: int) -> int | None:
    return found[-1].number if len(found) == limit else None
