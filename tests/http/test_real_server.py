"""What only the real server can show: its ports, its body handling, its end."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from tests.conftest import DOCUMENT, Processes
from tests.service.running import DEADLINE_SECONDS, Running, eventually

LIMIT = 200_000
ALLOWED = {"policy_type": "network_security", "context": {"protocol": "tcp", "dst_port": 8080}}
POLICY = {"id": "sent", "type": "network_security", "rules": [{"action": "allow", "match": {"protocol": "udp"}}]}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("server")
    policy_file = directory / "policies.json"
    policy_file.write_text(json.dumps(DOCUMENT))
    settings = {
        "POLICY_FILE": str(policy_file),
        "POLICY_MAX_BODY_BYTES": str(LIMIT),
        "POLICY_ADMIN_KEY": "a-secret-key",
        "LOG_LEVEL": "DEBUG",
    }
    started = Running.start(directory, settings)
    yield started
    started.stop()


def exchange(running: Running, head: str, *parts: bytes) -> tuple[int, dict[str, Any]]:
    """Send raw bytes and return the status and the JSON body of the first answer."""
    with socket.create_connection(("127.0.0.1", running.port), timeout=DEADLINE_SECONDS) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n")
        for part in parts:
            try:
                connection.sendall(part)
            except (BrokenPipeError, ConnectionResetError):
                break
        with connection.makefile("rb") as answer:
            status = int(answer.readline().split()[1])
            headers = dict(line.decode().strip().lower().split(": ", 1) for line in iter(answer.readline, b"\r\n"))
            assert headers["content-type"] == ("application/json" if status < 400 else "application/problem+json")
            return status, json.loads(answer.read(int(headers["content-length"])))


def chunked(content: bytes, size: int = 8192) -> list[bytes]:
    parts = [content[start : start + size] for start in range(0, len(content), size)]
    return [b"%x\r\n%s\r\n" % (len(part), part) for part in parts] + [b"0\r\n\r\n"]


HEAD = "POST {path} HTTP/1.1\nHost: localhost\nContent-Type: application/json\nX-Request-ID: raw-1\n"
SENT = [("/api/v1/check", ALLOWED), ("/api/check_policy", ALLOWED), ("/api/v1/policies/validate", POLICY)]


@pytest.mark.parametrize(("path", "body"), SENT)
def test_a_chunked_body(running: Running, path: str, body: Any) -> None:
    head = HEAD.format(path=path) + "Transfer-Encoding: chunked"
    status, answer = exchange(running, head, *chunked(json.dumps(body).encode(), size=7))
    assert status == 200
    assert answer.get("allowed", answer.get("valid")) is True


@pytest.mark.parametrize(("path", "body"), SENT)
def test_a_chunked_body_that_is_too_large(running: Running, path: str, body: Any) -> None:
    content = json.dumps(body).encode().ljust(2 * LIMIT)
    status, answer = exchange(running, HEAD.format(path=path) + "Transfer-Encoding: chunked", *chunked(content))
    assert (status, answer["status"], answer["instance"]) == (413, 413, path)


@pytest.mark.parametrize(("path", "body"), SENT)
def test_a_body_that_says_it_is_too_large(running: Running, path: str, body: Any) -> None:
    content = json.dumps(body).encode().ljust(LIMIT + 1)
    status, answer = exchange(running, HEAD.format(path=path) + f"Content-Length: {len(content)}", content)
    assert (status, answer["status"], answer["instance"]) == (413, 413, path)
    fits = content[:LIMIT]
    assert exchange(running, HEAD.format(path=path) + f"Content-Length: {len(fits)}", fits)[0] == 200


def test_a_body_that_only_claims_to_be_huge_is_not_waited_for(running: Running) -> None:
    status, _ = exchange(running, HEAD.format(path="/api/v1/check") + f"Content-Length: {10**12}")
    assert status == 413


@pytest.mark.parametrize(("path", "body"), SENT)
@pytest.mark.parametrize("bracket", [b"[", b'{"a":'])
def test_nesting_does_not_end_the_process(running: Running, path: str, body: Any, bracket: bytes) -> None:
    key = b'"context":' if "context" in body else b'"metadata":'
    whole = b'{"policy_type": "a", ' + key + bracket * (150_000 // len(bracket))
    for content in (bracket * (150_000 // len(bracket)), whole):
        answer = running.request("POST", path, content)
        assert answer.status == 400
        assert answer.headers["content-type"] == "application/problem+json"
    assert running.alive()


def test_invalid_text(running: Running) -> None:
    for path, _ in SENT:
        answer = running.request("POST", path, b'{"policy_type": "\xff"}', headers={"X-Request-ID": "r 1"})
        assert answer.status == 400
        assert answer.headers["x-request-id"] == "r 1"


@pytest.mark.parametrize(
    ("path", "status"), [("/livez", 200), ("/readyz", 200), ("/readyz?x=1", 200), ("/nope", 404), ("/health", 404)]
)
def test_the_port_for_probes(running: Running, path: str, status: int) -> None:
    answer = running.request("GET", path, port=running.metrics_port)
    assert answer.status == status
    if status == 200:
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.json == running.get(path)
    else:
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json["error"]


def test_probes_of_a_wrong_method_get_a_problem(running: Running) -> None:
    answer = running.request("POST", "/readyz", {}, port=running.metrics_port)
    assert 400 <= answer.status < 600
    assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["/api/v1/nope", "/api/v1/check"])
def test_errors_are_problems(running: Running, path: str) -> None:
    answer = running.request("GET", path)
    assert answer.status in {404, 405}
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"]


def test_writes_from_here_pass_and_on_behalf_of_a_page_do_not(running: Running) -> None:
    path = "/api/v1/policies/web/enable"
    origin = {"Origin": "https://evil.example"}
    assert running.request("POST", path).status == 200
    assert running.request("POST", path, headers=origin).status == 403
    assert running.request("POST", path, headers={"X-API-Key": "wrong"}).status == 401
    assert running.request("POST", path, headers={**origin, "X-API-Key": "a-secret-key"}).status == 200


def test_what_is_said_in_headers_arrives(running: Running) -> None:
    headers = {"X-Change-Reason": "UTF-8''audit%20of%20%C3%A9t%C3%A9"}
    made = running.request("POST", "/api/v1/policies", {**POLICY, "id": "reasoned"}, headers=headers)
    assert made.status == 201
    number, path, tag = made.json["policy_version"], made.headers["location"], made.headers["etag"]
    revision = running.get(f"/api/v1/revisions/{number}")
    assert (revision["reason"], revision["author"]) == ("audit of \u00e9t\u00e9", "local (127.0.0.1)")
    assert running.request("GET", path, headers={"If-None-Match": tag}).status == 304
    assert running.request("DELETE", path, headers={"If-Match": '"nope"'}).status == 412
    answer = running.request("POST", "/api/v1/check", ALLOWED, headers={"X-Min-Policy-Version": str(number + 1)})
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    logged = running.request("POST", "/api/v1/check", ALLOWED, headers={"X-Decision-Log": "sync"})
    if logged.status == 200:  # a disk that is too busy is answered with 503
        assert running.get(f"/api/v1/decisions/{logged.json['decision_id']}")["source"] == "127.0.0.1"
    assert running.request("DELETE", path, headers={"If-Match": tag}).status == 200


def test_the_key_is_not_in_the_log(running: Running) -> None:
    running.request("POST", "/api/v1/policies/web/enable", headers={"X-API-Key": "a-secret-key"})
    running.request("POST", "/api/v1/policies", b"[", headers={"X-API-Key": "a-secret-key"})
    assert "serving 3 policies" in running.log()
    assert "a-secret-key" not in running.log()


def test_it_ends_when_it_is_told_to(tmp_path: Any) -> None:
    policy_file = tmp_path / "policies.json"
    policy_file.write_text(json.dumps(DOCUMENT))
    started = Running.start(tmp_path, {"POLICY_FILE": str(policy_file)})
    assert started.stop() == 0
    assert not started.alive()


def test_no_orphan_keeps_the_port(processes: Processes) -> None:
    started = processes()
    started.process.kill()
    started.process.wait(DEADLINE_SECONDS)
    eventually(lambda: not started.alive(), "nobody answers for a service that was killed")
