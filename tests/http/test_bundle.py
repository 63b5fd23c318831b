"""Signed bundles over HTTP: handing one in, and what is said of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from tests.bundle.making import ANN, BEN, EVE, present, public_key
from tests.conftest import Services
from tests.http.shapes import problem

from policy_engine.http.app import create_app
from policy_engine.service import PolicyService

PATH = "/api/v1/bundle"


@pytest.fixture
def signed(services: Services, tmp_path: Path) -> PolicyService:
    """A service that began with a bundle, and takes nothing but bundles."""
    source = tmp_path / "bundle.json"
    source.write_bytes(present())
    keys = (public_key(tmp_path), public_key(tmp_path, BEN))
    return services(bundle_source=str(source), bundle_keys=keys, require_signatures=True)


@pytest.fixture
def client(signed: PolicyService) -> FlaskClient:
    return create_app(signed).test_client()


def post(client: FlaskClient, content: bytes, **headers: str) -> Any:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(PATH, data=content, content_type="application/json", headers=sent)


def test_a_bundle_that_is_handed_in_is_in_force(client: FlaskClient, signed: PolicyService) -> None:
    response = post(client, present(ANN, BEN, version=2, port=443), X_Change_Reason="the web moves")
    assert response.status_code == 200, response.text
    answer = response.get_json()
    assert (answer["success"], answer["policy_version"], answer["bundle"]["version"]) == (True, 2, 2)
    assert answer["bundle"]["signers"] == sorted((ANN.public.key_id, BEN.public.key_id))
    assert signed.check("network_security", {"protocol": "tcp", "dst_port": 443}).allowed
    shown = client.get(PATH).get_json()
    assert shown["active"] == answer["bundle"]
    assert shown["in_force"]
    assert shown["active"]["policies_digest"] == client.get("/readyz").get_json()["revision_digest"]
    revision = client.get("/api/v1/revisions/2").get_json()
    assert revision["source"] == "bundle"
    assert revision["reason"].startswith("the web moves; bundle policies version 2, sha256:")


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (present(EVE, version=2, port=443), "unknown_key"),
        (present(version=1, port=443), "replayed"),
        (present(version=2, port=443, days=-1), "expired"),
        (present(version=2, port=443)[:-2], "malformed"),
        (b"", "malformed"),
    ],
)
def test_a_bundle_that_is_refused(client: FlaskClient, signed: PolicyService, content: bytes, code: str) -> None:
    before = signed.revision
    response = post(client, content)
    problem(response, 422)
    assert response.get_json()["code"] == code
    assert signed.revision is before
    (event,) = signed.events.page(event_types={"BUNDLE_REFUSED"}).events
    assert (event.details["code"], event.details["source"]) == (code, "api")
    assert event.details["author"].startswith("local")
    assert client.get("/readyz").get_json()["status"] == "ready"  # what is in force is not worse for it


def test_another_content_type(client: FlaskClient) -> None:
    problem(client.post(PATH, data=present(version=2), content_type="text/plain"), 415)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/v1/policies", {"type": "network_security", "rules": []}),
        ("PUT", "/api/v1/policies/web", {"priority": 3}),
        ("PUT", "/policies/web", {"type": "network_security", "rules": []}),
        ("DELETE", "/api/v1/policies/web", None),
        ("POST", "/api/v1/policies/web/disable", None),
        ("POST", "/api/v1/revisions/1/rollback", None),
    ],
)
def test_unsigned_changes_are_refused(
    client: FlaskClient, signed: PolicyService, method: str, path: str, body: Any
) -> None:
    assert post(client, present(version=2, port=443)).status_code == 200
    before = signed.revision
    response = client.open(path, method=method, json=body)
    problem(response, 403)
    assert response.get_json()["code"] == "signature_required"
    assert signed.revision is before


def test_what_is_said_without_bundles(services: Services) -> None:
    shown = create_app(services()).test_client().get(PATH).get_json()
    assert (shown["active"], shown["in_force"], shown["source"], shown["trusted_keys"]) == (None, False, None, [])


def test_what_is_said_of_a_source(client: FlaskClient, signed: PolicyService, tmp_path: Path) -> None:
    assert client.get(PATH).get_json()["last_pull"] is not None
    (tmp_path / "bundle.json").write_bytes(present(EVE, version=2))
    signed.bundles.look()
    assert client.get(PATH).get_json()["last_error"]["code"] == "unknown_key"
    reasons = client.get("/readyz").get_json()["reasons"]
    assert [reason["code"] for reason in reasons] == ["bundle_refused"]
