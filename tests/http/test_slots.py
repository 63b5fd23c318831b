"""Requests that wait for the store leave a thread to checks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event
from time import monotonic
from typing import Any

import pytest
from tests.conftest import Services
from tests.http.shapes import problem

from policy_engine.http.app import create_app
from policy_engine.service import PolicyService

POLICY = {"type": "network_security", "rules": [{"action": "allow", "match": {"protocol": "udp"}}]}


class Stuck:
    """A store that does not answer until it is told to."""

    def __init__(self, service: PolicyService, monkeypatch: pytest.MonkeyPatch) -> None:
        self.inside, self.go_on = Event(), Event()
        self._page = service.store.decisions.page
        monkeypatch.setattr(service.store.decisions, "page", self.page)

    def page(self, *arguments: Any, **options: Any) -> Any:
        self.inside.set()
        assert self.go_on.wait(10)
        return self._page(*arguments, **options)


def test_one_request_too_many_is_told_to_try_again(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    service = services(threads=2)
    app, stuck = create_app(service), Stuck(service, monkeypatch)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(app.test_client().get, "/api/v1/decisions")
        try:
            assert stuck.inside.wait(10)
            client = app.test_client()
            for response in (
                client.get("/api/v1/revisions"),
                client.get("/events"),
                client.post("/api/v1/policies", json={"id": "new", **POLICY}),
            ):
                assert "try again" in problem(response, 503)["detail"]
                assert response.headers["Retry-After"] == "1"
            began = monotonic()
            for path in ("/health", "/livez", "/readyz", "/api/v1/policies"):
                assert client.get(path).status_code == 200
            check = {"policy_type": "network_security", "context": {"protocol": "udp"}}
            assert client.post("/api/v1/check", json=check).status_code == 200
            assert monotonic() - began < 5, "none of them waits for the store"
        finally:
            stuck.go_on.set()
        assert first.result().status_code == 200
    assert client.get("/api/v1/revisions").status_code == 200, "the slot is free again"
    assert client.post("/api/v1/policies", json={"id": "new", **POLICY}).status_code == 201


def test_a_slot_is_given_back_after_an_error(services: Services) -> None:
    client = create_app(services(threads=2)).test_client()
    for _ in range(5):
        problem(client.get("/api/v1/revisions/99"), 404)
        problem(client.get("/api/v1/decisions?limit=x"), 400)
        problem(client.post("/api/v1/policies", data="{"), 415)
    assert client.get("/api/v1/revisions").status_code == 200
