"""Tokens: what is accepted, and everything that is not."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest
from joserfc.jwk import OctKey, RSAKey
from tests.identity.tokens import EC, LATER, OIDC, RSA, document, key_set, refused, token

from policy_engine.identity.token import ALGORITHMS, TokenError, looks_like_token, read_key_set, read_token

KEYS = key_set(RSA, EC)
REFUSED = refused()
SIGNED_BY_OTHERS = {
    *("a key nobody knows", "another key of the same id", "its own key", "altered claims", "no signature"),
}


def read(text: str, **oidc: Any) -> Any:
    return read_token(text, KEYS, msgspec.structs.replace(OIDC, **oidc), time.time())


@pytest.mark.parametrize("key", [RSA, EC])
def test_a_token_is_accepted(key: Any) -> None:
    found = read(token(key=key, algorithm="RS256" if key is RSA else "ES256"))
    assert (found.name, found.roles, found.method, found.client_id) == ("ann", ("viewer",), "token", None)
    assert found.expires_at > time.time()


def test_an_audience_among_others_is_accepted() -> None:
    assert read(token(aud=["x", "policy-engine"])).name == "ann"


@pytest.mark.parametrize("about", REFUSED)
def test_a_token_is_refused(about: str) -> None:
    with pytest.raises(TokenError) as caught:
        read(REFUSED[about])
    assert REFUSED[about] not in str(caught.value)
    assert caught.value.may_be_newer == (about in SIGNED_BY_OTHERS)


def test_clocks_may_differ_a_little() -> None:
    now = int(time.time())
    assert read(token(exp=now - 10, iat=now + 10, nbf=now + 10)).name == "ann"
    with pytest.raises(TokenError):
        read(token(exp=now - 10), leeway_seconds=5)


@pytest.mark.parametrize(
    ("claims", "oidc", "roles"),
    [
        ({"roles": "viewer author"}, {}, ("viewer", "author")),
        ({"roles": ["viewer", "root", 7]}, {}, ("viewer",)),
        ({"roles": None}, {}, ()),
        ({"roles": {"viewer": 1}}, {}, ()),
        ({"realm": {"roles": ["admin"]}}, {"roles_claim": "realm.roles"}, ("admin",)),
        ({"https://x.example/roles": ["admin"]}, {"roles_claim": "https://x.example/roles"}, ("admin",)),
        ({"realm": []}, {"roles_claim": "realm.roles"}, ()),
        ({"roles": ["staff"]}, {"role_map": {"staff": ("author", "viewer")}}, ("author", "viewer")),
        ({"roles": ["admin"]}, {"role_map": {"staff": ("author",)}}, ()),
    ],
)
def test_roles(claims: dict[str, Any], oidc: dict[str, Any], roles: tuple[str, ...]) -> None:
    assert read(token(**claims), **oidc).roles == roles


def test_a_client_is_bound_and_has_no_other_role() -> None:
    found = read(token(roles=["admin", "client"], client_id="c-1"))
    assert (found.roles, found.client_id) == (("client",), "c-1")


def test_only_keys_that_verify_signatures_are_taken() -> None:
    weak = {**RSA.as_dict(private=False), "n": "x"}
    shown = [
        *document(RSA, LATER)["keys"],
        {**EC.as_dict(private=False), "use": "enc"},
        OctKey.generate_key(256).as_dict(private=True),
        {"kty": "RSA"},
        weak,
        "x",
    ]
    assert [key.kid for key in read_key_set({"keys": shown})] == ["one", "later"]


@pytest.mark.parametrize("shown", [None, [], {}, {"keys": None}, {"keys": []}, {"keys": [{"kty": "oct", "k": "eA"}]}])
def test_no_keys_are_an_error(shown: Any) -> None:
    with pytest.raises(ValueError, match="no key"):
        read_key_set(shown)


@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")
def test_short_keys_are_not_taken() -> None:
    short = RSAKey.generate_key(1024, parameters={"kid": "short"})
    with pytest.raises(ValueError, match="no key"):
        read_key_set(document(short))


def test_no_algorithm_is_symmetric() -> None:
    assert not [name for name in ALGORITHMS if name.startswith("HS") or name.lower() == "none"]


def test_what_is_read_as_a_token() -> None:
    assert looks_like_token(token())
    assert not looks_like_token("pe_0123456789ab_x")
    assert not looks_like_token("eyJ.x")
