"""Every route, by the map that the app itself keeps: what it answers, and how it fails."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from flask import Flask
from flask.testing import FlaskClient
from tests.bundle.making import present, public_key
from tests.conftest import Services
from tests.http.logged import post
from tests.http.shapes import AUTOMATIC, problem, routes

from policy_engine.http.app import create_app
from policy_engine.http.permissions import WRITES
from policy_engine.privacy.budget import Budget
from policy_engine.service import PolicyService

NEW = {"id": "new", "type": "network_security", "rules": [{"action": "allow", "match": {"protocol": "udp"}}]}
CHECK = {"policy_type": "network_security", "context": {"protocol": "tcp", "dst_port": 8080}}
FUNCTION = {"id": "judge", "code": "def judge(context): return {'allowed': True}"}
WRITTEN = {"success", "id", "policy_version", "function"}
CHANGED = {"success", "id", "policy_version", "policy"}
DECISION = {
    *("decision_id", "request_id", "timestamp", "allowed", "decision", "reason", "reason_code", "policy_type"),
    *("policy_id", "policy_name", "rule_index", "parameters", "obligations", "observations", "violations", "errors"),
    *("policies_checked", "shadow", "policy_version", "revision_digest", "valid_until", "simulated"),
    *("evaluation_time_ms", "explanation"),
}
LOGGED = DECISION - {"explanation"} | {"event_id", "component", "represents", "client", "context", "facts", "source"}
POLICY = {"id", "name", "type", "description", "priority", "enabled", "rules"}
PAGE = {"events", "total", "last_event_id", "gap"}
REVISION = {"number", "parent", "digest", "author", "reason", "time", "source", "language_version", "parts"}
ROUND = {"federation": "f", "round": 1, "clients": [{"client_id": "c", "norm": 1.0, "cos_ref": 0.5}]}
TOLD = {"client_id", "federation", "trust_score", "trust_band", "overrides"}
EXPLAINED = TOLD | {
    *("known", "factors", "weights", "gate", "trust_score_change", "rounds_answered", "on_probation", "excluded_in"),
    *("why", "history"),
}
JOB = {"job_id", "state", "author", "reason", "started_at", "done", "total", "changed", "error"}
SPEND = {"client_id": "c", "noise_multiplier": 1.0, "sampling_rate": 0.1, "steps": 1, "noise": "server"}
ACCOUNT = {
    *("federation", "client_id", "method", "epsilon_budget", "delta", "epsilon_spent", "epsilon_reserved"),
    *("epsilon_remaining", "server", "declared", "rests_on_declarations", "history", "next_before"),
}
WHO = {"name", "method", "roles", "permissions", "client_id", "key_id", "expires_at"}
KEY = {
    *("key_id", "prefix", "name", "roles", "client_id", "author"),
    *("created_at", "expires_at", "last_used_at", "revoked_at"),
}
FREEZE = {"freeze_id", "scope", "reason", "author", "since", "expires_at", "policies"}
FROZEN = {"scope": "all", "reason": "r"}
READY = {"status", "reasons", "policy_version", "revision_digest", "policies", "rules"}


class Case(NamedTuple):
    """A good request, what its answer holds, and (None where only the method can be wrong) a bad one."""

    path: str
    body: Any
    status: int
    members: set[str]
    bad: tuple[str, Any, int] | None


CASES = {
    "GET /api/v1/functions": Case("/api/v1/functions", None, 200, set(), None),
    "GET /api/v1/functions/<function_id>": Case(
        "/api/v1/functions/judge",
        None,
        200,
        {"id", "function_id", "name", "description", "metadata", "code"},
        ("/api/v1/functions/nope", None, 404),
    ),
    "POST /api/v1/functions": Case(
        "/api/v1/functions", {**FUNCTION, "id": "other"}, 201, WRITTEN, ("/api/v1/functions", {"code": "x"}, 400)
    ),
    "PUT /api/v1/functions/<function_id>": Case(
        "/api/v1/functions/judge", {"description": "d"}, 200, WRITTEN, ("/api/v1/functions/nope", {}, 404)
    ),
    "DELETE /api/v1/functions/<function_id>": Case(
        "/api/v1/functions/judge",
        None,
        200,
        {"success", "id", "deleted", "policy_version"},
        ("/api/v1/functions/nope", None, 404),
    ),
    "POST /api/v1/functions/validate": Case(
        "/api/v1/functions/validate",
        {"code": FUNCTION["code"]},
        200,
        {"valid", "message", "entry", "errors"},
        ("/api/v1/functions/validate", {"code": 5}, 400),
    ),
    "POST /api/v1/functions/test": Case(
        "/api/v1/functions/test",
        {"code": FUNCTION["code"], "context": {}},
        200,
        {"success", "result", "time_ms", "memory_bytes", "output"},
        ("/api/v1/functions/test", {"context": {}}, 400),
    ),
    "GET /": Case("/", None, 200, {"name", "version", "links"}, None),
    "GET /openapi.json": Case("/openapi.json", None, 200, {"openapi", "info", "paths", "components"}, None),
    "GET /health": Case("/health", None, 200, {"status", "timestamp", "version", "functions"}, None),
    "GET /livez": Case("/livez", None, 200, {"status"}, None),
    "GET /readyz": Case("/readyz", None, 200, READY, None),
    "GET /events": Case("/events", None, 200, PAGE, ("/events?limit=0", None, 400)),
    "GET /policies": Case("/policies", None, 200, {"policies"}, None),
    "GET /api/v1/policies": Case("/api/v1/policies", None, 200, set(), None),
    "GET /policies/<policy_id>": Case("/policies/web", None, 200, POLICY, ("/policies/nope", None, 404)),
    "GET /api/v1/policies/<policy_id>": Case(
        "/api/v1/policies/web", None, 200, POLICY, ("/api/v1/policies/nope", None, 404)
    ),
    "POST /policies": Case("/policies", NEW, 201, CHANGED, ("/policies", {}, 400)),
    "POST /api/v1/policies": Case("/api/v1/policies", NEW, 201, CHANGED, ("/api/v1/policies", {}, 400)),
    "PUT /policies/<policy_id>": Case(
        "/policies/web", {**NEW, "id": "web"}, 200, CHANGED, ("/policies/nope", NEW, 404)
    ),
    "PUT /api/v1/policies/<policy_id>": Case(
        "/api/v1/policies/web", {"priority": 7}, 200, CHANGED, ("/api/v1/policies/nope", {"priority": 7}, 404)
    ),
    "DELETE /policies/<policy_id>": Case(
        "/policies/web", None, 200, {"success", "id", "deleted", "policy_version"}, ("/policies/nope", None, 404)
    ),
    "DELETE /api/v1/policies/<policy_id>": Case(
        *("/api/v1/policies/web", None, 200, {"success", "id", "deleted", "policy_version"}),
        ("/api/v1/policies/nope", None, 404),
    ),
    "POST /api/v1/policies/<policy_id>/enable": Case(
        "/api/v1/policies/web/enable", None, 200, CHANGED, ("/api/v1/policies/nope/enable", None, 404)
    ),
    "POST /api/v1/policies/<policy_id>/disable": Case(
        "/api/v1/policies/web/disable", None, 200, CHANGED, ("/api/v1/policies/nope/disable", None, 404)
    ),
    "POST /api/v1/policies/validate": Case(
        *("/api/v1/policies/validate", NEW, 200, {"valid", "issues", "warnings", "errors"}),
        ("/api/v1/policies/validate", [], 400),
    ),
    "GET /api/v1/policies/<policy_id>/history": Case(
        *("/api/v1/policies/web/history", None, 200, {"policy_id", "history", "next_before"}),
        ("/api/v1/policies/nope/history", None, 404),
    ),
    "GET /api/v1/revisions": Case(
        *("/api/v1/revisions", None, 200, {"revisions", "next_before"}), ("/api/v1/revisions?limit=0", None, 400)
    ),
    "GET /api/v1/revisions/<int:number>": Case(
        *("/api/v1/revisions/2", None, 200, REVISION | {"policies", "types", "functions"}),
        ("/api/v1/revisions/1", None, 404),
    ),
    "GET /api/v1/revisions/<int:number>/diff/<int:other>": Case(
        *("/api/v1/revisions/2/diff/2", None, 200, {"from", "to", "changes"}),
        ("/api/v1/revisions/2/diff/3", None, 404),
    ),
    "POST /api/v1/revisions/<int:number>/rollback": Case(
        *("/api/v1/revisions/2/rollback", None, 200, {"success", "rolled_back_to", "policy_version"}),
        ("/api/v1/revisions/3/rollback", None, 404),
    ),
    "GET /api/v1/decisions": Case(
        *("/api/v1/decisions", None, 200, {"decisions", "next_cursor"}), ("/api/v1/decisions?result=x", None, 400)
    ),
    "GET /api/v1/decisions/<decision_id>": Case(
        "/api/v1/decisions/{decision_id}", None, 200, LOGGED, ("/api/v1/decisions/nope", None, 404)
    ),
    "POST /api/v1/trust/observations": Case(
        *("/api/v1/trust/observations", {**ROUND, "round": 2}, 200),
        {"federation", "round", "held", "excluded_share", "refused_share", "clients"},
        ("/api/v1/trust/observations", {**ROUND, "round": 0}, 400),
    ),
    "POST /api/v1/trust/selection": Case(
        *("/api/v1/trust/selection", {"federation": "f", "round": 2, "candidates": ["c"]}, 200),
        {"federation", "round", "invited", "probed", "left_out", "on_probation"},
        ("/api/v1/trust/selection", {"federation": "f", "round": 2}, 400),
    ),
    "POST /api/v1/trust/violations": Case(
        *("/api/v1/trust/violations", {"client_id": "c", "policy_id": "night", "rule_index": 0}, 200),
        {"counted", "trust_score"},
        ("/api/v1/trust/violations", {"client_id": "c", "policy_id": "web", "rule_index": 0}, 400),
    ),
    "GET /api/v1/trust": Case(
        "/api/v1/trust", None, 200, {"clients", "next_cursor"}, ("/api/v1/trust?cursor=x", None, 400)
    ),
    "GET /api/v1/trust/clients/<client_id>": Case(
        "/api/v1/trust/clients/c", None, 200, EXPLAINED, ("/api/v1/trust/clients/nope", None, 404)
    ),
    "PUT /api/v1/trust/clients/<client_id>/override": Case(
        *("/api/v1/trust/clients/c/override", {"reason": "r", "trust_score": 0.5, "federation": "f"}, 200, TOLD),
        ("/api/v1/trust/clients/c/override", {"reason": "r", "trust_score": 5}, 400),
    ),
    "DELETE /api/v1/trust/clients/<client_id>/override": Case(
        *("/api/v1/trust/clients/decided/override", None, 200, TOLD),
        ("/api/v1/trust/clients/c/override", None, 404),
    ),
    "PUT /api/v1/trust/clients/<client_id>/quarantine": Case(
        *("/api/v1/trust/clients/c/quarantine", {"reason": "r", "federation": "f"}, 200, TOLD),
        ("/api/v1/trust/clients/c/quarantine", {}, 400),
    ),
    "DELETE /api/v1/trust/clients/<client_id>/quarantine": Case(
        *("/api/v1/trust/clients/decided/quarantine", None, 200, TOLD),
        ("/api/v1/trust/clients/c/quarantine", None, 404),
    ),
    "GET /api/v1/trust/distribution": Case(
        *("/api/v1/trust/distribution", None, 200, {"federation", "clients", "histogram"}),
        ("/api/v1/trust/distribution?x=1", None, 400),
    ),
    "GET /api/v1/trust/trends": Case(
        *("/api/v1/trust/trends", None, 200, {"federation", "rounds", "next_before"}),
        ("/api/v1/trust/trends?limit=0", None, 400),
    ),
    "GET /api/v1/trust/data-sources": Case(
        *("/api/v1/trust/data-sources", None, 200, {"sources"}),
        ("/api/v1/trust/data-sources?x=1", None, 400),
    ),
    "POST /api/v1/trust/recalculate": Case("/api/v1/trust/recalculate", None, 202, JOB, None),
    "GET /api/v1/trust/recalculate/<job_id>": Case(
        "/api/v1/trust/recalculate/{job_id}", None, 200, JOB, ("/api/v1/trust/recalculate/nope", None, 404)
    ),
    "POST /api/v1/freeze": Case(
        *("/api/v1/freeze", {"scope": "all", "reason": "r"}, 201, FREEZE),
        ("/api/v1/freeze", {"scope": "all"}, 400),
    ),
    "GET /api/v1/freeze": Case("/api/v1/freeze", None, 200, {"frozen", "freezes"}, None),
    "DELETE /api/v1/freeze/<freeze_id>": Case(
        "/api/v1/freeze/{freeze_id}", None, 200, FREEZE, ("/api/v1/freeze/nope", None, 400)
    ),
    "POST /api/v1/privacy/reserve": Case(
        *("/api/v1/privacy/reserve", {**SPEND, "round": 1}, 200),
        {"federation", "round", "epsilon_budget", "delta", "granted", "refused", "reservations"},
        ("/api/v1/privacy/reserve", SPEND, 400),
    ),
    "POST /api/v1/privacy/commit": Case(
        *("/api/v1/privacy/commit", {"reservation_id": "{reservation_id}"}, 200, {"reservations"}),
        ("/api/v1/privacy/commit", {"reservation_id": "nope"}, 404),
    ),
    "POST /api/v1/privacy/release": Case(
        *("/api/v1/privacy/release", {"reservation_id": "{reservation_id}"}, 200, {"reservations"}),
        ("/api/v1/privacy/release", {"reservation_id": "nope"}, 404),
    ),
    "POST /api/v1/privacy/would_exceed": Case(
        *("/api/v1/privacy/would_exceed", SPEND, 200, {"federation", "epsilon_budget", "delta", "clients"}),
        ("/api/v1/privacy/would_exceed", {**SPEND, "steps": 0}, 400),
    ),
    "GET /api/v1/privacy": Case(
        "/api/v1/privacy", None, 200, {"clients", "next_cursor"}, ("/api/v1/privacy?cursor=x", None, 400)
    ),
    "GET /api/v1/privacy/clients/<client_id>": Case(
        "/api/v1/privacy/clients/c", None, 200, ACCOUNT, ("/api/v1/privacy/clients/c?method=x", None, 400)
    ),
    "GET /api/v1/whoami": Case("/api/v1/whoami", None, 200, WHO, None),
    "GET /api/v1/keys": Case("/api/v1/keys", None, 200, {"keys"}, None),
    "GET /api/v1/keys/<key_id>": Case("/api/v1/keys/{key_id}", None, 200, KEY, ("/api/v1/keys/nope", None, 404)),
    "POST /api/v1/keys": Case(
        *("/api/v1/keys", {"name": "ann", "roles": ["viewer"]}, 201, KEY | {"key"}),
        ("/api/v1/keys", {"name": "ann", "roles": ["root"]}, 400),
    ),
    "PATCH /api/v1/keys/<key_id>": Case(
        "/api/v1/keys/{key_id}", {"roles": ["author"]}, 200, KEY, ("/api/v1/keys/nope", {"name": "x"}, 404)
    ),
    "DELETE /api/v1/keys/<key_id>": Case("/api/v1/keys/{key_id}", None, 200, KEY, ("/api/v1/keys/nope", None, 404)),
    "POST /api/v1/check": Case("/api/v1/check", CHECK, 200, DECISION, ("/api/v1/check", {}, 400)),
    "POST /api/check_policy": Case("/api/check_policy", CHECK, 200, DECISION, ("/api/check_policy", {}, 400)),
    "POST /api/v1/check/batch": Case(
        *("/api/v1/check/batch", {"policy_type": "network_security", "contexts": [{}]}, 200),
        {"decisions", "count", "policy_version", "revision_digest"},
        ("/api/v1/check/batch", {"policy_type": "network_security"}, 400),
    ),
}

BUNDLE = {
    *("active", "in_force", "source", "last_pull", "last_error", "name", "trusted_keys", "threshold"),
    "require_signatures",
}
CASES |= {
    "GET /api/v1/bundle": Case("/api/v1/bundle", None, 200, BUNDLE, None),
    "POST /api/v1/bundle": Case(
        *("/api/v1/bundle", present(), 200, {"success", "policy_version", "bundle"}),
        ("/api/v1/bundle", {"files": {}}, 422),
    ),
}

REDIRECTS = {"GET /api/v1/events/stream": "http://localhost:5001/api/v1/events/stream"}

VARIES = {"created_at", "updated_at", "version"}
"""What a policy has only once it was changed, and others have always."""

PLACEHOLDER = re.compile("<[^>]+>")
UNKNOWN = ("/nope", "/policies/", "/api", "/api/v1", "/api/v1/check/", "/api/v1/policies/a/b/c", "/%ff", "/a b", "/é")


@pytest.fixture
def service(services: Services, tmp_path: Path) -> PolicyService:
    made: PolicyService = services(
        privacy={"default": Budget(epsilon=8.0, delta=1e-5)}, bundle_keys=(public_key(tmp_path),)
    )
    return made


@pytest.fixture
def app(service: PolicyService) -> Flask:
    return create_app(service)


def test_every_route_has_its_case(app: Flask) -> None:
    assert {f"{method} {rule.rule}" for method, rule in routes(app)} == CASES.keys() | REDIRECTS.keys()


@pytest.mark.parametrize("route", REDIRECTS)
def test_redirects(services: Services, route: str) -> None:
    method, path = route.split()
    for port, status in ((5001, 307), (0, 404)):
        client = create_app(services(stream_port=port)).test_client()
        response = client.open(f"{path}?x=1", method=method, headers={"X-Request-ID": "r-1"})
        assert (response.status_code, response.headers["X-Request-ID"]) == (status, "r-1")
        if status == 404:
            problem(response, status)
        else:
            assert response.headers["Location"] == REDIRECTS[route] + "?x=1"


def trusting(client: FlaskClient) -> str:
    """Put clients on record, decide about one, and begin a recalculation; return its id."""
    assert client.post("/api/v1/trust/observations", json=ROUND).status_code == 200
    for kind, more in (("override", {"trust_score": 0.5}), ("quarantine", {})):
        decided = {"reason": "r", "federation": "f", **more}
        assert client.put(f"/api/v1/trust/clients/decided/{kind}", json=decided).status_code == 200
    return str(client.post("/api/v1/trust/recalculate").get_json()["job_id"])


@pytest.mark.parametrize("route", CASES)
def test_success(client: FlaskClient, route: str) -> None:
    case = CASES[route]
    method = route.split(maxsplit=1)[0]
    path = case.path
    if "decision_id" in path:
        path = path.format(decision_id=post(client, "/api/v1/check", CHECK)["decision_id"])
    if "/trust" in path:
        path = path.format(job_id=trusting(client))
    if "key_id" in path:
        made = client.post("/api/v1/keys", json={"name": "ann", "roles": ["viewer"]}).get_json()
        path = path.format(key_id=made["key_id"])
    if "/functions/judge" in path:
        client.post("/api/v1/functions", json=FUNCTION)
    if "{freeze_id}" in path:
        path = path.format(freeze_id=client.post("/api/v1/freeze", json=FROZEN).get_json()["freeze_id"])
    body = case.body
    if body == {"reservation_id": "{reservation_id}"}:
        made = client.post("/api/v1/privacy/reserve", json={**SPEND, "round": 1}).get_json()
        body = {"reservation_id": made["reservations"][0]["reservation_id"]}
    sent: Any = {"data": body, "content_type": "application/json"} if isinstance(body, bytes) else {"json": body}
    response = client.open(path, method=method, headers={"X-Request-ID": "r-1", "X-Change-Reason": "why"}, **sent)
    assert response.status_code == case.status, response.text
    assert response.mimetype == "application/json"
    assert response.headers["X-Request-ID"] == "r-1"
    answer = response.get_json()
    assert isinstance(answer, dict) == bool(case.members)
    if case.members:
        assert answer.keys() - VARIES == case.members - VARIES


@pytest.mark.parametrize("route", [route for route, case in CASES.items() if case.bad])
def test_failure(client: FlaskClient, route: str) -> None:
    bad = CASES[route].bad
    assert bad is not None
    path, body, status = bad
    problem(client.open(path, method=route.split(maxsplit=1)[0], json=body), status)


def test_wrong_methods(app: Flask) -> None:
    client = app.test_client()
    taken: dict[str, set[str]] = {}
    for method, rule in routes(app):
        taken.setdefault(PLACEHOLDER.sub("2", rule.rule), set()).add(method)
    taken["/api/v1/policies/validate"] |= {"GET", "PUT", "DELETE"}  # there, `validate` is the id of a policy
    for name in ("validate", "test"):
        taken[f"/api/v1/functions/{name}"] |= {"GET", "PUT", "DELETE"}  # there, it is the id of a function
    for path, methods in taken.items():
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "BREW"} - methods:
            response = client.open(path, method=method, headers={"X-Request-ID": "wrong-1"})
            problem(response, 405)
            assert response.headers["X-Request-ID"] == "wrong-1"
            assert set(response.headers["Allow"].split(", ")) - AUTOMATIC == methods, (method, path)


@pytest.mark.parametrize("path", UNKNOWN)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_unknown_paths(client: FlaskClient, method: str, path: str) -> None:
    response = client.open(path, method=method, headers={"X-Request-ID": "lost-1"})
    problem(response, 404)
    assert response.headers["X-Request-ID"] == "lost-1"


@pytest.mark.parametrize("path", ["/health", "/nope", "/api/v1/check", "/api/v1/policies/nope"])
@pytest.mark.parametrize("given", ["", "x" * 129, "caf\xe9"])
def test_a_request_id_that_cannot_be_sent_back_is_replaced(client: FlaskClient, path: str, given: str) -> None:
    seen = {
        client.open(path, method=method, headers={"X-Request-ID": given}).headers["X-Request-ID"]
        for method in ("GET", "POST")
    }
    assert len(seen) == 2
    assert given not in seen


def test_the_request_id_is_in_the_decision(client: FlaskClient) -> None:
    given = "a b/c:" + "x" * 100
    response = client.post("/api/v1/check", json=CHECK, headers={"X-Request-ID": given})
    assert response.get_json()["request_id"] == response.headers["X-Request-ID"] == given


def test_what_changes_something_is_known_to_do_so(app: Flask) -> None:
    hot = {"/api/v1/check", "/api/v1/check/batch", "/api/check_policy"}
    reads = hot | {
        "policies.validate_policy",
        "functions.validate_function",
        "trust.select_clients",
        "privacy.ask_privacy",
    }
    assert {rule.endpoint for method, rule in routes(app) if method != "GET"} - reads == WRITES


def test_the_index_leads_to_what_exists(client: FlaskClient, app: Flask) -> None:
    known = {rule.rule for _, rule in routes(app)}
    assert set(client.get("/").get_json()["links"].values()) <= known


def test_routes_answer_alike_without_the_callable_in_front(service: PolicyService) -> None:
    app = create_app(service)
    front = app.wsgi_app
    app.wsgi_app = front._behind  # type: ignore[attr-defined, method-assign]
    client = app.test_client()
    headers = {"X-Request-ID": "r-2"}
    decision = client.post("/api/v1/check", json=CHECK, headers=headers)
    assert decision.get_json()["allowed"] is True
    assert decision.get_json()["request_id"] == decision.headers["X-Request-ID"] == "r-2"
    fields = client.post(
        "/api/v1/check/batch?fields=allowed", json={"policy_type": "network_security", "contexts": [{}]}
    )
    assert fields.get_json()["decisions"] == [{"allowed": False}]
    problem(client.post("/api/check_policy", data=b"["), 400)


def test_what_goes_wrong_inside_is_told_to_the_log_alone(
    client: FlaskClient, service: PolicyService, caplog: pytest.LogCaptureFixture
) -> None:
    service.engine.revision = None  # type: ignore[assignment]
    for method, path, body in (("POST", "/api/v1/check", CHECK), ("GET", "/policies", None)):
        caplog.clear()
        document = problem(client.open(path, method=method, json=body), 500)
        assert "NoneType" not in document["detail"]
        assert "NoneType" in caplog.text
