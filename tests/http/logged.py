"""Checks whose decisions are in the log when they return."""

from __future__ import annotations

from typing import Any

from flask.testing import FlaskClient
from tests.store.stores import flush

from policy_engine.service import PolicyService


def service_of(client: FlaskClient) -> PolicyService:
    found: PolicyService = client.application.extensions["policy_service"]
    return found


def post(client: FlaskClient, path: str, body: dict[str, Any]) -> Any:
    """Post a check, wait until everything is stored, however busy this machine is, and return the answer."""
    response = client.post(path, json=body)
    assert response.status_code == 200, response.text
    flush(service_of(client).store)
    return response.get_json()
