"""Permissions, roles, keys, certificates, networks, and the bounds of checks."""

from __future__ import annotations

from typing import Any

import pytest

from policy_engine.identity.certificate import CertificateError, Certificates, read_certificate
from policy_engine.identity.key import make_key, prefix_of, verifies
from policy_engine.identity.network import Networks, forwarded_for, is_foreign_page
from policy_engine.identity.permission import CHANGING, MEANINGS, Permission
from policy_engine.identity.principal import Grant, Principal
from policy_engine.identity.role import ROLES, client_problem, permissions
from policy_engine.identity.scope import Scope

READS_AND_CHECKS = {"viewer", "checker", "client", "auditor"}


def test_every_permission_has_a_meaning_and_somebody_who_has_it() -> None:
    assert MEANINGS.keys() == set(Permission) == permissions(set(ROLES) - {"admin"}) | {Permission.MANAGE_KEYS}
    assert ROLES["admin"] == set(Permission)


@pytest.mark.parametrize("role", ROLES)
def test_who_only_reads_changes_nothing(role: str) -> None:
    assert bool(ROLES[role] & CHANGING) != (role in READS_AND_CHECKS)


def test_an_unknown_role_is_an_error() -> None:
    with pytest.raises(KeyError):
        Principal.of("ann", ["root"], "key")


def test_names_are_printable_and_short() -> None:
    assert Principal.of("a\nb\x1b" + "c" * 300, [], "token").name == "a?b?" + "c" * 196


@pytest.mark.parametrize(
    ("roles", "client_id", "problem"),
    [
        (["client"], "c", ""),
        (["viewer"], None, ""),
        (["client"], None, "needs the id"),
        (["client"], "", "needs the id"),
        (["client", "viewer"], "c", "does not go together"),
        (["viewer"], "c", "only the role"),
    ],
)
def test_a_client_is_bound(roles: list[str], client_id: str | None, problem: str) -> None:
    found = client_problem(roles, client_id)
    assert problem in found
    assert bool(problem) == bool(found)


def test_keys() -> None:
    made, other = make_key(), make_key()
    assert made.text != other.text
    assert prefix_of(made.text) == made.prefix
    assert made.text not in made.hash
    assert verifies(made.hash, made.text)
    assert not verifies(made.hash, other.text)
    assert not verifies(made.hash, made.text[:-1] + "!")
    assert not verifies("no hash", made.text)


@pytest.mark.parametrize("text", ["", "pe_", "pe_0123456789ab_", "pe_0123456789AB_" + "x" * 43, "x" * 60, "pe_é_x"])
def test_what_is_no_key(text: str) -> None:
    assert prefix_of(text) is None


SUBJECT = "CN=site-1,O=Lab"
CERTIFICATES = Certificates(subjects={SUBJECT: Grant(roles=("client",), client_id="site-1")})
SHOWN = {"HTTP_X_SSL_CLIENT_VERIFY": "SUCCESS", "HTTP_X_SSL_CLIENT_S_DN": SUBJECT}


def test_a_certificate() -> None:
    found = read_certificate(SHOWN, CERTIFICATES)
    assert found is not None
    assert (found.name, found.roles, found.client_id, found.method) == (SUBJECT, ("client",), "site-1", "certificate")
    assert read_certificate({}, CERTIFICATES) is None
    assert read_certificate({**SHOWN, "HTTP_X_SSL_CLIENT_VERIFY": "NONE"}, CERTIFICATES) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"HTTP_X_SSL_CLIENT_VERIFY": "FAILED:certificate has expired"},
        {"HTTP_X_SSL_CLIENT_VERIFY": "success"},
        {"HTTP_X_SSL_CLIENT_S_DN": "CN=site-2,O=Lab"},
        {"HTTP_X_SSL_CLIENT_S_DN": ""},
    ],
)
def test_a_certificate_that_is_refused(changed: dict[str, str]) -> None:
    with pytest.raises(CertificateError):
        read_certificate({**SHOWN, **changed}, CERTIFICATES)


def test_networks() -> None:
    networks = Networks(["10.0.0.0/8", "::1", "192.168.1.7"])
    inside = ("10.1.2.3", "::1", "192.168.1.7", "::ffff:10.0.0.1")
    assert all(each in networks for each in inside * 2)
    assert not any(each in networks for each in ("11.0.0.1", "192.168.1.8", "::2", "", "unix:", None, "10.0.0.1/8"))
    assert not Networks([])
    with pytest.raises(ValueError, match="not appear"):
        Networks(["office"])


@pytest.mark.parametrize(
    ("header", "address"),
    [
        ("203.0.113.5", "203.0.113.5"),
        ("127.0.0.1, 203.0.113.5", "203.0.113.5"),
        ("127.0.0.1, 203.0.113.5, 10.0.0.2", "203.0.113.5"),
        ("10.0.0.2", None),
        ("", None),
        ("unknown", None),
        ("203.0.113.5, unknown", None),
        ("127.0.0.1, evil, 10.0.0.2", None),
    ],
)
def test_who_asked_a_proxy(header: str, address: str | None) -> None:
    assert forwarded_for(header, Networks(["10.0.0.0/8"])) == address


@pytest.mark.parametrize(
    ("host", "origin", "foreign"),
    [
        ("127.0.0.1:5000", None, False),
        ("[::1]:5000", None, False),
        ("localhost:5000", "http://localhost:5000", False),
        ("policy-engine:5000", None, False),
        ("engine.lab.example", None, False),
        ("", None, False),
        ("localhost:5000", "http://localhost:3000", True),
        ("localhost:5000", "null", True),
        ("evil.example", None, True),
        ("evil.example", "http://evil.example", True),
        ("localhost.evil.example", None, True),
        ("[", None, True),
        ("localhost", "http://[", True),
    ],
)
def test_pages(host: str, origin: str | None, *, foreign: bool) -> None:
    environ = {"HTTP_HOST": host, **({} if origin is None else {"HTTP_ORIGIN": origin})}
    assert is_foreign_page(environ, {"engine.lab.example"}) is foreign


def scope(*roles: str, client_id: str | None = None) -> Scope | None:
    return Principal.of("x", roles, "key", client_id=client_id).scope


def test_who_has_no_bounds() -> None:
    assert scope("checker", "viewer") is None
    assert scope("admin") is None


@pytest.mark.parametrize(
    ("found", "asked", "refused"),
    [
        (scope("viewer"), {"simulated": True, "explain": True}, False),
        (scope("viewer"), {"simulated": False, "explain": False}, True),
        (scope("checker"), {"simulated": False, "explain": False}, False),
        (scope("checker"), {"simulated": False, "explain": True}, True),
        (scope("client", client_id="c"), {"simulated": False, "explain": False}, False),
        (scope("client", client_id="c"), {"simulated": False, "explain": True}, True),
        (scope("client", client_id="d"), {"simulated": False, "explain": False}, True),
    ],
)
def test_bounds(found: Scope | None, asked: dict[str, Any], *, refused: bool) -> None:
    assert found is not None
    assert bool(found.refusal([{"client_id": "c"}], **asked)) is refused


@pytest.mark.parametrize("context", [{}, {"client_id": None}, {"client_id": "C"}, {"client_id": ["c"]}])
def test_a_client_asks_about_nobody_else(context: dict[str, Any]) -> None:
    found = scope("client", client_id="c")
    assert found is not None
    assert found.refusal([{"client_id": "c"}, context], simulated=False, explain=False)
