"""Health in this process; the real ports are tested with the real service."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from policy_engine.service import PolicyService


def test_health(client: FlaskClient, service: PolicyService) -> None:
    answer = client.get("/health").get_json()
    assert answer["status"] == "healthy"
    assert answer["version"] == service.revision.version
    assert abs(datetime.fromisoformat(answer["timestamp"]) - datetime.now(UTC)) < timedelta(minutes=1)


def test_live(client: FlaskClient) -> None:
    assert client.get("/livez").get_json() == {"status": "alive"}


def test_ready(client: FlaskClient, service: PolicyService) -> None:
    assert client.get("/readyz").get_json() == {
        "status": "ready",
        "reasons": [],
        "policy_version": service.revision.version,
        "revision_digest": service.revision.digest,
        "policies": 3,
        "rules": 4,
    }


def test_degraded_is_not_down(client: FlaskClient, service: PolicyService, policy_file: Path) -> None:
    policy_file.write_text('{"policies": [{"id": "a", "type": "b", "rules": [{"action": "denny"}]}]}')
    service.reload()
    answer = client.get("/readyz")
    assert answer.status_code == 200
    (reason,) = answer.get_json()["reasons"]
    assert answer.get_json()["status"] == "degraded"
    assert reason["code"] == "reload_failed"
    assert str(policy_file) in reason["detail"]
    assert reason["errors"] == [
        {
            "pointer": "/policies/0/rules/0/action",
            "detail": 'unknown action `"denny"`',
            "hint": "did you mean `deny`?",
        }
    ]
    assert datetime.fromisoformat(reason["since"]).utcoffset() == timedelta(0)
    assert client.get("/health").get_json()["status"] == "healthy"
    service.reload()
    assert client.get("/readyz").get_json()["reasons"][0]["since"] == reason["since"]


@pytest.mark.parametrize("field", [{"function_id": "f"}, {"function_code": "def f(context): return x"}])
def test_a_policy_whose_function_cannot_run_is_named(
    client: FlaskClient, service: PolicyService, policy_file: Path, field: dict[str, str]
) -> None:
    policy_file.write_text(json.dumps({"policies": [{"id": "fun", "type": "door", **field}]}))
    service.reload()
    (reason,) = client.get("/readyz").get_json()["reasons"]
    assert reason["code"] == "function_unavailable"
    assert "`fun`" in reason["detail"]
    body = {"policy_type": "door", "context": {}}
    assert client.post("/api/v1/check", json=body).get_json()["reason_code"] == "function_error"
    client.post("/api/v1/policies/fun/disable")
    assert client.get("/readyz").get_json()["status"] == "ready"
