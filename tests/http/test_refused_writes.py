"""A change that is refused changes nothing, and says which place is to blame."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from tests.conftest import Services
from tests.http.shapes import pointers, problem

from policy_engine.http.app import create_app
from policy_engine.service import PolicyService

ALLOW = {"action": "allow", "match": {"dst_port": 80}}


def policy(*rules: Any, **fields: Any) -> dict[str, Any]:
    return {"type": "network_security", "rules": list(rules) or [ALLOW], **fields}


BAD: dict[str, tuple[dict[str, Any], list[str], str]] = {
    "unknown action": (policy({"action": "denny"}), ["/rules/0/action"], "did you mean `deny`?"),
    "no action": (policy({"match": {}}), ["/rules/0"], "`action`"),
    "action of a wrong type": (policy({"action": ["deny"]}), ["/rules/0/action"], "action"),
    "priority in words": (policy(priority="high"), ["/priority"], "integer"),
    "priority too high": (policy(priority=1001), ["/priority"], "1000"),
    "priority true": (policy(priority=True), ["/priority"], "integer"),
    "priority half": (policy(priority=1.5), ["/priority"], "integer"),
    "a rule that is no object": (policy(ALLOW, "allow"), ["/rules/1"], "object"),
    "rules that are no array": (policy(rules={"0": ALLOW}), ["/rules"], "array"),
    "match that is no object": (policy({"action": "deny", "match": []}), ["/rules/0/match"], "object"),
    "condition that ends early": (
        policy({"action": "deny", "match": {"condition": "a >"}}),
        ["/rules/0/match/condition"],
        "column",
    ),
    "condition that is no string": (policy({"action": "deny", "condition": 5}), ["/rules/0/condition"], "string"),
    "condition of 500 parentheses": (
        policy({"action": "deny", "condition": "(" * 500 + "a" + ")" * 500}),
        ["/rules/0/condition"],
        "deep",
    ),
    "unknown field": (policy(prioritty=5), ["/prioritty"], "did you mean `priority`?"),
    "unknown field of a rule": (policy({**ALLOW, "acton": "x"}), ["/rules/0/acton"], "did you mean `action`?"),
    "range from high to low": (
        policy({"action": "deny", "match": {"dst_port": "79-22"}}),
        ["/rules/0/match/dst_port"],
        "",
    ),
    "port too large": (policy({"action": "deny", "match": {"dst_port": 65536}}), ["/rules/0/match/dst_port"], ""),
    "address that is none": (policy({"action": "deny", "match": {"src_ip": "10.0.0"}}), ["/rules/0/match/src_ip"], ""),
    "severity": (policy({**ALLOW, "severity": "hihg"}), ["/rules/0/severity"], "did you mean `high`?"),
    "parameters that are no object": (policy({**ALLOW, "parameters": []}), ["/rules/0/parameters"], "object"),
    "integer beyond 2^53": (policy({**ALLOW, "parameters": {"n": 2**53 + 1}}), ["/rules/0/parameters/n"], "2^53"),
    "integer at 2^53": (policy({**ALLOW, "parameters": {"n": 2**53}}), ["/rules/0/parameters/n"], "2^53"),
    "integer at -2^53": (policy({**ALLOW, "parameters": {"n": -(2**53)}}), ["/rules/0/parameters/n"], "2^53"),
    "integer without end": (policy({**ALLOW, "parameters": {"n": 10**400}}), ["/rules/0/parameters/n"], "large"),
    "half a surrogate pair": (policy(description="\ud800"), ["/description"], "surrogate"),
    "two faults": (policy({"action": "denny"}, priority="high"), ["/rules/0/action", "/priority"], ""),
    "rules and a function": (policy(function_id="f"), [""], "one is enough"),
    "neither rules nor a function": ({"type": "network_security"}, [""], "neither"),
}

RAW = {
    "duplicate key": (b'{"type": "network_security", "rules": [], "rules": []}', ["/rules"]),
    "duplicate key inside": (
        b'{"type": "a", "rules": [{"action": "deny", "action": "allow"}]}',
        ["/rules/0/action"],
    ),
    "brackets": (b"[" * 100_000, [""]),
    "braces": (b'{"metadata": ' * 100_000, [""]),
    "not UTF-8": (b'{"type": "\xff"}', [""]),
    "empty": (b"", [""]),
    "spaces": (b"  \n", [""]),
    "cut off": (b'{"type": ', [""]),
    "NaN": (b'{"type": NaN}', [""]),
    "array": (b"[]", []),
    "null": (b"null", []),
}

WRITES = [
    ("POST", "/policies"),
    ("POST", "/api/v1/policies"),
    ("PUT", "/policies/web"),
    ("PUT", "/api/v1/policies/web"),
]


@pytest.fixture
def service(services: Services) -> PolicyService:
    return services(file_write_back=True)


def snapshot(client: FlaskClient, service: PolicyService, directory: Path) -> Any:
    files = {path: path.read_bytes() for path in sorted(directory.glob("*")) if path.is_file()}
    texts = [client.get(path).get_json() for path in ("/policies", "/readyz", "/events")]
    return texts, files, service.revision, service.store.revisions.documents()


@pytest.mark.parametrize(("method", "path"), WRITES)
@pytest.mark.parametrize("about", BAD)
def test_bad_policy(  # noqa: PLR0917 - fixtures
    client: FlaskClient, service: PolicyService, tmp_path: Path, method: str, path: str, about: str
) -> None:
    body, places, said = BAD[about]
    if path == "/api/v1/policies/web" and about == "neither rules nor a function":
        body = {**body, "rules": None}
    before = snapshot(client, service, tmp_path)
    response = client.open(path, method=method, data=json.dumps(body), content_type="application/json")
    assert set(pointers(response)) == set(places)
    assert said in response.get_data(as_text=True).encode().decode("unicode_escape")
    assert snapshot(client, service, tmp_path) == before


@pytest.mark.parametrize(("method", "path"), [*WRITES, ("POST", "/api/v1/policies/validate")])
@pytest.mark.parametrize("about", RAW)
def test_bad_json(  # noqa: PLR0917 - fixtures
    client: FlaskClient, service: PolicyService, tmp_path: Path, method: str, path: str, about: str
) -> None:
    content, places = RAW[about]
    before = snapshot(client, service, tmp_path)
    response = client.open(path, method=method, data=content, content_type="application/json")
    assert pointers(response) == places
    assert snapshot(client, service, tmp_path) == before


@pytest.mark.parametrize("about", BAD)
def test_a_fault_is_told_once(client: FlaskClient, about: str) -> None:
    body, places, _ = BAD[about]
    response = client.post("/api/v1/policies/validate", data=json.dumps(body), content_type="application/json")
    assert sorted(item["pointer"] for item in response.get_json()["errors"]) == sorted(places)


def test_a_byte_order_mark_is_passed_over(client: FlaskClient) -> None:
    content = b"\xef\xbb\xbf" + json.dumps(policy(id="marked")).encode()
    assert client.post("/policies", data=content, content_type="application/json").status_code == 201


@pytest.mark.parametrize(
    "kind", [None, "", "text/plain", "application/x-www-form-urlencoded", "application/problem+json"]
)
@pytest.mark.parametrize(("method", "path"), [*WRITES, ("POST", "/api/v1/policies/validate")])
def test_a_body_has_to_say_that_it_is_json(client: FlaskClient, method: str, path: str, kind: str | None) -> None:
    problem(client.open(path, method=method, data=json.dumps(policy()), content_type=kind), 415)


def test_the_body_limit(services: Services) -> None:
    client = create_app(services(max_body_bytes=2048)).test_client()
    check = {"policy_type": "network_security", "context": {"protocol": "tcp"}}
    for path, body in (("/policies", policy()), ("/api/v1/check", check), ("/api/v1/policies/validate", policy())):
        content = json.dumps(body)
        fits = client.post(path, data=content.ljust(2048), content_type="application/json")
        assert fits.status_code in {200, 201}
        problem(client.post(path, data=content.ljust(2049), content_type="application/json"), 413)
