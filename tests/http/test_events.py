"""Events over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from tests.http.logged import post
from tests.http.shapes import pointers, problem
from werkzeug.test import TestResponse

from policy_engine.http.app import create_app
from policy_engine.model.event import EVENT_TYPES
from policy_engine.service import PolicyService

RULE = {"action": "allow", "match": {"protocol": "udp"}}


def events(client: FlaskClient, **query: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get("/events", query_string=query).get_json()["events"]
    return found


def check(client: FlaskClient, policy_type: str, context: dict[str, Any], **more: Any) -> None:
    client.post("/api/v1/check", json={"policy_type": policy_type, "context": context, **more})


def test_shape_and_order(client: FlaskClient) -> None:
    client.post("/policies", json={"id": "new", "type": "network_security", "rules": [RULE]})
    client.put("/policies/new", json={"type": "network_security", "rules": [RULE, RULE]})
    client.post("/api/v1/policies/new/disable")
    client.post("/api/v1/policies/new/enable")
    client.delete("/policies/new")
    page = client.get("/events").get_json()
    types = [event["event_type"] for event in page["events"]]
    changes = [f"POLICY_{verb}" for verb in ("CREATED", "UPDATED", "DISABLED", "ENABLED", "DELETED")]
    assert types == ["ENGINE_START", *["POLICY_LOADED"] * 3, *changes]
    assert page["total"] == len(types)
    assert page["last_event_id"] == page["events"][-1]["event_id"]
    assert page["gap"] is False
    for event in page["events"]:
        assert event.keys() == {"event_id", "timestamp", "source_component", "event_type", "details"}
        assert event["source_component"] == "POLICY_ENGINE"
        assert str(UUID(event["event_id"])) == event["event_id"]
        assert datetime.fromisoformat(event["timestamp"]).utcoffset() == timedelta(0)
        assert isinstance(event["details"], dict)
    versions = [event["details"]["policy_version"] for event in page["events"]]
    assert versions == sorted(versions)
    assert page["events"][1]["details"]["source"].endswith("policies.json")
    assert all(event["details"]["policy_id"] == "new" for event in page["events"][4:])


@pytest.mark.parametrize(
    ("policy_type", "context", "more", "expected"),
    [
        ("network_security", {"protocol": "tcp", "dst_port": 22}, {}, "POLICY_VIOLATION"),
        ("network_security", {"protocol": "tcp", "dst_port": "x"}, {}, "POLICY_VIOLATION"),
        ("network_security", {"protocol": "tcp", "dst_port": 8080}, {}, "POLICY_APPLIED"),
        ("network_security", {"protocol": "tcp"}, {}, "POLICY_APPLIED"),
        ("network_security", {}, {}, "POLICY_APPLIED"),
        ("nope", {}, {}, "POLICY_APPLIED"),
        ("fl_client_training", {}, {"at": "2026-01-01T05:00:00Z"}, "POLICY_APPLIED"),
        ("network_security", {"protocol": "tcp", "dst_port": 22}, {"at": "2026-01-01T05:00:00Z"}, "POLICY_APPLIED"),
    ],
    ids=["rule", "rule in error", "allowed", "default", "missing", "undeclared", "simulated", "rule, simulated"],
)
def test_what_is_a_violation(
    client: FlaskClient, policy_type: str, context: dict[str, Any], more: dict[str, Any], expected: str
) -> None:
    check(client, policy_type, context, **more)
    event = events(client)[-1]
    assert event["event_type"] == expected
    assert event["details"]["simulated"] is bool(more)
    assert event["details"]["policy_type"] == policy_type
    if expected == "POLICY_VIOLATION":
        assert event["details"]["violations"][0]["severity"] == "high"
    assert "context" not in event["details"]


def test_a_batch_leaves_an_event_for_each(client: FlaskClient) -> None:
    contexts = [{"protocol": "tcp", "dst_port": port} for port in (22, 8080, 22)]
    client.post("/api/v1/check/batch", json={"policy_type": "network_security", "contexts": contexts})
    types = [event["event_type"] for event in events(client)][-3:]
    assert types == ["POLICY_VIOLATION", "POLICY_APPLIED", "POLICY_VIOLATION"]


@pytest.mark.parametrize("name", ["event_type", "type"])
def test_filter(client: FlaskClient, name: str) -> None:
    check(client, "network_security", {"protocol": "tcp", "dst_port": 22})
    assert [event["event_type"] for event in events(client, **{name: "POLICY_VIOLATION,ENGINE_START"})] == [
        "ENGINE_START",
        "POLICY_VIOLATION",
    ]
    assert events(client, **{name: "POLICY_DELETED"}) == []


def test_every_type_can_be_asked_for(client: FlaskClient) -> None:
    for event_type in EVENT_TYPES:
        assert client.get("/events", query_string={"event_type": event_type}).status_code == 200


def test_an_unknown_type(client: FlaskClient) -> None:
    response = client.get("/events?event_type=POLICY_VIOLATIONS")
    assert pointers(response) == ["/event_type"]
    assert problem(response, 400)["errors"][0]["hint"] == "did you mean `POLICY_VIOLATION`?"


@pytest.mark.parametrize("limit", ["0", "-1", "1.5", "ten", "\u0663", "9" * 30, "1e3", " 5"])
def test_a_limit_that_is_none(client: FlaskClient, limit: str) -> None:
    assert pointers(client.get("/events", query_string={"limit": limit})) == ["/limit"]


@pytest.mark.parametrize(("limit", "count"), [("1", 1), ("3", 3), ("004", 4), ("999999999", 4), ("", 4)])
def test_limit(client: FlaskClient, limit: str, count: int) -> None:
    page = client.get("/events", query_string={"limit": limit}).get_json()
    assert len(page["events"]) == count
    assert page["last_event_id"] == page["events"][-1]["event_id"]
    assert page["total"] == 4


def test_following(client: FlaskClient) -> None:
    everything = events(client)
    seen = []
    cursor = None
    for _ in everything:
        page = client.get(
            "/events", query_string={"limit": 1, **({"since_event_id": cursor} if cursor else {})}
        ).get_json()
        seen += page["events"]
        cursor = page["last_event_id"]
        assert page["gap"] is False
    assert seen == everything
    page = client.get("/events", query_string={"since_event_id": cursor}).get_json()
    assert page == {"events": [], "total": 4, "last_event_id": cursor, "gap": False}


@pytest.mark.parametrize("cursor", ["nope", "00000000-0000-0000-0000-000000000000", "x" * 5000])
def test_an_unknown_cursor_starts_at_the_oldest(client: FlaskClient, cursor: str) -> None:
    page = client.get("/events", query_string={"since_event_id": cursor}).get_json()
    assert page["gap"] is True
    assert page["events"] == events(client)


def follow(client: FlaskClient, cursor: str) -> list[dict[str, Any]]:
    """All events behind a cursor, page by page."""
    seen: list[dict[str, Any]] = []
    while True:
        page = client.get("/events", query_string={"since_event_id": cursor}).get_json()
        assert page["gap"] is False
        seen += page["events"]
        cursor = page["last_event_id"]
        if not page["events"]:
            return seen


def test_what_has_left_the_memory_is_read_from_the_store(client: FlaskClient) -> None:
    first = events(client)[0]["event_id"]
    batch = {"policy_type": "network_security", "contexts": [{"protocol": "udp"}] * 1100}
    post(client, "/api/v1/check/batch", batch)
    decision = events(client, event_type="POLICY_APPLIED")[0]["event_id"]
    post(client, "/api/v1/check/batch", batch)
    everything = follow(client, first)
    assert [event["event_type"] for event in everything] == ["POLICY_LOADED"] * 3 + ["POLICY_APPLIED"] * 2200
    assert len({event["event_id"] for event in everything}) == len(everything)
    later = follow(client, decision)
    assert later == everything[-len(later) :]
    assert len(later) >= 1100
    assert len(events(client, event_type="POLICY_LOADED")) == 3, "decisions do not crowd out management"


def until_taken(send: Callable[..., TestResponse], path: str, **arguments: Any) -> None:
    """Send a change again while the service answers that another change is under way."""
    for _ in range(100):
        response = send(path, **arguments)
        if response.status_code != 503:
            assert response.status_code in (200, 201), response.text
            return
        assert response.headers["Retry-After"]
    raise AssertionError("the service stayed busy")


def test_following_while_others_write(service: PolicyService) -> None:
    app = create_app(service)

    def change(name: str) -> None:
        client = app.test_client()
        for number in range(20):
            policy_id = f"{name}-{number}"
            until_taken(client.post, "/policies", json={"id": policy_id, "type": "network_security", "rules": [RULE]})
            check(client, "network_security", {"protocol": "tcp", "dst_port": 22})
            until_taken(client.delete, f"/policies/{policy_id}")

    def follow(limit: int, types: str) -> list[str]:
        client = app.test_client()
        seen: list[str] = []
        cursor = None
        while True:
            last = all(writer.done() for writer in writers)
            query = {"limit": limit, "event_type": types, **({"since_event_id": cursor} if cursor else {})}
            page = client.get("/events", query_string=query).get_json()
            assert page["gap"] is False
            seen += [event["event_id"] for event in page["events"]]
            cursor = page["last_event_id"]
            if last and not page["events"]:
                return seen

    filters = ["", "POLICY_CREATED,POLICY_DELETED", "POLICY_VIOLATION"]
    with ThreadPoolExecutor() as pool:
        writers = [pool.submit(change, name) for name in ("a", "b", "c")]
        readers = [pool.submit(follow, limit, types) for limit, types in zip((3, 2, 5), filters, strict=True)]
        for writer in writers:
            writer.result()
        followed = [reader.result() for reader in readers]
    client = app.test_client()
    for seen, types in zip(followed, filters, strict=True):
        assert seen == [event["event_id"] for event in events(client, event_type=types)]
    assert len(followed[0]) == 4 + 3 * 20 * 3
