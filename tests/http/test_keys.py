"""API keys over HTTP, what is told of them, and who asks."""

from __future__ import annotations

import time
from typing import Any

import pytest
from flask.testing import FlaskClient
from tests.conftest import Services
from tests.http.shapes import pointers, problem
from tests.identity.issuer import Issuer, issuing
from tests.identity.tokens import LATER, RSA, document, token
from tests.service.running import eventually

from policy_engine.http import issuer as issuer_module
from policy_engine.http.app import create_app
from policy_engine.http.issuer import IssuerKeys
from policy_engine.http.refusals import MOST, Refusals
from policy_engine.identity.certificate import Certificates
from policy_engine.identity.principal import Grant
from policy_engine.service import PolicyService


def made(client: FlaskClient, **asked: Any) -> dict[str, Any]:
    response = client.post("/api/v1/keys", json={"name": "ann", "roles": ["viewer"], **asked})
    assert response.status_code == 201, response.text
    answer: dict[str, Any] = response.get_json()
    return answer


def who(client: FlaskClient, text: str) -> Any:
    return client.get("/api/v1/whoami", headers={"Authorization": f"Bearer {text}"})


def events(service: PolicyService, *types: str) -> list[Any]:
    return service.events.page(event_types=list(types)).events


def test_a_key_is_shown_once(client: FlaskClient) -> None:
    answer = client.post("/api/v1/keys", json={"name": "ann", "roles": ["viewer", "viewer"]})
    text = answer.get_json()["key"]
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.get_json()["roles"] == ["viewer"]
    shown = client.get(answer.headers["Location"])
    assert shown.get_json().keys() == answer.get_json().keys() - {"key"}
    for path in (answer.headers["Location"], "/api/v1/keys", "/events"):
        assert text.split("_", 2)[2] not in client.get(path).text
    assert "argon2" not in client.get("/api/v1/keys").text


def test_who_asks(client: FlaskClient) -> None:
    key = made(client, name="site-1", roles=["client"], client_id="c", expires_at=time.time() + 60)
    found = who(client, key["key"]).get_json()
    assert {name: found[name] for name in ("name", "method", "roles", "client_id", "key_id")} == {
        "name": "site-1",
        "method": "key",
        "roles": ["client"],
        "client_id": "c",
        "key_id": key["key_id"],
    }
    assert found["permissions"] == ["check", "read_client"]
    assert client.get("/api/v1/whoami").get_json()["method"] == "network"
    elsewhere = client.get("/api/v1/whoami", environ_base={"REMOTE_ADDR": "10.0.0.7"}).get_json()
    assert (elsewhere["method"], elsewhere["roles"]) == ("anonymous", ["checker", "viewer"])


@pytest.mark.parametrize(
    ("asked", "pointer"),
    [
        ({"roles": ["viewr"]}, "/roles/0"),
        ({"roles": []}, "/roles"),
        ({"roles": "viewer"}, "/roles"),
        ({"roles": ["client"]}, "/client_id"),
        ({"client_id": "c"}, "/client_id"),
        ({"roles": ["client", "admin"], "client_id": "c"}, "/client_id"),
        ({"roles": ["client"], "client_id": "c\n"}, "/client_id"),
        ({"name": ""}, "/name"),
        ({"name": "a\x1b[2J"}, "/name"),
        ({"name": "x" * 201}, "/name"),
        ({"expires_at": 1}, "/expires_at"),
        ({"expires_at": "soon"}, "/expires_at"),
        ({"secret": "x"}, ""),
    ],
)
def test_what_is_refused(client: FlaskClient, asked: dict[str, Any], pointer: str) -> None:
    assert pointers(client.post("/api/v1/keys", json={"name": "ann", "roles": ["viewer"], **asked})) == [pointer]
    assert client.get("/api/v1/keys").get_json() == {"keys": []}


def test_a_key_is_changed_and_revoked_and_all_of_it_is_told(client: FlaskClient, service: PolicyService) -> None:
    key = made(client)
    path = f"/api/v1/keys/{key['key_id']}"
    assert client.patch(path, json={"roles": ["author"]}).get_json()["roles"] == ["author"]
    assert who(client, key["key"]).get_json()["roles"] == ["author"]
    assert pointers(client.patch(path, json={"roles": ["client"]})) == ["/client_id"]
    assert pointers(client.patch(path, json={"expires_at": 5})) == ["/expires_at"]
    assert client.patch(path, json={"expires_at": None}).status_code == 200
    gone = client.delete(path).get_json()["revoked_at"]
    assert client.delete(path).get_json()["revoked_at"] == gone
    problem(who(client, key["key"]), 401)
    problem(client.patch(path, json={"name": "x"}), 404)
    told = events(service, "KEY_CREATED", "KEY_CHANGED", "KEY_REVOKED")
    assert [event.event_type for event in told] == ["KEY_CREATED", "KEY_CHANGED", "KEY_REVOKED"]
    assert {event.details["author"] for event in told} == {"local (127.0.0.1)"}
    assert (told[1].details["before"]["roles"], told[1].details["after"]["roles"]) == (["viewer"], ["author"])


def test_changes_are_made_in_the_name_of_the_key(client: FlaskClient, service: PolicyService) -> None:
    key = made(client, name="bob", roles=["author"])["key"]
    headers = {"Authorization": f"Bearer {key}"}
    where = {"REMOTE_ADDR": "10.0.0.7"}
    assert client.post("/api/v1/policies/web/disable", headers=headers, environ_base=where).status_code == 200
    (used,) = [each for each in service.keys.all() if each.name == "bob"]
    author = f"bob (key {used.key_id}, 10.0.0.7)"
    assert client.get("/api/v1/revisions").get_json()["revisions"][0]["author"] == author
    (event,) = events(service, "POLICY_DISABLED")
    assert event.details["author"] == author
    assert event.details["after"] == client.get("/api/v1/policies/web").headers["ETag"].strip('"')
    assert event.details["before"] not in {None, event.details["after"]}


def test_a_key_cannot_take_the_name_of_another_credential(client: FlaskClient) -> None:
    key = made(client, name="admin key (10.0.0.7)", roles=["author"])["key"]
    client.post("/api/v1/policies/web/disable", headers={"Authorization": f"Bearer {key}"})
    author = client.get("/api/v1/revisions").get_json()["revisions"][0]["author"]
    assert author.startswith("admin key (10.0.0.7) (key ")


@pytest.mark.parametrize("end", [1e300, 1_800_000_000_000])
def test_an_end_that_no_calendar_has_is_refused(client: FlaskClient, end: float) -> None:
    answer = client.post("/api/v1/keys", json={"name": "x", "roles": ["viewer"], "expires_at": end})
    assert problem(answer, 400)["errors"][0]["pointer"] == "/expires_at"


# What is hidden


def test_events_about_keys_are_for_those_who_may_read_keys(client: FlaskClient) -> None:
    viewer, auditor = (made(client, name=role, roles=[role])["key"] for role in ("viewer", "auditor"))

    def asked(key: str | None, path: str) -> Any:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return client.get(path, headers=headers, environ_base={"REMOTE_ADDR": "10.0.0.7"})

    def seen(key: str | None) -> set[str]:
        return {event["event_type"] for event in asked(key, "/events").get_json()["events"]}

    assert "KEY_CREATED" in seen(auditor)
    for key in (viewer, None):
        assert "POLICY_LOADED" in seen(key)
        assert "KEY_CREATED" not in seen(key)
        problem(asked(key, "/events?event_type=KEY_CREATED"), 403)
        assert asked(key, "/events?event_type=POLICY_LOADED").get_json()["events"]


def test_a_change_that_is_refused_is_told(client: FlaskClient, service: PolicyService) -> None:
    key = made(client, name="ann", roles=["viewer"])["key"]
    where = {"REMOTE_ADDR": "10.0.0.7"}
    headers = {"Authorization": f"Bearer {key}"}
    problem(client.delete("/api/v1/policies/web", headers=headers, environ_base=where), 403)
    problem(client.delete("/api/v1/policies/web", environ_base=where), 401)
    problem(client.get("/api/v1/keys", headers=headers, environ_base=where), 403)
    nobody, ann = (event.details for event in events(service, "CHANGE_REFUSED"))
    if ann["author"].startswith("anonymous"):
        nobody, ann = ann, nobody
    assert ann["author"].startswith("ann (key ")
    assert (ann["action"], ann["source"], ann["result"]) == ("DELETE /api/v1/policies/web", "10.0.0.7", "refused")
    assert "write_policies" in ann["reason"]
    assert nobody["author"] == "anonymous (10.0.0.7)"


@pytest.mark.parametrize("shown", ["", "Bearer", "Bearer  ", "bearer x"])
def test_what_is_shown_and_is_nothing_is_not_taken_for_nobody(client: FlaskClient, shown: str) -> None:
    problem(client.get("/api/v1/whoami", headers={"Authorization": shown}), 401)


# Logins that fail


def test_a_login_that_fails_is_told(client: FlaskClient, service: PolicyService) -> None:
    key = made(client)
    wrong = key["key"][:-1] + ("a" if key["key"][-1] != "a" else "b")
    problem(who(client, wrong), 401)
    (event,) = events(service, "LOGIN_FAILED")
    assert event.details == {
        "source": "127.0.0.1",
        "method": "key",
        "reason": "the key is not valid",
        "prefix": key["prefix"],
        "result": "refused",
        "untold": 0,
    }


def test_a_flood_of_them_does_not_fill_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    now, told = [1000.0], []
    monkeypatch.setattr("policy_engine.http.refusals.time.monotonic", lambda: now[0])
    failed = Refusals(lambda _type, details: told.append(details["untold"]), "LOGIN_FAILED")
    for _ in range(1000):
        failed.note("10.0.0.7", "wrong", method="key")
    assert told == [0] * MOST
    now[0] += 61
    failed.note("10.0.0.7", "wrong", method="key")
    assert told[MOST:] == [1000 - MOST]


# Proxies

PROXY = {"REMOTE_ADDR": "10.0.0.2"}
SHOWN = {"X-SSL-Client-Verify": "SUCCESS", "X-SSL-Client-S-DN": "CN=ann"}


@pytest.fixture
def proxied(services: Services) -> FlaskClient:
    service = services(
        trusted_proxies=("10.0.0.2",),
        trusted_networks=("192.168.0.0/16", "10.0.0.0/8"),
        certificates=Certificates(subjects={"CN=ann": Grant(roles=("author",))}),
    )
    return create_app(service).test_client()


@pytest.mark.parametrize(
    ("address", "headers", "method"),
    [
        ("10.0.0.2", SHOWN, "certificate"),
        ("10.0.0.3", SHOWN, "network"),
        ("203.0.113.5", SHOWN, "anonymous"),
        ("10.0.0.2", {"X-SSL-Client-Verify": "NONE", "X-SSL-Client-S-DN": "CN=ann"}, "anonymous"),
        ("10.0.0.2", {"X-Forwarded-For": "192.168.1.1"}, "network"),
        ("10.0.0.2", {"X-Forwarded-For": "192.168.1.1, 203.0.113.5"}, "anonymous"),
        ("10.0.0.2", {"X-Forwarded-For": "192.168.1.1", "Host": "evil.example"}, "page"),
        ("10.0.0.2", {}, "anonymous"),
        ("10.0.0.2", {"Forwarded": "for=192.168.1.1"}, "anonymous"),
        ("10.0.0.3", {"X-Forwarded-For": "192.168.1.1"}, "anonymous"),
        ("203.0.113.5", {"X-Forwarded-For": "192.168.1.1"}, "anonymous"),
    ],
)
def test_only_trusted_proxies_are_believed(
    proxied: FlaskClient, address: str, headers: dict[str, str], method: str
) -> None:
    answer = proxied.get("/api/v1/whoami", headers=headers, environ_base={"REMOTE_ADDR": address})
    assert answer.get_json()["method"] == method


@pytest.mark.parametrize("changed", [{"X-SSL-Client-Verify": "FAILED"}, {"X-SSL-Client-S-DN": "CN=bob"}])
def test_a_certificate_that_is_not_accepted(proxied: FlaskClient, changed: dict[str, str]) -> None:
    problem(proxied.get("/api/v1/whoami", headers={**SHOWN, **changed}, environ_base=PROXY), 401)


def test_changes_through_a_proxy_name_who_asked_it(proxied: FlaskClient) -> None:
    headers = {**SHOWN, "X-Forwarded-For": "203.0.113.5"}
    assert proxied.post("/api/v1/policies/web/disable", headers=headers, environ_base=PROXY).status_code == 200
    author = proxied.get("/api/v1/revisions").get_json()["revisions"][0]["author"]
    assert author == "CN=ann (certificate, 203.0.113.5)"


# Issuers


@pytest.fixture
def briskly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(issuer_module, "_PAUSE_SECONDS", 0.0)


@pytest.mark.usefixtures("briskly")
def test_keys_of_an_issuer_are_rotated(services: Services) -> None:
    with issuing() as issuer:
        client = create_app(services(oidc=issuer.oidc, rate_limit_logins="off")).test_client()
        old, new = token(iss=issuer.url), token(key=LATER, algorithm="ES256", iss=issuer.url)
        eventually(lambda: who(client, old).status_code == 200, "the keys are fetched")
        problem(who(client, new), 401)
        issuer.published = document(RSA, LATER)
        eventually(lambda: who(client, new).status_code == 200, "the new key is found")
        issuer.published = document(LATER)
        problem(who(client, token(key=LATER, algorithm="ES256", header={"kid": "x"}, iss=issuer.url)), 401)
        eventually(lambda: who(client, old).status_code == 401, "the old key is gone")
        assert who(client, new).status_code == 200


def test_tokens_cannot_make_us_ask_without_end(services: Services) -> None:
    with issuing() as issuer:
        client = create_app(services(oidc=issuer.oidc)).test_client()
        eventually(lambda: who(client, token(iss=issuer.url)).status_code == 200, "the keys are fetched")
        for number in range(20):
            text = token(key=LATER, algorithm="ES256", header={"kid": f"k{number}"}, iss=issuer.url)
            problem(who(client, text), 401)
        assert issuer.asked <= 2


def test_a_token_that_was_verified_expires(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    with issuing() as issuer:
        client = create_app(services(oidc=issuer.oidc)).test_client()
        text = token(iss=issuer.url)
        eventually(lambda: who(client, text).status_code == 200, "the keys are fetched")
        later = time.time() + 400
        monkeypatch.setattr("policy_engine.http.authentication.time.time", lambda: later)
        problem(who(client, text), 401)


def changed(issuer: Issuer, what: str) -> None:
    if what == "issuer":
        issuer.changes = {"issuer": "https://evil.example"}
    elif what == "address":
        issuer.changes = {"jwks_uri": "file:///etc/passwd"}
    elif what == "none":
        issuer.published = None
    elif what == "redirect":
        issuer.published = f"{issuer.url}/.well-known/openid-configuration"
    elif what == "large":
        issuer.published = {"keys": ["x" * 2**20]}
    else:
        issuer.published = {"keys": []}


@pytest.mark.parametrize("what", ["issuer", "address", "none", "redirect", "large", "empty"])
def test_documents_that_are_not_taken(what: str) -> None:
    with issuing() as issuer:
        changed(issuer, what)
        keys = IssuerKeys(issuer.url)
        assert keys.look_again(10) is False
        assert keys.keys is None


@pytest.mark.usefixtures("briskly")
def test_keys_that_are_known_stay_while_the_issuer_is_away() -> None:
    with issuing() as issuer:
        keys = IssuerKeys(issuer.url)
        assert keys.look_again(10) is True
        issuer.published = None
        assert keys.look_again(10) is False
        assert keys.keys is not None
