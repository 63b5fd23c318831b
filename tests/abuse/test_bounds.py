"""Requests that are too much, in head, body, nesting, batch or page: each is refused, and the service goes on."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from tests.http.shapes import problem, routes
from tests.http.test_routes import CASES, PLACEHOLDER
from tests.service.running import DEADLINE_SECONDS, Running

from policy_engine.http.app import create_app
from policy_engine.service import PolicyService

DEEP = {
    "arrays": b"[" * 200_000,
    "objects": b'{"a":' * 200_000,
    "closed": b"[" * 100_000 + b"]" * 100_000,
    "in a context": b'{"policy_type": "network_security", "context": {"a": ' + b"[" * 5000 + b"]" * 5000 + b"}}",
    "in a policy": b'{"id": "x", "type": "security", "rules": ' + b"[" * 5000 + b"]" * 5000 + b"}",
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    started = Running.start(tmp_path_factory.mktemp("bounds"), {"POLICY_MAX_BODY_BYTES": "200000"})
    yield started
    started.stop()


def statuses(running: Running, port: int, *heads: bytes) -> list[bytes]:
    """Send raw heads, each over a connection of its own, and return the statuses; nothing where it was hung up."""
    found = []
    for head in heads:
        with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_SECONDS) as connection:
            try:
                connection.sendall(head)
                answer = connection.recv(4096)
            except ConnectionError:
                answer = b""
        found.append(answer.split(b" ")[1] if b" " in answer else b"")
    assert running.alive()
    return found


START = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"


def test_heads(running: Running) -> None:
    long = START + b"X-Long: " + b"a" * 300_000 + b"\r\n\r\n"
    many = START + b"".join(b"X-%d: 1\r\n" % number for number in range(200)) + b"\r\n"
    query = b"GET /livez?" + b"a=1&" * 30_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"
    usual = START + b"X-Long: " + b"a" * 20_000 + b"\r\nConnection: close\r\n\r\n"
    *refused, passed = statuses(running, running.port, long, many, query, usual)
    assert set(refused) <= {b"431", b"414", b"400", b""}
    assert passed == b"200"
    assert set(statuses(running, running.stream_port, long, query)) <= {b"431", b"400", b""}


def test_the_second_version_of_http_is_not_spoken(running: Running) -> None:
    (answer,) = statuses(running, running.port, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
    assert answer in {b"400", b"505", b""}


@pytest.mark.parametrize("about", DEEP)
def test_nesting(service: PolicyService, about: str) -> None:
    app = create_app(service)
    client = app.test_client()
    for method, rule in routes(app):
        if method not in {"POST", "PUT"} or rule.endpoint in {"policies.enable_policy", "policies.disable_policy"}:
            continue
        path = PLACEHOLDER.sub("web", rule.rule)
        answer = client.open(path, method=method, data=DEEP[about], content_type="application/json")
        assert answer.status_code in {200, 202, 400, 404, 422}, (path, answer.text)
        if answer.status_code != 202 and "validate" not in path:
            problem(answer, answer.status_code)


def test_bodies(running: Running) -> None:
    body = b" " * 300_000
    for route in CASES:
        method, path = route.split(maxsplit=1)
        if method in {"POST", "PUT"} and CASES[route].body is not None:
            assert running.request(method, PLACEHOLDER.sub("web", path), body).status == 413, path
    assert running.alive()


PAGES = [
    ("/events", "events", 2000),
    ("/api/v1/decisions", "decisions", 1000),
    ("/api/v1/revisions", "revisions", 1000),
    ("/api/v1/trust", "clients", 1000),
    ("/api/v1/privacy", "clients", 1000),
]


@pytest.mark.parametrize(("path", "member", "most"), PAGES)
def test_pages(service: PolicyService, path: str, member: str, most: int) -> None:
    for _ in range(4):
        service.check_many("network_security", [{"protocol": "tcp"}] * 600)
    client = create_app(service).test_client()
    answer = client.get(f"{path}?limit=1000000000000000")
    assert answer.status_code == 200
    assert len(answer.get_json()[member]) <= most
    problem(client.get(f"{path}?limit={'9' * 40}"), 400)


def test_batches(service: PolicyService) -> None:
    client = create_app(service).test_client()
    sent = {"policy_type": "network_security", "contexts": [{}] * (service.settings.max_batch + 1)}
    problem(client.post("/api/v1/check/batch", json=sent), 413)
