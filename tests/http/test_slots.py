"""Changes that wait for the database leave a thread to checks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest
from tests.conftest import Services
from tests.http.shapes import problem

from policy_engine.http.app import create_app

POLICY = {"type": "network_security", "rules": [{"action": "allow", "match": {"protocol": "udp"}}]}
CHECK = {"policy_type": "network_security", "context": {"protocol": "udp"}}


def test_one_change_too_many_is_told_to_try_again(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    service = services(threads=2)
    app, inside, go_on = create_app(service), Event(), Event()
    transact = service.store.writer.transact

    def stuck(*arguments: Any) -> Any:
        inside.set()
        assert go_on.wait(10)
        return transact(*arguments)

    monkeypatch.setattr(service.store.writer, "transact", stuck)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(app.test_client().post, "/api/v1/policies", json={"id": "one", **POLICY})
        try:
            assert inside.wait(10)
            client = app.test_client()
            response = client.post("/api/v1/policies", json={"id": "two", **POLICY})
            assert "try again" in problem(response, 503)["detail"]
            assert response.headers["Retry-After"] == "1"
            for path in ("/health", "/readyz", "/api/v1/policies", "/api/v1/decisions", "/events"):
                assert client.get(path).status_code == 200
            assert client.post("/api/v1/check", json=CHECK).status_code == 200
        finally:
            go_on.set()
        assert first.result().status_code == 201
    assert client.post("/api/v1/policies", json={"id": "two", **POLICY}).status_code == 201


def test_a_slot_is_given_back_after_an_error(services: Services) -> None:
    client = create_app(services(threads=2)).test_client()
    for _ in range(5):
        problem(client.post("/api/v1/policies", data="{"), 415)
    assert client.post("/api/v1/policies", json={"id": "two", **POLICY}).status_code == 201
