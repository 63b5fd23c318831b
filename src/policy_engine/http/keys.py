"""API keys: make, list, change, revoke; and who is asking."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any, TypeVar

import msgspec
from flask import Blueprint, Response, request, url_for

from policy_engine.http.bodies import access, cause, json_response, service
from policy_engine.http.front import read_body
from policy_engine.http.problem import JSON, ProblemError, decoding_problem
from policy_engine.identity.principal import MAX_NAME
from policy_engine.identity.role import ROLES, client_problem
from policy_engine.language.suggest import did_you_mean
from policy_engine.model.diagnostic import Diagnostic
from policy_engine.model.errors import UnknownKeyError
from policy_engine.store.api_keys import ApiKey, described

keys = Blueprint("keys", __name__)

T = TypeVar("T")
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME)]
Roles = Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=len(ROLES))]
ClientId = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class NewKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body that asks for a key; `expires_at` is in seconds since 1970."""

    name: Name
    roles: Roles
    client_id: ClientId | None = None
    expires_at: float | None = None


class ChangedKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body that changes a key: what it leaves out stays."""

    name: Name | msgspec.UnsetType = msgspec.UNSET
    roles: Roles | msgspec.UnsetType = msgspec.UNSET
    expires_at: float | msgspec.UnsetType | None = msgspec.UNSET


@keys.get("/api/v1/whoami")
def whoami() -> Response:
    """Who is asking, how that was found out, and what it allows."""
    principal = access().principal(request.environ)
    return json_response(
        {
            "name": principal.name,
            "method": principal.method,
            "roles": principal.roles,
            "permissions": sorted(principal.permissions),
            "client_id": principal.client_id,
            "key_id": principal.key_id,
            "expires_at": principal.expires_at,
        }
    )


@keys.get("/api/v1/keys")
def list_keys() -> Response:
    """All keys, revoked ones too, without their secrets."""
    return json_response({"keys": [_shown(key) for key in service().keys.all()]})


@keys.get("/api/v1/keys/<key_id>")
def get_key(key_id: str) -> Response:
    """One key, without its secret."""
    return json_response(_shown(_found(key_id)))


@keys.post("/api/v1/keys")
def create_key() -> Response:
    """Make a key; `key` in the answer is the only time that it is shown."""
    asked = _body(NewKey)
    _check(asked.name, asked.roles, asked.client_id, asked.expires_at)
    key, text = service().keys.create(
        asked.name,
        tuple(dict.fromkeys(asked.roles)),
        author=cause().author,
        client_id=asked.client_id,
        expires_at=asked.expires_at,
    )
    headers = {"Location": url_for("keys.get_key", key_id=key.key_id), "Cache-Control": "no-store"}
    return json_response({**_shown(key), "key": text}, HTTPStatus.CREATED, headers)


@keys.patch("/api/v1/keys/<key_id>")
def change_key(key_id: str) -> Response:
    """Change the name, the roles or the end of a key."""
    asked = _body(ChangedKey)
    changes: dict[str, Any] = {
        name: value for name, value in msgspec.structs.asdict(asked).items() if value is not msgspec.UNSET
    }
    before = _found(key_id)
    if "roles" in changes:
        changes["roles"] = tuple(dict.fromkeys(changes["roles"]))
    after = msgspec.structs.replace(before, **changes)
    _check(after.name, after.roles, after.client_id, changes.get("expires_at"))
    return json_response(_shown(service().keys.change(key_id, changes, author=cause().author)))


@keys.delete("/api/v1/keys/<key_id>")
def revoke_key(key_id: str) -> Response:
    """Make a key invalid for good."""
    return json_response(_shown(service().keys.revoke(key_id, author=cause().author)))


def _found(key_id: str) -> ApiKey:
    found = next((key for key in service().keys.all() if key.key_id == key_id), None)
    if found is None:
        raise UnknownKeyError(key_id)
    return found


def _shown(key: ApiKey) -> dict[str, Any]:
    times = {"created_at": key.created_at, "last_used_at": key.last_used_at, "revoked_at": key.revoked_at}
    return {**described(key), "author": key.author, **times}


def _body(kind: type[T]) -> T:
    if request.mimetype != JSON:
        raise ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"send the body as `Content-Type: {JSON}`")
    try:
        return msgspec.json.decode(read_body(request.environ, service().settings.max_body_bytes), type=kind)
    except msgspec.DecodeError as error:
        raise decoding_problem(error) from None


_LATEST = datetime(9999, 12, 31, tzinfo=UTC).timestamp()


def _check(name: str, roles: tuple[str, ...], client_id: str | None, expires_at: float | None) -> None:
    for number, role in enumerate(roles):
        if role not in ROLES:
            raise _wrong(f"/roles/{number}", f"`{role[:40]}` is not a role", did_you_mean(role, ROLES))
    problem = client_problem(roles, client_id)
    if problem:
        raise _wrong("/client_id", problem)
    if not (name.strip() and name.isprintable()):
        raise _wrong("/name", "it has to have printable characters alone")
    if client_id is not None and not client_id.isprintable():
        raise _wrong("/client_id", "it has to have printable characters alone")
    if expires_at is not None and expires_at <= time.time():
        raise _wrong("/expires_at", "it is not in the future")
    if expires_at is not None and expires_at > _LATEST:
        raise _wrong("/expires_at", "it is after the year 9999; are these milliseconds?")


def _wrong(pointer: str, detail: str, hint: str = "") -> ProblemError:
    place = Diagnostic(pointer=pointer, detail=detail, hint=hint)
    return ProblemError(HTTPStatus.BAD_REQUEST, str(place), [place])
