"""Keys, tokens of a real issuer, and certificates behind a real proxy, end to end against the running service."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from tests.conftest import Processes
from tests.docs.pages import blocks
from tests.http.pki import Authority
from tests.service.running import Running, environment, eventually, free_port

from policy_engine.client import PolicyClient
from policy_engine.model.errors import EngineRefusedError

NOBODY_IS_TRUSTED = {"POLICY_TRUSTED_NETWORKS": "", "POLICY_RATE_LIMIT_LOGINS": "off"}
CHECK: dict[str, Any] = {"policy_type": "network_security", "context": {"protocol": "tcp", "dst_port": 8080}}
AUDIENCE = "policy-engine"


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def first_key(running: Running) -> str:
    found = re.findall(r"pe_[0-9a-f]{12}_[\w-]{43}", running.log())
    assert len(found) == 1
    return str(found[0])


# Keys


def test_keys(processes: Processes, tmp_path: Path) -> None:
    running = processes(**NOBODY_IS_TRUSTED, LOG_FILE="engine.log", POLICY_WORKERS="2")
    admin = first_key(running)
    assert running.request("POST", "/api/v1/policies/web/disable").status == 401
    me = running.request("GET", "/api/v1/whoami", headers=bearer(admin)).json
    assert (me["name"], me["roles"]) == ("first start", ["admin"])

    asked = {"name": "fl", "roles": ["checker", "author"]}
    made = running.request("POST", "/api/v1/keys", asked, headers=bearer(admin)).json
    who = bearer(made["key"])

    def answers(status: int) -> bool:
        """Whether both workers answer so; who of them takes a connection is left to chance."""
        return all(running.request("GET", "/api/v1/whoami", headers=who).status == status for _ in range(40))

    eventually(lambda: answers(200), "both workers know the key")
    assert running.request("POST", "/api/v1/policies/web/disable", headers=who).status == 200
    assert running.request("POST", "/api/v1/keys", asked, headers=who).status == 403
    with PolicyClient(f"http://127.0.0.1:{running.port}", api_key=made["key"]) as client:
        client.check(CHECK["policy_type"], CHECK["context"])

    assert running.request("DELETE", f"/api/v1/keys/{made['key_id']}", headers=bearer(admin)).status == 200
    eventually(lambda: answers(401), "both workers refuse the key")
    with (
        PolicyClient(f"http://127.0.0.1:{running.port}", api_key=made["key"]) as client,
        pytest.raises(EngineRefusedError, match="401"),
    ):
        client.check(CHECK["policy_type"], CHECK["context"])
    page = running.request("GET", "/events?limit=2000", headers=bearer(admin)).json
    types = {event["event_type"] for event in page["events"]}
    assert {"ADMIN_KEY_CREATED", "KEY_CREATED", "KEY_REVOKED", "LOGIN_FAILED"} <= types

    assert running.stop() == 0
    kept = b"".join(path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file())
    for text in (admin, made["key"]):
        secret = text.split("_", 2)[2]
        assert secret not in (tmp_path / "engine.log").read_text()
        assert secret.encode() not in kept
    again = processes(**NOBODY_IS_TRUSTED)
    assert "pe_" not in again.log()
    assert again.request("GET", "/api/v1/keys", headers=bearer(admin)).status == 200


def test_a_key_that_is_set_is_the_first_one(processes: Processes, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("a key of our own\n")
    running = processes(**NOBODY_IS_TRUSTED, POLICY_ADMIN_KEY_FILE="key")
    assert "first start" not in running.log()
    assert running.request("GET", "/api/v1/keys", headers=bearer("a key of our own")).json == {"keys": []}


def test_streams_are_for_those_who_may_read_events(processes: Processes) -> None:
    running = processes(**NOBODY_IS_TRUSTED, ANONYMOUS_ROLES="checker")
    admin = first_key(running)

    def status(headers: dict[str, str]) -> int:
        asked = {"Accept": "text/event-stream", **headers}
        connection = HTTPConnection("127.0.0.1", running.stream_port, timeout=20)
        try:
            connection.request("GET", "/api/v1/events/stream?since_event_id=x", headers=asked)
            return connection.getresponse().status
        finally:
            connection.close()

    assert (status({}), status(bearer("pe_x")), status(bearer(admin))) == (401, 401, 200)

    made = running.request("POST", "/api/v1/keys", {"name": "x", "roles": ["auditor"]}, headers=bearer(admin)).json
    connection = HTTPConnection("127.0.0.1", running.stream_port, timeout=20)
    connection.request("GET", "/api/v1/events/stream?since_event_id=x", headers=bearer(made["key"]))
    response = connection.getresponse()
    assert response.status == 200
    assert running.request("DELETE", f"/api/v1/keys/{made['key_id']}", headers=bearer(admin)).status == 200
    assert b"KEY_REVOKED" in response.read()  # up to the end of the stream, which came by itself
    connection.close()


# Tokens


@contextmanager
def provider(port: int, *users: dict[str, Any]) -> Iterator[str]:
    """Run an OpenID Connect provider; return its address."""
    claims = [part for user in users for part in ("--user-claims", json.dumps(user))]
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "--port", str(port), *claims],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        eventually(lambda: fetched(port, "GET", "/jwks") is not None, "the provider answers")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def fetched(port: int, method: str, path: str, form: dict[str, str] | None = None) -> Any:
    """Ask the provider; None while it does not listen."""
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        connection.request(method, path, urlencode(form) if form else None, headers)
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    except ConnectionError:
        return None
    finally:
        connection.close()


def log_in(port: int, subject: str) -> str:
    """Log in as somebody, by the authorization code flow; return the ID token."""
    back = "http://localhost/back"
    asked = {"client_id": AUDIENCE, "redirect_uri": back, "response_type": "code", "scope": "openid"}
    _, headers, _ = fetched(port, "POST", f"/oauth2/authorize?{urlencode(asked)}", {"sub": subject})
    (code,) = parse_qs(urlsplit(headers["Location"]).query)["code"]
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": back,
        "client_id": AUDIENCE,
        "client_secret": "any",
    }
    _, _, body = fetched(port, "POST", "/oauth2/token", form)
    return str(json.loads(body)["id_token"])


USERS: tuple[dict[str, Any], ...] = (
    {"sub": "ann", "realm_access": {"roles": ["lab-members"]}},
    {"sub": "site", "realm_access": {"roles": ["sites"]}, "site": "site-1"},
    {"sub": "stranger"},
)


def test_tokens_of_a_real_issuer(processes: Processes, tmp_path: Path) -> None:
    port = free_port()
    with provider(port, *USERS) as issuer:
        (shown,) = (
            json.loads(block.text) for block in blocks("json", pages=("docs/security.md",)) if "oidc" in block.text
        )
        config = {"oidc": {**shown["oidc"], "issuer": issuer, "audience": AUDIENCE}}
        (tmp_path / "oidc.json").write_text(json.dumps(config))
        running = processes(**NOBODY_IS_TRUSTED, POLICY_CONFIG="oidc.json")
        ann, site, stranger = (bearer(log_in(port, user["sub"])) for user in USERS)

        me = running.request("GET", "/api/v1/whoami", headers=ann).json
        assert (me["name"], me["method"], me["roles"]) == ("ann", "token", ["author", "checker"])
        assert running.request("POST", "/api/v1/policies/web/disable", headers=ann).status == 200
        assert running.get("/api/v1/revisions")["revisions"][0]["author"] == "ann (token, 127.0.0.1)"
        assert running.request("GET", "/api/v1/policies", headers=stranger).status == 403
        own = {**CHECK, "context": {**CHECK["context"], "client_id": "site-1"}}
        assert running.request("POST", "/api/v1/check", own, headers=site).status == 200
        assert running.request("POST", "/api/v1/check", CHECK, headers=site).status == 403

        altered = ann["Authorization"][:-4] + "AAAA"
        refused = running.request("GET", "/api/v1/whoami", headers={"Authorization": altered})
        assert refused.status == 401
        assert {name.lower(): value for name, value in refused.headers.items()}["www-authenticate"].startswith("Bearer")
    with provider(port, *USERS):  # it has made itself another key
        again = bearer(log_in(port, "ann"))
        eventually(
            lambda: running.request("GET", "/api/v1/whoami", headers=again).status == 200, "the new key is fetched"
        )
        assert running.request("GET", "/api/v1/whoami", headers=ann).status == 401


# Certificates

needs_nginx = pytest.mark.skipif(shutil.which("nginx") is None, reason="needs nginx: apt-get install nginx-light")


@contextmanager
def nginx(directory: Path, server: str) -> Iterator[None]:
    """Run nginx with the configuration of a server."""
    temporary = "\n".join(
        f"{name}_temp_path {directory}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = directory / "nginx.conf"
    config.write_text(
        f"daemon off;\npid {directory}/nginx.pid;\nerror_log {directory}/error.log;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{temporary}\n{server}\n}}\n"
    )
    command = ["nginx", "-c", str(config), "-p", str(directory), "-e", str(directory / "error.log")]
    process = subprocess.Popen(command, env={"PATH": os.environ["PATH"]})
    try:
        yield
    finally:
        process.send_signal(signal.SIGQUIT)
        process.wait(20)


def ask_proxy(
    port: int, authority: Authority, certificate: tuple[Path, Path] | None, method: str, path: str, **headers: str
) -> tuple[int, Any]:
    context = ssl.create_default_context(cafile=str(authority.path))
    if certificate is not None:
        context.load_cert_chain(*certificate)
    connection = HTTPSConnection("127.0.0.1", port, timeout=20, context=context)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        content = response.read()
        return response.status, json.loads(content) if content.startswith(b"{") else content
    finally:
        connection.close()


def listens(port: int, authority: Authority) -> bool:
    try:
        return ask_proxy(port, authority, None, "GET", "/livez")[0] == 200
    except OSError:
        return False


@needs_nginx
def test_certificates_behind_nginx(processes: Processes, tmp_path: Path) -> None:
    authority, others = Authority(tmp_path), Authority(tmp_path, "others")
    server = authority.certificate("server")
    (shown,) = (block.text for block in blocks("json", pages=("docs/security.md",)) if "subjects" in block.text)
    (tmp_path / "config.json").write_text(shown)
    running = processes(
        POLICY_CONFIG="config.json"
    )  # whoever asks from this machine may do everything: but not a proxy

    port = free_port()
    (described,) = (block.text for block in blocks("nginx", pages=("docs/security.md",)))
    for said, meant in (
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("http://127.0.0.1:5000", f"http://127.0.0.1:{running.port}"),
        ("/etc/policy-engine/server.pem", str(server[0])),
        ("/etc/policy-engine/server.key", str(server[1])),
        ("/etc/policy-engine/ca.pem", str(authority.path)),
    ):
        assert said in described
        described = described.replace(said, meant)
    fl_server, site, unlisted = (authority.certificate(name) for name in ("fl-server", "site-1", "site-9"))

    with nginx(tmp_path, described):
        eventually(lambda: listens(port, authority), "the proxy answers")
        made_up = {"X_SSL_Client_Verify": "SUCCESS", "X_SSL_Client_S_DN": "CN=fl-server,O=Lab"}

        def ask(certificate: tuple[Path, Path] | None, **headers: str) -> tuple[int, Any]:
            return ask_proxy(port, authority, certificate, "GET", "/api/v1/whoami", **headers)

        status, me = ask(fl_server)
        assert (status, me["name"], me["roles"], me["method"]) == (
            200,
            "CN=fl-server,O=Lab",
            ["reporter"],
            "certificate",
        )
        assert ask(site)[1]["client_id"] == "site-1"
        assert ask_proxy(port, authority, site, "GET", "/api/v1/trust/clients/site-2")[0] == 403
        assert ask(unlisted)[0] == 401
        for headers in ({}, made_up, {"X_Forwarded_For": "127.0.0.1"}):
            assert ask(None, **headers)[1]["method"] == "anonymous"
        assert ask(others.certificate("fl-server"))[0] == 400
        assert ask(authority.certificate("late", days=-1))[0] == 400
    forged = {name.replace("_", "-"): value for name, value in made_up.items()}
    direct = running.request("GET", "/api/v1/whoami", headers=forged)
    assert direct.json["method"] == "certificate"  # this machine is the proxy: see the next test for one that is not


def test_certificates_of_somebody_who_is_no_proxy(processes: Processes, tmp_path: Path) -> None:
    config = {"trusted_proxies": ["192.0.2.1"], "certificates": {"subjects": {"CN=ann": {"roles": ["admin"]}}}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    running = processes(**NOBODY_IS_TRUSTED, POLICY_CONFIG="config.json")
    headers = {
        "X-SSL-Client-Verify": "SUCCESS",
        "X-SSL-Client-S-DN": "CN=ann",
        "X-Forwarded-For": "192.0.2.1",
        "X_SSL_Client_Verify": "SUCCESS",
    }
    assert running.request("GET", "/api/v1/whoami", headers=headers).json["method"] == "anonymous"
    assert running.request("DELETE", "/api/v1/policies/web", headers=headers).status == 401
