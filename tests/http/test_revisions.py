"""Revisions over HTTP, and what a caller may say about the one it wants or has."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient
from tests.conftest import Services
from tests.http.shapes import pointers, problem

from policy_engine.http.app import create_app
from policy_engine.service import PolicyService

NEW = {"id": "new", "type": "network_security", "rules": [{"action": "allow", "match": {"protocol": "udp"}}]}
ALLOWED = {"policy_type": "network_security", "context": {"protocol": "tcp", "dst_port": 8080}}
HUGE = 10**30


def changed(client: FlaskClient) -> None:
    """Revisions 3 to 6."""
    client.post("/policies", json=NEW)
    client.put("/api/v1/policies/web", json={"priority": 7})
    client.delete("/policies/web")
    client.post("/api/v1/policies/new/disable")


def listed(client: FlaskClient, **query: Any) -> dict[str, Any]:
    page: dict[str, Any] = client.get("/api/v1/revisions", query_string=query).get_json()
    return page


# Revisions


def test_revisions_newest_first(client: FlaskClient, service: PolicyService) -> None:
    changed(client)
    page = listed(client)
    assert [revision["number"] for revision in page["revisions"]] == [6, 5, 4, 3, 2]
    assert [revision["parent"] for revision in page["revisions"]] == [5, 4, 3, 2, None]
    assert page["next_before"] is None
    assert page["revisions"][0]["digest"] == service.revision.digest
    deleted = page["revisions"][1]["parts"]
    assert deleted == [{"kind": "policy", "name": "web", "action": "deleted", "sha256": ""}]


def test_pages_of_revisions(client: FlaskClient) -> None:
    changed(client)
    seen: list[int] = []
    before: int | None = None
    while True:
        page = listed(client, limit=2, **({"before": before} if before else {}))
        seen += [revision["number"] for revision in page["revisions"]]
        before = page["next_before"]
        if before is None:
            break
        client.put("/api/v1/policies/night", json={"priority": len(seen)})
    assert seen == [6, 5, 4, 3, 2], "what came meanwhile is not on later pages"


@pytest.mark.parametrize("name", ["limit", "before"])
@pytest.mark.parametrize("value", ["0", "-1", "x", "1.5", "\u0663", "9" * 30])
def test_a_number_that_is_none(client: FlaskClient, name: str, value: str) -> None:
    for path in ("/api/v1/revisions", "/api/v1/policies/web/history"):
        assert pointers(client.get(path, query_string={name: value})) == [f"/{name}"]


def test_a_revision_holds_everything(client: FlaskClient) -> None:
    before = client.get("/policies").get_json()["policies"]
    changed(client)
    found = client.get("/api/v1/revisions/2").get_json()
    assert found["policies"].keys() == before.keys()
    assert found["policies"]["web"]["rules"] == before["web"]["rules"]
    assert found["types"] == {}
    now = client.get("/api/v1/revisions/6").get_json()
    assert now["policies"].keys() == {"new", "night", "start"}
    assert now["policies"]["new"]["enabled"] is False


@pytest.mark.parametrize("number", ["0", "1", "7", str(2**53), str(2**63), str(HUGE)])
def test_a_revision_that_is_not_there(client: FlaskClient, number: str) -> None:
    changed(client)
    for path in (
        f"/api/v1/revisions/{number}",
        f"/api/v1/revisions/{number}/diff/2",
        f"/api/v1/revisions/2/diff/{number}",
    ):
        assert number in problem(client.get(path), 404)["detail"]
    problem(client.post(f"/api/v1/revisions/{number}/rollback"), 404)
    assert listed(client)["revisions"][0]["number"] == 6


@pytest.mark.parametrize("number", ["x", "-1", "1.5", " 2", "2x"])
def test_a_revision_that_is_no_number(client: FlaskClient, number: str) -> None:
    problem(client.get(f"/api/v1/revisions/{number}"), 404)


def test_difference(client: FlaskClient) -> None:
    changed(client)
    answer = client.get("/api/v1/revisions/2/diff/6").get_json()
    assert (answer["from"], answer["to"]) == (2, 6)
    assert [(item["kind"], item["name"], item["action"]) for item in answer["changes"]] == [
        ("policy", "new", "created"),
        ("policy", "web", "deleted"),
    ]
    assert answer["changes"][0]["before"] is answer["changes"][1]["after"] is None
    assert answer["changes"][1]["before"]["id"] == "web"


def test_roll_back(client: FlaskClient) -> None:
    changed(client)
    response = client.post("/api/v1/revisions/2/rollback", headers={"X-Change-Reason": "too strict"})
    assert response.get_json() == {"success": True, "rolled_back_to": 2, "policy_version": 7}
    assert response.headers["Location"] == "/api/v1/revisions/7"
    made = client.get(response.headers["Location"]).get_json()
    assert (made["source"], made["reason"], made["parent"]) == ("rollback", "too strict", 6)
    assert made["digest"] == client.get("/api/v1/revisions/2").get_json()["digest"]
    assert client.post("/api/v1/check", json=ALLOWED).get_json()["policy_version"] == 7
    again = client.post("/api/v1/revisions/2/rollback").get_json()
    assert again["policy_version"] == 7, "it is so already"


def test_history(client: FlaskClient) -> None:
    changed(client)
    answer = client.get("/api/v1/policies/web/history").get_json()
    assert answer["policy_id"] == "web"
    assert [(item["number"], item["action"]) for item in answer["history"]] == [
        (5, "deleted"),
        (4, "updated"),
        (2, "created"),
    ]
    assert answer["history"][0]["policy"] is None, "a policy that was deleted has a history too"
    assert answer["history"][1]["policy"]["priority"] == 7
    assert "parts" not in answer["history"][0]
    first = client.get("/api/v1/policies/web/history?limit=2").get_json()
    assert first["next_before"] == 4
    rest = client.get("/api/v1/policies/web/history?limit=2&before=4").get_json()
    assert first["history"] + rest["history"] == answer["history"]
    assert rest["next_before"] is None
    assert client.get("/api/v1/policies/web/history?before=2").get_json()["history"] == []
    problem(client.get("/api/v1/policies/nobody/history"), 404)


# Who and why


@pytest.mark.parametrize(
    ("headers", "address", "author"),
    [
        ({}, "127.0.0.1", "local (127.0.0.1)"),
        ({"X-API-Key": "secret"}, "10.0.0.7", "admin key (10.0.0.7)"),
        ({"Authorization": "Bearer secret"}, "127.0.0.1", "admin key (127.0.0.1)"),
    ],
)
def test_author(services: Services, headers: dict[str, str], address: str, author: str) -> None:
    client = create_app(services(admin_key="secret")).test_client()
    client.post("/policies", json=NEW, headers=headers, environ_base={"REMOTE_ADDR": address})
    client.post("/api/v1/revisions/2/rollback", headers=headers, environ_base={"REMOTE_ADDR": address})
    page = listed(client)["revisions"]
    assert [revision["author"] for revision in page] == [author, author, "policy file"]
    assert "secret" not in client.get("/api/v1/revisions").text + client.get("/events").text
    created = client.get("/events?event_type=POLICY_CREATED").get_json()["events"][0]
    assert created["details"]["author"] == author


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("audit of May", "audit of May"),
        ("", ""),
        ("x" * 501, "x" * 500),
        ("caf\u00e9 \u2603".encode().decode("latin-1"), "caf\u00e9 \u2603"),
        ("caf\u00e9", "caf\u00e9"),
        ("UTF-8''caf%C3%A9%20%E2%98%83", "caf\u00e9 \u2603"),
        ("utf-8'tr'%C3%A7ok 100%25", "\u00e7ok 100%"),
        ("UTF-8''%ff", "\ufffd"),
        ("90% of it''s noise", "90% of it''s noise"),
    ],
)
def test_reason(client: FlaskClient, sent: str, kept: str) -> None:
    client.post("/policies", json=NEW, headers={"X-Change-Reason": sent})
    assert listed(client)["revisions"][0]["reason"] == kept
    (event,) = client.get("/events?event_type=POLICY_CREATED").get_json()["events"]
    assert event["details"].get("reason", "") == kept


# Conditional requests


def tag(client: FlaskClient, path: str = "/api/v1/policies/web") -> str:
    return client.get(path).headers["ETag"]


CHANGES: list[tuple[str, str, Any]] = [
    ("PUT", "/api/v1/policies/web", {"priority": 7}),
    ("PUT", "/policies/web", {**NEW, "id": "web"}),
    ("POST", "/api/v1/policies/web/disable", None),
    ("DELETE", "/api/v1/policies/web", None),
    ("DELETE", "/policies/web", None),
]


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
def test_if_match(client: FlaskClient, method: str, path: str, body: Any) -> None:
    old = tag(client)
    assert old.startswith('"')
    client.put("/api/v1/policies/web", json={"tags": ["meanwhile"]})
    before = listed(client)["revisions"]
    for stale in (old, '"nope"', f'{old}, "nope"', f"W/{tag(client)}", ""):
        detail = problem(client.open(path, method=method, json=body, headers={"If-Match": stale}), 412)["detail"]
        assert "`web`" in detail
    assert listed(client)["revisions"] == before, "nothing was changed"
    response = client.open(path, method=method, json=body, headers={"If-Match": f'"nope", {tag(client)}'})
    assert response.status_code == 200
    if method != "DELETE":
        assert response.headers["ETag"] == tag(client)


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
def test_if_match_of_anything(client: FlaskClient, method: str, path: str, body: Any) -> None:
    assert client.open(path, method=method, json=body, headers={"If-Match": "*"}).status_code == 200
    missing = path.replace("web", "nobody")
    problem(client.open(missing, method=method, json=body and {**body, "id": "nobody"}, headers={"If-Match": "*"}), 404)


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
def test_a_change_may_have_to_name_what_it_means(services: Services, method: str, path: str, body: Any) -> None:
    client = create_app(services(require_if_match=True)).test_client()
    assert "If-Match" in problem(client.open(path, method=method, json=body), 428)["detail"]
    assert listed(client)["revisions"][0]["number"] == 2
    assert client.open(path, method=method, json=body, headers={"If-Match": tag(client)}).status_code == 200


def test_what_changes_no_existing_policy_need_not_name_one(services: Services) -> None:
    client = create_app(services(require_if_match=True)).test_client()
    assert client.post("/policies", json=NEW).status_code == 201
    assert client.post("/api/v1/revisions/2/rollback").status_code == 200


def test_a_rollback_may_name_what_it_takes_to_be_in_force(client: FlaskClient) -> None:
    newest = listed(client)["revisions"][0]["number"]
    seen = client.get(f"/api/v1/revisions/{newest}").headers["ETag"]
    client.put("/api/v1/policies/web", json={"tags": ["meanwhile"]})
    before = listed(client)["revisions"]
    for stale in (seen, '"nope"', ""):
        detail = problem(client.post("/api/v1/revisions/2/rollback", headers={"If-Match": stale}), 412)["detail"]
        assert f"revision {newest + 1} is in force" in detail
    assert listed(client)["revisions"] == before, "nothing was changed"
    current = client.get(f"/api/v1/revisions/{newest + 1}").headers["ETag"]
    assert client.post("/api/v1/revisions/2/rollback", headers={"If-Match": f'"nope", {current}'}).status_code == 200
    assert client.post(f"/api/v1/revisions/{newest}/rollback", headers={"If-Match": "*"}).status_code == 200


@pytest.mark.parametrize("path", ["/policies", "/api/v1/policies", "/api/v1/functions"])
@pytest.mark.parametrize("match", ["*", '"nope"'])
def test_nothing_is_created_that_is_taken_to_be_there(client: FlaskClient, path: str, match: str) -> None:
    before = listed(client)["revisions"]
    assert "If-Match" in problem(client.post(path, json=NEW, headers={"If-Match": match}), 412)["detail"]
    assert listed(client)["revisions"] == before


READS = [
    *("/api/v1/policies/web", "/policies/web", "/api/v1/policies", "/policies", "/policies?type=network_security"),
    "/api/v1/revisions/2",
]


@pytest.mark.parametrize("path", READS)
def test_if_none_match(client: FlaskClient, path: str) -> None:
    known = tag(client, path)
    assert known.startswith('"')
    for given in (known, f'"nope", {known}', "*"):
        response = client.get(path, headers={"If-None-Match": given, "X-Request-ID": "r-1"})
        assert (response.status_code, response.data) == (304, b"")
        assert response.headers["ETag"] == known
        assert response.headers["X-Request-ID"] == "r-1"
    client.put("/api/v1/policies/web", json={"priority": 7})
    response = client.get(path, headers={"If-None-Match": known})
    assert response.status_code == (304 if "revisions" in path else 200)
    problem(client.get("/api/v1/policies/nobody", headers={"If-None-Match": "*"}), 404)


def test_a_tag_tells_what_is_shown(client: FlaskClient) -> None:
    first = tag(client)
    assert first == tag(client, "/policies/web")
    made = client.post("/policies", json=NEW)
    assert made.headers["ETag"] == tag(client, made.headers["Location"])
    merged = client.put("/api/v1/policies/web", json={"priority": 7}).headers["ETag"]
    assert merged == tag(client) != first
    client.put("/api/v1/policies/web", json={"priority": 100})
    assert tag(client) not in {first, merged}, "it says who changed it last, too"


def test_an_id_that_is_taken_is_a_conflict(client: FlaskClient) -> None:
    client.post("/policies", json=NEW)
    for path in ("/policies", "/api/v1/policies"):
        problem(client.post(path, json=NEW), 409)
    client.delete("/policies/new")
    assert client.post("/policies", json=NEW).status_code == 201


# The oldest revision that may answer

CHECKS: list[tuple[str, Any]] = [
    ("/api/v1/check", ALLOWED),
    ("/api/check_policy", ALLOWED),
    ("/api/v1/check/batch", {"policy_type": "network_security", "contexts": [{}]}),
    ("/api/v1/check/batch", {"policy_type": "network_security", "contexts": []}),
]


@pytest.mark.parametrize(("path", "body"), CHECKS)
def test_a_version_that_may_answer(client: FlaskClient, service: PolicyService, path: str, body: Any) -> None:
    events = client.get("/events").get_json()["total"]
    for wanted in ("3", str(2**53)):
        response = client.post(path, json=body, headers={"X-Min-Policy-Version": wanted})
        assert wanted in problem(response, 503)["detail"]
        assert response.headers["Retry-After"] == "1"
    assert client.get("/events").get_json()["total"] == events, "nothing was decided"
    for wanted in ("0", "1", "2", "002"):
        response = client.post(path, json=body, headers={"X-Min-Policy-Version": wanted})
        assert (response.status_code, response.get_json()["policy_version"]) == (200, 2)
    service.administration.create(NEW)
    response = client.post(path, json=body, headers={"X-Min-Policy-Version": "3"})
    assert (response.status_code, response.get_json()["policy_version"]) == (200, 3)


@pytest.mark.parametrize(("path", "body"), CHECKS)
@pytest.mark.parametrize("wanted", ["", "x", "-1", "1.5", " ", "1e3", "\xb2", "9" * 17, "0x2", "2,2"])
def test_a_version_that_is_no_number(client: FlaskClient, path: str, body: Any, wanted: str) -> None:
    response = client.post(path, json=body, headers={"X-Min-Policy-Version": wanted})
    assert "X-Min-Policy-Version" in problem(response, 400)["detail"]
