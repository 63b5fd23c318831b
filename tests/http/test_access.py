"""Who may change something without roles of their own: trusted networks, and whoever has the admin key."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
from flask.testing import FlaskClient
from tests.bundle.making import present, public_key
from tests.conftest import Services
from tests.http.shapes import problem

from policy_engine.http.app import create_app
from policy_engine.http.permissions import WRITES
from policy_engine.model.event import Event
from policy_engine.service import PolicyService

KEY = "an admin key \u00e9"
POLICY = {"type": "network_security", "rules": [{"action": "allow", "match": {"protocol": "udp"}}]}
ROUND = {"federation": "default", "round": 1, "clients": [{"client_id": "c", "norm": 1.0, "cos_ref": 0.5}]}
SPEND = {"noise_multiplier": 1.0, "sampling_rate": 0.1, "steps": 1, "noise": "server"}
RESERVE = {**SPEND, "client_id": "c", "round": 1}
VIOLATION = {"client_id": "c", "policy_id": "night", "rule_index": 0}

CODE = "def judge(context): return {'allowed': True}"
REQUESTS: dict[str, tuple[str, str, Any]] = {
    "policies.create_policy": ("POST", "/api/v1/policies", POLICY),
    "policies.create_policy_short": ("POST", "/policies", POLICY),
    "policies.merge_policy": ("PUT", "/api/v1/policies/web", {"priority": 3}),
    "policies.replace_policy": ("PUT", "/policies/web", POLICY),
    "policies.delete_policy": ("DELETE", "/api/v1/policies/web", None),
    "policies.delete_policy_short": ("DELETE", "/policies/web", None),
    "policies.enable_policy": ("POST", "/api/v1/policies/web/enable", None),
    "policies.disable_policy": ("POST", "/api/v1/policies/web/disable", None),
    "functions.create_function": ("POST", "/api/v1/functions", {"id": "new", "code": CODE}),
    "functions.merge_function": ("PUT", "/api/v1/functions/judge", {"description": "d"}),
    "functions.delete_function": ("DELETE", "/api/v1/functions/judge", None),
    "functions.run_function": ("POST", "/api/v1/functions/test", {"code": CODE, "context": {}}),
    "revisions.roll_back": ("POST", "/api/v1/revisions/2/rollback", None),
    "freezes.set_freeze": ("POST", "/api/v1/freeze", {"scope": "f", "reason": "r"}),
    "freezes.lift_freeze": ("DELETE", "/api/v1/freeze/made", None),
    "trust.observe_round": ("POST", "/api/v1/trust/observations", ROUND),
    "trust.report_violation": ("POST", "/api/v1/trust/violations", VIOLATION),
    "trust.override_trust": ("PUT", "/api/v1/trust/clients/c/override", {"trust_score": 0.5, "reason": "r"}),
    "trust.release_override": ("DELETE", "/api/v1/trust/clients/c/override", None),
    "trust.quarantine_client": ("PUT", "/api/v1/trust/clients/c/quarantine", {"reason": "r"}),
    "trust.release_client": ("DELETE", "/api/v1/trust/clients/c/quarantine", None),
    "privacy.reserve_privacy": ("POST", "/api/v1/privacy/reserve", RESERVE),
    "privacy.commit_privacy": ("POST", "/api/v1/privacy/commit", {"reservation_id": "made"}),
    "privacy.release_privacy": ("POST", "/api/v1/privacy/release", {"reservation_id": "held"}),
    "trust.recalculate_trust": ("POST", "/api/v1/trust/recalculate", None),
    "bundle.take_bundle": ("POST", "/api/v1/bundle", present()),
    "keys.create_key": ("POST", "/api/v1/keys", {"name": "ann", "roles": ["viewer"]}),
    "keys.change_key": ("PATCH", "/api/v1/keys/nope", {"name": "bob"}),
    "keys.revoke_key": ("DELETE", "/api/v1/keys/nope", None),
}


LOOKED = {"freezes.lift_freeze": {400}} | {
    name: {404} for name in ("privacy.commit_privacy", "privacy.release_privacy", "keys.change_key", "keys.revoke_key")
}
"""Answers to who was let through and asks for what is not there."""


class Caller(NamedTuple):
    address: str
    headers: dict[str, str]
    status: int | None


OWN = {"Host": "127.0.0.1:5000"}
CALLERS = {
    "this machine": Caller("127.0.0.1", {}, None),
    "this machine, all of its net": Caller("127.8.9.10", OWN, None),
    "this machine over IPv6": Caller("::1", {"Host": "[::1]:5000"}, None),
    "this machine, mapped": Caller("::ffff:127.0.0.1", OWN, None),
    "its own page": Caller("127.0.0.1", {**OWN, "Origin": "http://127.0.0.1:5000"}, None),
    "a page of another port": Caller("127.0.0.1", {**OWN, "Origin": "http://127.0.0.1:3000"}, 403),
    "a hostile page": Caller("127.0.0.1", {**OWN, "Origin": "https://evil.example"}, 403),
    "a page without an origin": Caller("127.0.0.1", {**OWN, "Origin": "null"}, 403),
    "a name that is none": Caller("127.0.0.1", {"Host": "["}, 403),
    "a page of an origin that is none": Caller("127.0.0.1", {**OWN, "Origin": "http://["}, 403),
    "a name that was rebound": Caller("127.0.0.1", {"Host": "evil.example:5000"}, 403),
    "a name that was rebound, same origin": Caller(
        "127.0.0.1", {"Host": "evil.example", "Origin": "http://evil.example"}, 403
    ),
    "a name that looks local": Caller("127.0.0.1", {"Host": "localhost.evil.example"}, 403),
    "another machine": Caller("10.0.0.7", {}, 401),
    "another machine, a local name": Caller("10.0.0.7", {"Host": "localhost"}, 401),
    "another machine over IPv6": Caller("2001:db8::1", {}, 401),
    "another machine, mapped": Caller("::ffff:10.0.0.7", {}, 401),
    "another machine that says it is a proxy": Caller("10.0.0.7", {"X-Forwarded-For": "127.0.0.1"}, 401),
    "a proxy on this machine": Caller("127.0.0.1", {"X-Forwarded-For": "10.0.0.7"}, 401),
    "a proxy on this machine, by the standard": Caller("127.0.0.1", {"Forwarded": "for=10.0.0.7"}, 401),
    "a proxy on this machine with the key": Caller("127.0.0.1", {"Via": "1.1 proxy", "X-API-Key": KEY}, None),
    "no address": Caller("", {}, 401),
    "a socket": Caller("unix:", {}, 401),
    "another machine with the key": Caller("10.0.0.7", {"X-API-Key": KEY}, None),
    "another machine with the key as a bearer": Caller("10.0.0.7", {"Authorization": f"Bearer {KEY}"}, None),
    "a hostile page with the key": Caller("127.0.0.1", {"Origin": "https://evil.example", "X-API-Key": KEY}, None),
    "a wrong key": Caller("10.0.0.7", {"X-API-Key": KEY + "x"}, 401),
    "a wrong bearer": Caller("10.0.0.7", {"Authorization": "Bearer x"}, 401),
    "an empty key": Caller("10.0.0.7", {"X-API-Key": ""}, 401),
    "an empty bearer": Caller("10.0.0.7", {"Authorization": "Bearer "}, 401),
    "another scheme": Caller("10.0.0.7", {"Authorization": f"Basic {KEY}"}, 401),
    "a wrong key from here": Caller("127.0.0.1", {"X-API-Key": "x"}, 401),
    "a wrong bearer beside the key": Caller("10.0.0.7", {"Authorization": "Bearer x", "X-API-Key": KEY}, 401),
}


@pytest.fixture
def keyed(services: Services, tmp_path: Path) -> PolicyService:
    # The test client hands headers on as latin-1, as WSGI wants it
    return services(admin_key=KEY, bundle_keys=(public_key(tmp_path),))


def send(client: FlaskClient, endpoint: str, caller: Caller) -> Any:
    method, path, body = REQUESTS[endpoint]
    sent: Any = {"data": body, "content_type": "application/json"} if isinstance(body, bytes) else {"json": body}
    return client.open(
        path, method=method, headers=caller.headers, environ_base={"REMOTE_ADDR": caller.address}, **sent
    )


def decide(service: PolicyService) -> None:
    """Decide about a client, so that there is something to take back."""
    trust = service.engine.trust
    service.functions.create({"id": "judge", "code": CODE})
    trust.override("c", kind="trust", trust=0.5, author="ann", reason="why")
    trust.override("c", kind="quarantine", author="ann", reason="why")


def happened(service: PolicyService) -> list[Event]:
    """Everything that happened but for logins that failed."""
    return [
        event for event in service.events.page().events if event.event_type not in {"LOGIN_FAILED", "CHANGE_REFUSED"}
    ]


def test_every_write_is_here() -> None:
    assert REQUESTS.keys() == WRITES


@pytest.mark.parametrize("endpoint", REQUESTS)
@pytest.mark.parametrize("about", CALLERS)
def test_caller(keyed: PolicyService, endpoint: str, about: str) -> None:
    client = create_app(keyed).test_client()
    caller = CALLERS[about]
    decide(keyed)
    before = keyed.revision, happened(keyed)
    response = send(client, endpoint, caller)
    if caller.status is None:
        assert response.status_code in {200, 201, 202} | LOOKED.get(endpoint, set()), response.text
    else:
        document = problem(response, caller.status)
        assert KEY not in response.text
        assert document["detail"]
        assert (keyed.revision, happened(keyed)) == before
        if caller.status == 401:
            assert response.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("endpoint", REQUESTS)
@pytest.mark.parametrize("given", ["", "x", KEY])
def test_without_a_key_that_is_set_no_key_is_right(client: FlaskClient, endpoint: str, given: str) -> None:
    for headers in ({"X-API-Key": given}, {"Authorization": f"Bearer {given}"}):
        problem(send(client, endpoint, Caller("10.0.0.7", headers, 401)), 401)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_ignores_case(keyed: PolicyService, scheme: str) -> None:
    client = create_app(keyed).test_client()
    caller = Caller("10.0.0.7", {"Authorization": f"{scheme} {KEY}"}, None)
    assert send(client, "policies.enable_policy", caller).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/health", "/livez", "/readyz", "/events", "/api/v1/decisions"),
        *("/policies", "/policies/web", "/api/v1/policies", "/api/v1/policies/web/history"),
        "/api/v1/functions",
        *("/api/v1/revisions", "/api/v1/revisions/2", "/api/v1/revisions/2/diff/2"),
    ],
)
def test_reading_is_open(keyed: PolicyService, path: str) -> None:
    client = create_app(keyed).test_client()
    for headers in ({}, {"Authorization": "Basic x"}, {"Host": "evil.example", "Origin": "https://evil.example"}):
        response = client.get(path, headers=headers, environ_base={"REMOTE_ADDR": "10.0.0.7"})
        assert response.status_code == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/v1/check", {"policy_type": "a", "context": {}}),
        ("/api/check_policy", {"type": "a", "context": {}}),
        ("/api/v1/check/batch", {"policy_type": "a", "contexts": []}),
        ("/api/v1/policies/validate", POLICY),
        ("/api/v1/functions/validate", {"code": CODE}),
    ],
)
def test_checking_is_open(keyed: PolicyService, path: str, body: Any) -> None:
    client = create_app(keyed).test_client()
    response = client.post(path, json=body, environ_base={"REMOTE_ADDR": "10.0.0.7"})
    assert response.status_code == 200
