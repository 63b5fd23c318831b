"""Reading and changing policies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from tests.conftest import Services
from tests.http.shapes import pointers, problem

from policy_engine.http.app import create_app
from policy_engine.service import PolicyService

RULES = [{"action": "allow", "description": "dns", "match": {"protocol": "udp", "dst_port": 53}, "parameters": None}]
FLAT = {"type": "network_security", "name": "dns", "rules": RULES}

BODIES: dict[str, tuple[dict[str, Any], str | None]] = {
    "flat": (FLAT, None),
    "flat with an id": ({**FLAT, "id": "dns"}, "dns"),
    "older": ({"type": "network_security", "data": FLAT}, None),
    "older with an id inside": ({"type": "network_security", "data": {**FLAT, "id": "dns"}}, "dns"),
    "older with an id outside": ({"id": "dns", "data": FLAT}, "dns"),
    "older, type outside alone": ({"type": "network_security", "data": {"rules": RULES}}, None),
}


def version(client: FlaskClient) -> int:
    found: int = client.get("/readyz").get_json()["policy_version"]
    return found


def test_both_lists(client: FlaskClient) -> None:
    listed = client.get("/api/v1/policies").get_json()
    assert [policy["id"] for policy in listed] == ["night", "start", "web"]
    assert client.get("/policies").get_json() == {"policies": {policy["id"]: policy for policy in listed}}
    assert listed[0].items() >= {"name": "night", "priority": 100, "enabled": True, "description": ""}.items()


@pytest.mark.parametrize(("wanted", "found"), [("network_security", ["web"]), ("nope", []), ("", [])])
def test_lists_of_one_type(client: FlaskClient, wanted: str, found: list[str]) -> None:
    assert [
        policy["id"] for policy in client.get("/api/v1/policies", query_string={"type": wanted}).get_json()
    ] == found
    assert list(client.get("/policies", query_string={"type": wanted}).get_json()["policies"]) == found


@pytest.mark.parametrize("path", ["/policies", "/api/v1/policies"])
@pytest.mark.parametrize("about", BODIES)
def test_create(client: FlaskClient, path: str, about: str) -> None:
    body, policy_id = BODIES[about]
    before = version(client)
    response = client.post(path, json=body)
    answer = response.get_json()
    assert response.status_code == 201
    assert answer["success"] is True
    assert answer["id"] == policy_id if policy_id else answer["id"].startswith("network_security-")
    assert answer["policy_version"] == answer["policy"]["version"] == version(client) == before + 1
    assert response.headers["Location"] == f"/api/v1/policies/{answer['id']}"
    policy = client.get(response.headers["Location"]).get_json()
    assert policy == answer["policy"] == client.get(f"/policies/{answer['id']}").get_json()
    assert policy["rules"] == RULES
    assert policy["created_at"] == policy["updated_at"] > 1e9
    check = {"policy_type": "network_security", "context": {"protocol": "udp", "dst_port": 53}}
    assert client.post("/api/v1/check", json=check).get_json()["policy_id"] == answer["id"]


def test_made_ids_differ(client: FlaskClient) -> None:
    made = {
        client.post("/policies", json={**FLAT, "type": kind}).get_json()["id"]
        for kind in ("a b", "", "é", "x" * 128) * 2
        if kind
    }
    assert len(made) == 6


def test_an_id_that_is_taken(client: FlaskClient) -> None:
    before = client.get("/policies").get_json(), version(client)
    document = problem(client.post("/policies", json={**FLAT, "id": "web"}), 409)
    assert "`web`" in document["detail"]
    assert (client.get("/policies").get_json(), version(client)) == before


@pytest.mark.parametrize(
    "body",
    [
        {"type": "a", "data": FLAT},
        {"id": "a", "data": {**FLAT, "id": "b"}},
        {"type": "network_security", "data": []},
        {"type": "network_security", "data": "x"},
        {"type": "network_security", "data": FLAT, "priority": 5},
    ],
)
def test_older_bodies_that_contradict_themselves(client: FlaskClient, body: dict[str, Any]) -> None:
    problem(client.post("/api/v1/policies", json=body), 400)


def test_merge(client: FlaskClient) -> None:
    path = "/api/v1/policies/web"
    before = client.get(path).get_json()
    assert "created_at" not in before
    first = client.put(path, json={"priority": 5, "tags": ["a"], "version": 99, "created_at": 1, "updated_at": 1})
    assert first.status_code == 200
    after = first.get_json()["policy"]
    assert {**before, "priority": 5, "tags": ["a"]}.items() <= after.items()
    assert after["version"] == version(client) != 99
    assert after["created_at"] > 1
    second = client.put(path, json={"description": None, "tags": None}).get_json()["policy"]
    assert "tags" not in second
    assert second["description"] == ""
    assert second["priority"] == 5
    assert second["created_at"] == after["created_at"]
    assert client.get(path).get_json() == second


@pytest.mark.parametrize(("field", "pointer"), [("type", ""), ("rules", "")])
def test_merge_cannot_remove_what_a_policy_needs(client: FlaskClient, field: str, pointer: str) -> None:
    assert pointers(client.put("/api/v1/policies/web", json={field: None})) == [pointer]


def test_replace(client: FlaskClient) -> None:
    after = client.put("/policies/web", json={**FLAT, "created_at": 1, "version": 99}).get_json()["policy"]
    assert after["name"] == "dns"
    assert after["rules"] == RULES
    assert after["id"] == "web"
    assert after["priority"] == 100
    assert after["version"] == version(client) != 99
    assert after["created_at"] > 1
    assert client.get("/policies/web").get_json() == after


@pytest.mark.parametrize("path", ["/policies/web", "/api/v1/policies/web"])
def test_an_id_does_not_change(client: FlaskClient, path: str) -> None:
    assert pointers(client.put(path, json={**FLAT, "id": "other"})) == ["/id"]
    assert client.get("/policies/other").status_code == 404


@pytest.mark.parametrize("path", ["/policies/web", "/api/v1/policies/web"])
def test_delete(client: FlaskClient, path: str) -> None:
    before = version(client)
    answer = client.delete(path).get_json()
    assert answer == {"success": True, "id": "web", "deleted": True, "policy_version": before + 1}
    problem(client.get(path), 404)
    problem(client.delete(path), 404)
    assert version(client) == before + 1
    check = {"policy_type": "network_security", "context": {"protocol": "tcp", "dst_port": 8080}}
    assert client.post("/api/v1/check", json=check).get_json()["reason_code"] == "default_deny"


def test_enable_and_disable(client: FlaskClient, service: PolicyService) -> None:
    start = version(client)
    steps = [
        ("enable", True, 0),
        ("disable", False, 1),
        ("disable", False, 1),
        ("enable", True, 2),
        ("enable", True, 2),
    ]
    for verb, enabled, rise in steps:
        answer = client.post(f"/api/v1/policies/web/{verb}").get_json()
        assert answer["policy"]["enabled"] is enabled
        assert answer["policy_version"] == version(client) == start + rise
        check = {"policy_type": "network_security", "context": {"protocol": "tcp", "dst_port": 8080}}
        assert client.post("/api/v1/check", json=check).get_json()["allowed"] is enabled
    types = [event.event_type for event in service.events.page().events]
    assert types.count("POLICY_DISABLED") == types.count("POLICY_ENABLED") == 1


def test_a_new_type_denies_until_a_rule_allows(client: FlaskClient) -> None:
    check = {"policy_type": "door", "context": {"who": "me"}}
    assert client.post("/api/v1/check", json=check).get_json()["reason_code"] == "type_undeclared"
    client.post(
        "/policies", json={"id": "door", "type": "door", "rules": [{"action": "allow", "match": {"who": "you"}}]}
    )
    assert client.post("/api/v1/check", json=check).get_json()["reason_code"] == "default_deny"
    client.put("/api/v1/policies/door", json={"rules": [{"action": "allow", "match": {"who": "me"}}]})
    assert client.post("/api/v1/check", json=check).get_json()["reason_code"] == "rule_allow"


VALIDATE = "/api/v1/policies/validate"


@pytest.mark.parametrize(
    "body",
    [
        FLAT,
        {"policy_data": FLAT},
        {"data": FLAT},
        {"type": "network_security", "data": FLAT},
        {"version": 1, "policies": [{**FLAT, "id": "a"}]},
    ],
    ids=["flat", "policy_data", "data", "type and data", "file"],
)
def test_validate(client: FlaskClient, service: PolicyService, body: dict[str, Any]) -> None:
    before = client.get("/policies").get_json(), version(client), service.events.page()
    assert client.post(VALIDATE, json=body).get_json() == {"valid": True, "issues": [], "warnings": [], "errors": []}
    assert (client.get("/policies").get_json(), version(client), service.events.page()) == before


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({**FLAT, "prio": 1}, "/prio"),
        ({"policy_data": {**FLAT, "priority": "high"}}, "/priority"),
        ({"data": {**FLAT, "rules": [5]}}, "/rules/0"),
        ({"policies": {"a": {**FLAT, "rules": [{"action": "denny"}]}}}, "/policies/a/rules/0/action"),
        ({"policies": [{**FLAT, "id": "a"}, {**FLAT, "id": "a"}]}, "/policies/1"),
    ],
)
def test_validate_finds(client: FlaskClient, body: dict[str, Any], pointer: str) -> None:
    response = client.post(VALIDATE, json=body)
    answer = response.get_json()
    assert response.status_code == 200
    assert answer["valid"] is False
    assert [item["pointer"] for item in answer["errors"]] == [pointer]
    assert len(answer["issues"]) == 1
    assert answer["issues"][0].startswith(pointer)


def test_validate_warns(client: FlaskClient) -> None:
    answer = client.post(VALIDATE, json={**FLAT, "type": "unheard_of"}).get_json()
    assert answer["valid"] is True
    assert "unheard_of" in answer["warnings"][0]


def test_validate_judges_a_policy_by_the_types_it_would_live_with(
    services: Services, policy_file: Path, document: dict[str, Any]
) -> None:
    document["types"] = {"door": {"default": "deny", "attributes": {"floor": "int"}}}
    policy_file.write_text(json.dumps(document))
    client = create_app(services()).test_client()
    policy = {"type": "door", "rules": [{"action": "allow", "match": {"condition": "floor > 3"}}]}
    assert client.post(VALIDATE, json=policy).get_json()["warnings"] == []


def test_the_older_body_is_validated_as_it_is_created(client: FlaskClient) -> None:
    body = {"type": "fl_security", "data": {"rules": []}}
    answer = client.post("/api/v1/policies/validate", json=body).get_json()
    assert answer["valid"], answer


def test_a_type_that_no_request_could_name_is_refused(client: FlaskClient) -> None:
    answer = client.post("/api/v1/policies/validate", json={**FLAT, "type": "x" * 129}).get_json()
    assert [item["pointer"] for item in answer["errors"]] == ["/type"]
