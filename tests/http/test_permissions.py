"""Every route with every caller: roles, nobody, and credentials that are expired, revoked or forged."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from tests.conftest import Services
from tests.http.shapes import problem, routes
from tests.http.test_routes import CASES, REDIRECTS
from tests.identity.issuer import Issuer, issuing
from tests.identity.tokens import refused, token
from tests.service.running import eventually

from policy_engine.http.app import create_app
from policy_engine.http.permissions import PERMISSIONS, PUBLIC
from policy_engine.identity.permission import Permission
from policy_engine.identity.role import ROLES
from policy_engine.privacy.budget import Budget
from policy_engine.service import PolicyService

ELSEWHERE = {"REMOTE_ADDR": "10.0.0.7"}
READERS = "viewer author approver operator auditor admin"
CHECKERS = "checker client reporter author operator admin"
EVERYBODY = " ".join(ROLES)

TABLE: dict[str, str] = {
    "GET /": EVERYBODY,
    "GET /health": EVERYBODY,
    "GET /livez": EVERYBODY,
    "GET /readyz": EVERYBODY,
    "GET /api/v1/whoami": EVERYBODY,
    "POST /api/v1/check": CHECKERS,
    "POST /api/v1/check/batch": CHECKERS,
    "POST /api/check_policy": CHECKERS,
    "GET /policies": READERS,
    "GET /api/v1/policies": READERS,
    "GET /policies/<policy_id>": READERS,
    "GET /api/v1/policies/<policy_id>": READERS,
    "GET /api/v1/policies/<policy_id>/history": READERS,
    "POST /api/v1/policies/validate": READERS,
    "GET /api/v1/revisions": READERS,
    "GET /api/v1/revisions/<int:number>": READERS,
    "GET /api/v1/revisions/<int:number>/diff/<int:other>": READERS,
    "GET /api/v1/decisions": READERS,
    "GET /api/v1/decisions/<decision_id>": READERS,
    "GET /events": READERS,
    "GET /api/v1/events/stream": READERS,
    "GET /api/v1/trust/distribution": READERS,
    "GET /api/v1/trust/trends": READERS,
    "GET /api/v1/trust/data-sources": READERS,
    "GET /api/v1/trust/recalculate/<job_id>": READERS,
    "POST /policies": "author admin",
    "POST /api/v1/policies": "author admin",
    "PUT /policies/<policy_id>": "author admin",
    "PUT /api/v1/policies/<policy_id>": "author admin",
    "DELETE /policies/<policy_id>": "author admin",
    "DELETE /api/v1/policies/<policy_id>": "author admin",
    "POST /api/v1/policies/<policy_id>/enable": "author approver operator admin",
    "POST /api/v1/policies/<policy_id>/disable": "author approver operator admin",
    "POST /api/v1/revisions/<int:number>/rollback": "author approver operator admin",
    "GET /openapi.json": EVERYBODY,
    "GET /api/v1/freeze": READERS,
    "POST /api/v1/freeze": "operator admin",
    "DELETE /api/v1/freeze/<freeze_id>": "operator admin",
    "GET /api/v1/bundle": READERS,
    "POST /api/v1/bundle": "author approver operator admin",
    "GET /api/v1/functions": READERS,
    "GET /api/v1/functions/<function_id>": READERS,
    "POST /api/v1/functions/validate": READERS,
    "POST /api/v1/functions/test": "author admin",
    "POST /api/v1/functions": "author admin",
    "PUT /api/v1/functions/<function_id>": "author admin",
    "DELETE /api/v1/functions/<function_id>": "author admin",
    "POST /api/v1/trust/selection": "checker reporter operator admin",
    "POST /api/v1/trust/observations": "reporter admin",
    "POST /api/v1/trust/violations": "reporter admin",
    "GET /api/v1/trust": "reporter operator auditor admin",
    "GET /api/v1/trust/clients/<client_id>": "client reporter operator auditor admin",
    "PUT /api/v1/trust/clients/<client_id>/override": "operator admin",
    "DELETE /api/v1/trust/clients/<client_id>/override": "operator admin",
    "PUT /api/v1/trust/clients/<client_id>/quarantine": "operator admin",
    "DELETE /api/v1/trust/clients/<client_id>/quarantine": "operator admin",
    "POST /api/v1/trust/recalculate": "operator admin",
    "POST /api/v1/privacy/reserve": "reporter admin",
    "POST /api/v1/privacy/commit": "reporter admin",
    "POST /api/v1/privacy/release": "reporter admin",
    "POST /api/v1/privacy/would_exceed": "reporter operator auditor admin",
    "GET /api/v1/privacy": "reporter operator auditor admin",
    "GET /api/v1/privacy/clients/<client_id>": "client reporter operator auditor admin",
    "GET /api/v1/keys": "auditor admin",
    "GET /api/v1/keys/<key_id>": "auditor admin",
    "POST /api/v1/keys": "admin",
    "PATCH /api/v1/keys/<key_id>": "admin",
    "DELETE /api/v1/keys/<key_id>": "admin",
}
"""Who may use each route, by role. A route that is missing here has not been thought about: nobody may use it."""

OPEN = {"GET /", "GET /openapi.json", "GET /health", "GET /livez", "GET /readyz"}
BUDGET = Budget(epsilon=8.0, delta=1e-5)
BATCH = {"policy_type": "network_security", "contexts": [{"protocol": "tcp", "client_id": "c"}]}


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with issuing() as running:
        yield running


@pytest.fixture
def service(services: Services, issuer: Issuer) -> PolicyService:
    made: PolicyService = services(
        trusted_networks=(),
        oidc=issuer.oidc,
        rate_limit_logins="off",
        privacy={"default": Budget(epsilon=8.0, delta=1e-5)},
    )
    return made


@pytest.fixture
def app(service: PolicyService, issuer: Issuer) -> Flask:
    made = create_app(service)
    headers = {"Authorization": f"Bearer {token(iss=issuer.oidc.issuer)}"}

    def is_known() -> bool:
        return made.test_client().get("/api/v1/whoami", headers=headers).status_code == 200

    eventually(is_known, "the keys of the issuer are there")
    return made


def request_of(route: str) -> tuple[str, str, Any]:
    """The request of a route: one about client `c`, where it is about a client."""
    method, rule = route.split()
    if route in REDIRECTS:
        return method, rule, None
    case = CASES[route]
    path = case.path.format(decision_id="d", key_id="k", job_id="j", freeze_id="f")
    path = path.replace("/clients/decided/", "/clients/c/")
    body = case.body
    if rule in {"/api/v1/check", "/api/check_policy"}:
        body = {**body, "context": {**body["context"], "client_id": "c"}}
    return method, path, BATCH if rule == "/api/v1/check/batch" else body


def ask(client: FlaskClient, route: str, text: str | None) -> Any:
    method, path, body = request_of(route)
    headers = {} if text is None else {"Authorization": f"Bearer {text}"}
    content = {"data": body} if isinstance(body, bytes) else {"json": body}
    return client.open(path, method=method, **content, headers=headers, environ_base=ELSEWHERE)


def state(service: PolicyService) -> Any:
    """Everything that a request may have changed: each change is an event, too."""
    happened = [
        event for event in service.events.page().events if event.event_type not in {"LOGIN_FAILED", "CHANGE_REFUSED"}
    ]
    return service.revision, happened, service.keys.all()


def compare(service: PolicyService, client: FlaskClient, text: str | None, allowed: set[str], status: int) -> None:
    """Ask for every route; what is not allowed answers this status and changes nothing."""
    for route in TABLE:
        before = state(service)
        response = ask(client, route, text)
        if route in allowed:
            assert response.status_code not in {401, 403}, (route, response.text)
        else:
            document = problem(response, status)
            assert state(service) == before, route
            assert not text or text not in response.text
            assert ("WWW-Authenticate" in response.headers) is (status == 401)
            if status == 403 and "client" not in document["detail"]:
                assert "permission" in document["detail"], route


def allowed_to(role: str) -> set[str]:
    return {route for route, roles in TABLE.items() if role in roles.split()}


def test_every_route_says_who_may_use_it(app: Flask) -> None:
    served = {f"{method} {rule.rule}": rule.endpoint for method, rule in routes(app)}
    assert TABLE.keys() == served.keys()
    assert set(served.values()) == PERMISSIONS.keys() | PUBLIC


def test_a_route_that_names_no_permission_is_refused_to_everybody(service: PolicyService) -> None:
    app = create_app(service)
    app.add_url_rule("/forgotten", "forgotten", lambda: "secrets")
    _, text = service.keys.create("root", ("admin",), author="test")
    for shown in (None, text):
        headers = {} if shown is None else {"X-API-Key": shown}
        problem(app.test_client().get("/forgotten", headers=headers), 403)


@pytest.mark.parametrize("role", ROLES)
def test_a_key_of_a_role(service: PolicyService, app: Flask, role: str) -> None:
    _, text = service.keys.create("x", (role,), author="test", client_id="c" if role == "client" else None)
    compare(service, app.test_client(), text, allowed_to(role), 403)


@pytest.mark.parametrize("role", ROLES)
def test_a_token_of_a_role(service: PolicyService, app: Flask, issuer: Issuer, role: str) -> None:
    text = token(iss=issuer.url, roles=[role], client_id="c")
    compare(service, app.test_client(), text, allowed_to(role), 403)


def test_a_token_without_a_role(service: PolicyService, app: Flask, issuer: Issuer) -> None:
    compare(service, app.test_client(), token(iss=issuer.url, roles=[]), OPEN | {"GET /api/v1/whoami"}, 403)


def test_nobody_in_particular(service: PolicyService, app: Flask) -> None:
    compare(service, app.test_client(), None, allowed_to("viewer") | allowed_to("checker"), 401)


def test_nobody_where_nobody_is_let_in(services: Services) -> None:
    service = services(trusted_networks=(), anonymous_roles=())
    compare(service, create_app(service).test_client(), None, OPEN | {"GET /api/v1/whoami"}, 401)


@pytest.mark.parametrize("about", refused())
def test_a_forged_token(service: PolicyService, app: Flask, issuer: Issuer, about: str) -> None:
    compare(service, app.test_client(), refused(issuer.url)[about], OPEN, 401)


@pytest.mark.parametrize("about", ["expired", "revoked", "altered", "cut", "unknown", "empty", "a prefix", "garbage"])
def test_a_key_that_is_not_valid(
    service: PolicyService, app: Flask, monkeypatch: pytest.MonkeyPatch, about: str
) -> None:
    key, text = service.keys.create("root", ("admin",), author="test", expires_at=time.time() + 100)
    client = app.test_client()
    assert ask(client, "GET /api/v1/keys", text).status_code == 200
    if about == "expired":
        later = time.time() + 200
        monkeypatch.setattr("policy_engine.keyring.time.time", lambda: later)
    if about == "revoked":
        service.keys.revoke(key.key_id, author="test")
    wrong = {
        "altered": text[:-1] + ("a" if text[-1] != "a" else "b"),
        "cut": text[:-1],
        "unknown": "pe_0123456789ab_" + "x" * 43,
        "empty": "",
        "a prefix": f"pe_{key.prefix}_",
        "garbage": "\x01' OR 1=1 --",
    }
    compare(service, client, wrong.get(about, text), OPEN, 401)


def test_an_issuer_whose_keys_are_not_known_lets_nobody_in(services: Services) -> None:
    with issuing() as away:
        away.published = None
        service = services(trusted_networks=(), oidc=away.oidc)
        text = token(iss=away.url, roles=["admin"])
        compare(service, create_app(service).test_client(), text, OPEN, 503)


# A client that asks about itself alone

OTHERS: tuple[dict[str, Any], ...] = (
    {},
    {"client_id": "d"},
    {"client_id": None},
    {"client_id": ["c"]},
    {"clientId": "c"},
)


@pytest.fixture
def bound(service: PolicyService) -> dict[str, str]:
    _, text = service.keys.create("c", ("client",), author="test", client_id="c")
    return {"X-API-Key": text}


@pytest.mark.parametrize("context", OTHERS)
@pytest.mark.parametrize("path", ["/api/v1/check", "/api/check_policy", "/api/v1/check/batch"])
def test_a_client_asks_about_nobody_else(
    service: PolicyService, app: Flask, bound: dict[str, str], path: str, context: dict[str, Any]
) -> None:
    own = {"protocol": "tcp", "client_id": "c"}
    asked = {"contexts": [own, {"protocol": "tcp", **context}]} if "batch" in path else {"context": context}
    client = app.test_client()
    before = state(service)
    for behind in (False, True):
        if behind:
            app.wsgi_app = app.wsgi_app._behind  # type: ignore[attr-defined, method-assign]
        response = client.post(path, json={"policy_type": "network_security", **asked}, headers=bound)
        assert "`c`" in problem(response, 403)["detail"]
    assert state(service) == before


def test_a_client_reads_about_nobody_else(app: Flask, bound: dict[str, str]) -> None:
    client = app.test_client()
    for path in ("/api/v1/trust/clients/d", "/api/v1/privacy/clients/d", "/api/v1/trust/clients/C"):
        problem(client.get(path, headers=bound), 403)
    assert client.get("/api/v1/privacy/clients/c", headers=bound).status_code == 200


def test_who_may_only_look_may_simulate(service: PolicyService, app: Flask) -> None:
    _, text = service.keys.create("v", ("viewer",), author="test")
    asked = {"policy_type": "network_security", "context": {"protocol": "tcp"}}
    client, headers = app.test_client(), {"X-API-Key": text}
    problem(client.post("/api/v1/check", json=asked, headers=headers), 403)
    simulated = {**asked, "at": "2026-01-01T00:00:00Z", "explain": True}
    assert client.post("/api/v1/check", json=simulated, headers=headers).get_json()["simulated"] is True


def test_who_may_not_read_policies_gets_no_explanation(service: PolicyService, app: Flask) -> None:
    _, text = service.keys.create("v", ("checker",), author="test")
    asked = {"policy_type": "network_security", "context": {"protocol": "tcp"}, "explain": True}
    response = app.test_client().post("/api/v1/check", json=asked, headers={"X-API-Key": text})
    assert Permission.READ_POLICIES in problem(response, 403)["detail"]


def test_what_an_anonymous_caller_sees_of_decisions_has_no_context(service: PolicyService, app: Flask) -> None:
    client = app.test_client()
    context = {"protocol": "tcp", "client_id": "somebody"}
    asked = {"policy_type": "network_security", "context": context}
    client.post("/api/v1/check", json=asked, headers={"X-Decision-Log": "sync"})
    page = client.get("/api/v1/decisions")
    assert len(page.get_json()["decisions"]) == 1
    assert "somebody" not in page.text
    _, text = service.keys.create("a", ("auditor",), author="test")
    assert "somebody" in client.get("/api/v1/decisions", headers={"X-API-Key": text}).text
