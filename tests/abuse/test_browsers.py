"""What browsers may do: pages of other origins nothing, unless they are named; and no answer is a page."""

from __future__ import annotations

import pytest
from tests.conftest import Services
from tests.http.shapes import routes
from tests.http.test_routes import CASES, PLACEHOLDER

from policy_engine.config import load_settings
from policy_engine.http.app import create_app
from policy_engine.model.errors import SettingsError
from policy_engine.service import PolicyService

PAGE = "https://dashboard.example:8443"
WEB = {"policy_type": "network_security", "context": {"protocol": "tcp", "dst_port": 8080}}
PREFLIGHT = {"Origin": PAGE, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
PATHS = ("/api/v1/check", "/api/v1/policies", "/events", "/nope")


def test_off_by_default(service: PolicyService) -> None:
    client = create_app(service).test_client()
    for path in PATHS:
        for method, headers in (("GET", {"Origin": PAGE}), ("POST", {"Origin": PAGE}), ("OPTIONS", PREFLIGHT)):
            answer = client.open(path, method=method, headers=headers)
            assert not [name for name in answer.headers.keys() if name.startswith("Access-Control")]  # noqa: SIM118


def test_named_origins(services: Services) -> None:
    client = create_app(services(cors_origins=(PAGE,))).test_client()
    for path in PATHS:
        answer = client.options(path, headers=PREFLIGHT)
        assert (answer.status_code, answer.data) == (204, b"")
        assert answer.headers["Access-Control-Allow-Origin"] == PAGE
        assert "POST" in answer.headers["Access-Control-Allow-Methods"]
        assert {"Content-Type", "Authorization"} <= set(answer.headers["Access-Control-Allow-Headers"].split(", "))
    checked = client.post("/api/v1/check", json=WEB, headers={"Origin": PAGE})
    assert checked.get_json()["allowed"] is True
    for answer in (checked, client.get("/api/v1/policies", headers={"Origin": PAGE})):
        assert answer.headers["Access-Control-Allow-Origin"] == PAGE
        assert "X-Request-ID" in answer.headers["Access-Control-Expose-Headers"]
        assert "Access-Control-Allow-Credentials" not in answer.headers
        assert "Origin" in answer.headers["Vary"]


@pytest.mark.parametrize(
    "origin",
    ["https://dashboard.example", "http://dashboard.example:8443", f"{PAGE}.evil.example", "null", "", f"{PAGE}/"],
)
def test_other_origins(services: Services, origin: str) -> None:
    client = create_app(services(cors_origins=(PAGE,))).test_client()
    for answer in (
        client.get("/api/v1/policies", headers={"Origin": origin}),
        client.options("/api/v1/check", headers={**PREFLIGHT, "Origin": origin}),
    ):
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert "Origin" in answer.headers["Vary"]


def test_a_named_origin_changes_nothing_without_a_key(services: Services) -> None:
    client = create_app(services(cors_origins=(PAGE,), admin_key="k")).test_client()
    assert client.post("/api/v1/policies/web/disable", headers={"Origin": PAGE}).status_code == 403
    assert client.post("/api/v1/policies/web/disable", headers={"Origin": PAGE, "X-API-Key": "k"}).status_code == 200


def test_origins_that_are_none() -> None:
    for text in ("*", "https://*.example", "dashboard.example", "https://a.example/", "https://a.example/x", "null"):
        with pytest.raises(SettingsError, match="is not an origin"):
            load_settings({"POLICY_CORS_ORIGINS": text})
    loaded = load_settings({"POLICY_CORS_ORIGINS": f"{PAGE}, http://localhost:3000,http://[::1]:80"})
    assert loaded.settings.cors_origins == (PAGE, "http://localhost:3000", "http://[::1]:80")


def test_no_answer_is_a_page(service: PolicyService) -> None:
    app = create_app(service)
    client = app.test_client()
    for method, rule in routes(app):
        case = CASES.get(f"{method} {rule.rule}")
        for path in {PLACEHOLDER.sub("2", rule.rule), "/nope"}:
            body = case.body if case else None
            sent = {"data": body} if isinstance(body, bytes) else {"json": body}
            answer = client.open(path, method=method, **sent)
            assert answer.headers["X-Content-Type-Options"] == "nosniff", path
            assert "html" not in (answer.mimetype or "") or answer.headers["Content-Security-Policy"].startswith(
                "default-src"
            )
    answer = client.get("/api/v1/policies")
    assert answer.headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
