"""Checks, one and many."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient
from tests.conftest import Services
from tests.http.shapes import pointers, problem

from policy_engine.http.app import create_app
from policy_engine.service import PolicyService

CHECK, BATCH, LEGACY = "/api/v1/check", "/api/v1/check/batch", "/api/check_policy"
WEB = {"protocol": "tcp", "dst_port": 8080}
SSH = {"protocol": "tcp", "dst_port": 22}
NIGHT, DAY = "2026-01-01T05:00:00Z", "2026-01-01T12:00:00Z"


@pytest.mark.parametrize("path", [CHECK, LEGACY])
@pytest.mark.parametrize(
    ("context", "code", "rule"),
    [(WEB, "rule_allow", 1), (SSH, "rule_deny", 0), ({"protocol": "udp"}, "default_deny", None)],
)
def test_decision(client: FlaskClient, path: str, context: dict[str, Any], code: str, rule: int | None) -> None:
    answer = client.post(path, json={"policy_type": "network_security", "context": context}).get_json()
    ready = client.get("/readyz").get_json()
    assert (answer["reason_code"], answer["rule_index"]) == (code, rule)
    assert answer["allowed"] is (answer["decision"] == "allow") is code.endswith("allow")
    assert answer["policy_id"] == (None if rule is None else "web")
    assert [violation["severity"] for violation in answer["violations"]] == (["high"] if rule == 0 else [])
    assert answer["explanation"] is None
    assert answer["simulated"] is False
    assert answer["policy_version"] == ready["policy_version"]
    assert answer["revision_digest"] == ready["revision_digest"]


@pytest.mark.parametrize(
    ("body", "allowed"),
    [
        ({"type": "network_security", "context": WEB}, True),
        ({"policy_type": "network_security", "type": "nope", "context": WEB}, True),
        ({"policy_type": "network_security", "context": {**WEB, "timestamp": 1.5, "signature": "x"}, "more": 1}, True),
        ({"type": "nope", "context": WEB}, False),
    ],
)
def test_older_callers(client: FlaskClient, body: dict[str, Any], allowed: bool) -> None:  # noqa: FBT001
    assert client.post(LEGACY, json=body).get_json()["allowed"] is allowed


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        (CHECK, {}, ""),
        (CHECK, {"policy_type": "a"}, ""),
        (CHECK, {"context": {}}, ""),
        (CHECK, {"type": "a", "context": {}}, ""),
        (CHECK, [], ""),
        (CHECK, {"policy_type": 5, "context": {}}, "/policy_type"),
        (CHECK, {"policy_type": None, "context": {}}, "/policy_type"),
        (CHECK, {"policy_type": "", "context": {}}, "/policy_type"),
        (CHECK, {"policy_type": "a", "context": None}, "/context"),
        (CHECK, {"policy_type": "a", "context": []}, "/context"),
        (CHECK, {"policy_type": "a", "context": {}, "explain": "yes"}, "/explain"),
        (CHECK, {"policy_type": "a", "context": {}, "at": 5}, "/at"),
        (CHECK, {"policy_type": "a", "context": {}, "at": "noon"}, "/at"),
        (CHECK, {"policy_type": "a", "context": {}, "at": "2026-01-01T12:00:00"}, "/at"),
        (CHECK, {"policy_type": "a", "context": {"a.b": 1}}, "/context/a.b"),
        (CHECK, {"policy_type": "a", "context": {"a": [{"b.c": 1}]}}, "/context/a/0/b.c"),
        (CHECK, {"policy_type": "a", "context": {"src_port": 1, "source_port": 2}}, "/context/source_port"),
        (LEGACY, {"context": {}}, ""),
        (LEGACY, {"type": "a"}, ""),
        (LEGACY, {"type": 5, "context": {}}, "/type"),
        (LEGACY, {"type": "a", "context": None}, "/context"),
        (BATCH, {"policy_type": "a"}, ""),
        (BATCH, {"policy_type": "a", "contexts": {}}, "/contexts"),
        (BATCH, {"policy_type": "a", "contexts": [{}, 5]}, "/contexts/1"),
        (BATCH, {"policy_type": "a", "contexts": [{}, {}, {"x": {"y.z": 1}}]}, "/contexts/2/x/y.z"),
        (BATCH, {"policy_type": "a", "contexts": [{}], "fields": ["allow"]}, "/fields"),
        (BATCH, {"policy_type": "a", "contexts": [{}], "fields": "allowed"}, "/fields"),
        (BATCH, {"policy_type": "a", "contexts": [{}], "at": "2026-01-01T12:00:00"}, "/at"),
    ],
)
def test_refused(client: FlaskClient, service: PolicyService, path: str, body: Any, pointer: str) -> None:
    before = service.events.page()
    assert pointers(client.post(path, json=body)) == [pointer]
    assert service.events.page() == before, "something was decided"


@pytest.mark.parametrize("path", [CHECK, LEGACY])
def test_a_context_at_the_limit_of_nesting(client: FlaskClient, path: str) -> None:
    def nested(depth: int) -> Any:
        return {} if depth == 0 else {"a": nested(depth - 1)}

    statuses = [
        client.post(path, json={"policy_type": "network_security", "context": nested(depth)}).status_code
        for depth in (30, 100)
    ]
    assert statuses == [200, 400]


def test_an_unknown_type_is_denied(client: FlaskClient) -> None:
    answer = client.post(CHECK, json={"policy_type": "nope", "context": {}, "explain": True}).get_json()
    assert answer["reason_code"] == "type_undeclared"
    assert answer["allowed"] is False
    assert answer["explanation"] == []


@pytest.mark.parametrize(("at", "allowed"), [(NIGHT, False), (DAY, True), ("2026-01-01T09:30:00+02:00", False)])
def test_another_time(client: FlaskClient, at: str, allowed: bool) -> None:  # noqa: FBT001
    answer = client.post(CHECK, json={"policy_type": "fl_client_training", "context": {}, "at": at}).get_json()
    assert answer["allowed"] is allowed
    assert answer["simulated"] is True
    assert answer["valid_until"] == answer["timestamp"]


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"])
@pytest.mark.parametrize("path", [CHECK, LEGACY])
def test_a_time_that_no_clock_shows_here_is_refused(client: FlaskClient, path: str, at: str) -> None:
    body = {"policy_type": "fl_client_training", "context": {}, "at": at}
    assert pointers(client.post(path, json=body)) == ["/at"]


def test_the_time_zone_is_a_setting(services: Services) -> None:
    client = create_app(services(timezone="Asia/Tokyo")).test_client()
    body = {"policy_type": "fl_client_training", "context": {}, "at": "2026-01-01T00:00:00Z"}
    assert client.post(CHECK, json=body).get_json()["allowed"] is True, "nine in the morning in Tokyo"


def test_explain(client: FlaskClient) -> None:
    body = {"policy_type": "network_security", "context": {**WEB, "password": "hunter2"}, "explain": True}
    answer = client.post(CHECK, json=body).get_json()
    plain = client.post(CHECK, json={**body, "explain": False}).get_json()
    first, second = answer["explanation"]
    assert (first["status"], second["status"]) == ("not_applied", "applied")
    assert (first["decisive"], second["decisive"]) == (False, True)
    assert second["clauses"][1].items() >= {"key": "dst_port", "actual": 8080, "result": "true"}.items()
    passing = {"decision_id", "request_id", "timestamp", "valid_until", "evaluation_time_ms", "explanation"}
    assert {key: answer[key] for key in answer.keys() - passing} == {key: plain[key] for key in plain.keys() - passing}


@pytest.mark.parametrize(
    "value", [2**53, 2**63, 2**64, -(2**70), 10**400, 1e308, "\u0000", "\U0001f600", [[]], {"a": {}}]
)
def test_odd_values_are_explained(client: FlaskClient, value: Any) -> None:
    body = {"policy_type": "network_security", "context": {"protocol": "tcp", "dst_port": value}, "explain": True}
    response = client.post(CHECK, json=body)
    assert response.status_code == 200, response.text
    assert response.get_json()["allowed"] is False


@pytest.mark.parametrize("path", [CHECK, LEGACY, BATCH])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b'{"policy_type": "\xff", "context": {}}',
        b'{"policy_type": "a", "context": {"\xff": 1}, "contexts": [{"\xff": 1}]}',
        b"{",
        b"null",
        b"[" * 100_000,
        b'{"policy_type":"a","context":' + b'{"a":' * 100_000,
        b'{"policy_type":"a","context":{"a":' + b"[" * 100_000,
        b'{"policy_type":"a","context":{"a":NaN}}',
        b'{"policy_type":"a","context":{"a":"\\ud800"}}',
        b'{"policy_type":"a","context":{"a":' + b"9" * 5000 + b"}}",
        b'{"policy_type":"a","contexts":[{"a":' + b"9" * 5000 + b"}]}",
        b"\xef\xbb\xbf[]",
    ],
)
def test_bodies_that_cannot_be_read(client: FlaskClient, path: str, content: bytes) -> None:
    problem(client.post(path, data=content, content_type="application/json"), 400)


def test_a_pointer_leads_somewhere(client: FlaskClient) -> None:
    content = b'{"policy_type": "a", "context": {"n": ' + b"9" * 5000 + b"}}"
    (place,) = pointers(client.post(CHECK, data=content))
    assert place in {"", "/context", "/context/n"}


def test_an_acronym_keeps_its_letters(client: FlaskClient) -> None:
    assert "jSON" not in problem(client.post(CHECK, data=b"\xff"), 400)["detail"]


def test_any_content_type_will_do(client: FlaskClient) -> None:
    content = b'{"policy_type": "network_security", "context": {"protocol": "tcp", "dst_port": 8080}}'
    for kind in (None, "text/plain", "application/json; charset=utf-8"):
        assert client.post(CHECK, data=content, content_type=kind).get_json()["allowed"] is True


def test_batch(client: FlaskClient) -> None:
    contexts = [WEB, SSH, {"protocol": "udp"}, {}]
    answer = client.post(BATCH, json={"policy_type": "network_security", "contexts": contexts}).get_json()
    codes = [decision["reason_code"] for decision in answer["decisions"]]
    assert codes == ["rule_allow", "rule_deny", "default_deny", "missing_attribute"]
    assert answer["count"] == 4
    assert len({decision["decision_id"] for decision in answer["decisions"]}) == 4
    for decision, context in zip(answer["decisions"], contexts, strict=True):
        one = client.post(CHECK, json={"policy_type": "network_security", "context": context}).get_json()
        assert {key: decision[key] for key in ("reason", "violations", "policy_version", "errors")} == {
            key: one[key] for key in ("reason", "violations", "policy_version", "errors")
        }


@pytest.mark.parametrize("contexts", [[], [{}]])
def test_a_batch_names_its_revision(client: FlaskClient, contexts: list[Any]) -> None:
    answer = client.post(BATCH, json={"policy_type": "nope", "contexts": contexts}).get_json()
    ready = client.get("/readyz").get_json()
    assert answer["count"] == len(contexts)
    assert answer["policy_version"] == ready["policy_version"]
    assert answer["revision_digest"] == ready["revision_digest"]


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("?fields=allowed,reason_code", None),
        ("", ["allowed", "reason_code"]),
        ("?fields=allowed,reason_code", ["errors"]),
    ],
)
def test_a_batch_gives_the_fields_that_are_asked_for(client: FlaskClient, query: str, fields: list[str] | None) -> None:
    body = {"policy_type": "network_security", "contexts": [WEB], "fields": fields}
    answer = client.post(BATCH + query, json=body).get_json()
    assert answer["decisions"] == [{"allowed": True, "reason_code": "rule_allow"}]


def test_a_field_that_does_not_exist(client: FlaskClient) -> None:
    response = client.post(f"{BATCH}?fields=alowed", json={"policy_type": "network_security", "contexts": [WEB]})
    assert problem(response, 400)["errors"][0]["hint"] == "did you mean `allowed`?"


def test_a_batch_explains_all(client: FlaskClient) -> None:
    body = {"policy_type": "network_security", "contexts": [WEB, SSH], "explain": True}
    answer = client.post(BATCH, json=body).get_json()
    decisive = [[trace["decisive"] for trace in decision["explanation"]] for decision in answer["decisions"]]
    assert decisive == [[False, True], [True, False]]


def test_the_size_of_a_batch(client: FlaskClient, service: PolicyService) -> None:
    body = {"policy_type": "network_security", "contexts": [WEB] * 10_000, "fields": ["allowed", "policy_version"]}
    answer = client.post(BATCH, json=body).get_json()
    assert answer["count"] == len(answer["decisions"]) == 10_000
    assert all(
        decision == {"allowed": True, "policy_version": answer["policy_version"]} for decision in answer["decisions"]
    )
    before = service.events.page(limit=1)
    response = client.post(BATCH, json={"policy_type": "network_security", "contexts": [WEB] * 10_001})
    assert pointers(response, 413) == ["/contexts"]
    assert service.events.page(limit=1) == before


def test_how_much_a_batch_explains(client: FlaskClient) -> None:
    rules = [{"action": "allow", "match": {"n": number}} for number in range(30)]
    client.post("/policies", json={"id": "many", "type": "many", "rules": rules})
    body = {"policy_type": "many", "contexts": [{}] * 7000, "explain": True}
    assert pointers(client.post(BATCH, json=body), 413) == ["/explain"]
    assert client.post(BATCH, json={**body, "contexts": [{}] * 10}).status_code == 200


def test_the_batch_limit_is_a_setting(services: Services) -> None:
    client = create_app(services(max_batch=2)).test_client()
    sizes = {2: 200, 3: 413}
    for size, status in sizes.items():
        body = {"policy_type": "network_security", "contexts": [WEB] * size}
        assert client.post(BATCH, json=body).status_code == status
