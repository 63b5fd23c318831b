"""Tokens of an OpenID Connect issuer: JSON Web Tokens, signed with one of its published keys (RFC 7519, RFC 8725)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec
from joserfc import jwt
from joserfc.errors import BadSignatureError, InvalidKeyIdError, JoseError
from joserfc.jwk import ECKey, JWKRegistry, Key, KeySet, OKPKey, RSAKey

from policy_engine.identity.network import parse_address
from policy_engine.identity.principal import Principal
from policy_engine.identity.role import CLIENT, ROLES

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519", "EdDSA")
"""What a token may be signed with: nothing that whoever can verify it could sign with too."""

MAX_TOKEN = 16 * 1024
_MIN_RSA_BITS = 2048


class Oidc(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The issuer whose tokens are accepted.

    Attributes:
        issuer: Its URL, exactly as in tokens.
        audience: What tokens have to be for.
        roles_claim: Where a token names roles: a claim, or a path with dots.
        client_id_claim: Where it names the client that the role `client` is bound to.
        algorithms: What it may be signed with.
        leeway_seconds: How far clocks may differ.
        role_map: The roles here for each of the issuer's; when empty, they are the same.
    """

    issuer: str
    audience: str
    roles_claim: str = "roles"
    client_id_claim: str = "client_id"
    algorithms: tuple[str, ...] = ("RS256", "ES256")
    leeway_seconds: int = 30
    role_map: dict[str, tuple[str, ...]] = {}


class TokenError(ValueError):
    """A token that is not accepted.

    Attributes:
        may_be_newer: Whether it may be signed with a key that the issuer has had only since its keys were fetched.
    """

    def __init__(self, reason: str, *, may_be_newer: bool = False) -> None:
        super().__init__(reason)
        self.may_be_newer = may_be_newer


def is_issuer(url: str) -> bool:
    """Whether keys may be fetched from an address: nobody on the way may be able to put theirs in their place."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    address = parse_address(parts.hostname or "")
    is_here = parts.hostname == "localhost" or (address is not None and address.is_loopback)
    return bool(parts.hostname) and (parts.scheme == "https" or (parts.scheme == "http" and is_here))


def looks_like_token(text: str) -> bool:
    """Whether a credential is to be read as a token: it has three parts and begins as the JSON of a header does."""
    return text.startswith("eyJ") and text.count(".") == 2  # noqa: PLR2004 - header.payload.signature


def read_key_set(document: Any) -> KeySet:
    """Return the public keys of a JWKS document that can verify signatures; others in it are passed over.

    Raises:
        ValueError: There are none.
    """
    listed = document.get("keys") if isinstance(document, dict) else None
    entries = listed if isinstance(listed, list) else []
    keys: list[Key] = [key for entry in entries if (key := _key(entry)) is not None]
    if not keys:
        raise ValueError("the document holds no key that signatures can be verified with")
    return KeySet(keys)


def _key(entry: Any) -> RSAKey | ECKey | OKPKey | None:
    if not isinstance(entry, dict) or entry.get("use", "sig") != "sig" or entry.get("kty") not in {"RSA", "EC", "OKP"}:
        return None
    try:
        key = JWKRegistry.import_key(entry)
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    if isinstance(key, RSAKey):
        return key if key.raw_value.key_size >= _MIN_RSA_BITS else None
    return key if isinstance(key, ECKey | OKPKey) else None


def read_token(text: str, keys: KeySet, oidc: Oidc, now: float) -> Principal:
    """Return who shows a token.

    Args:
        text: The token.
        keys: Those of the issuer.
        oidc: What is accepted.
        now: The time, in seconds since 1970.

    Raises:
        TokenError: It is not accepted.
    """
    if len(text) > MAX_TOKEN:
        raise TokenError("the token is too long")
    try:
        claims = jwt.decode(text, keys, algorithms=list(oidc.algorithms)).claims
        jwt.JWTClaimsRegistry(
            now=int(now),
            leeway=oidc.leeway_seconds,
            iss={"essential": True, "value": oidc.issuer},
            aud={"essential": True, "value": oidc.audience},
            sub={"essential": True},
            exp={"essential": True},
        ).validate(claims)
    except InvalidKeyIdError as error:
        raise TokenError("the token is signed with an unknown key", may_be_newer=True) from error
    except BadSignatureError as error:  # not every issuer names its keys
        raise TokenError(_reason(error), may_be_newer=True) from error
    except (JoseError, ValueError, TypeError, RecursionError, OverflowError) as error:
        raise TokenError(_reason(error)) from error
    return _principal(claims, oidc)


def _reason(error: Exception) -> str:
    """Return what is wrong with a token, without anything that it says."""
    claim = getattr(error, "claim", None)
    if isinstance(claim, str):
        return f"the claim `{claim[:40]}` of the token is not accepted"
    code = getattr(error, "error", None)
    return f"the token is not accepted ({code})" if isinstance(code, str) and code else "the token cannot be read"


def _principal(claims: Mapping[str, Any], oidc: Oidc) -> Principal:
    named = _names(_claim(claims, oidc.roles_claim))
    mapped = [role for name in named for role in oidc.role_map.get(name, ())] if oidc.role_map else named
    roles = [role for role in mapped if role in ROLES]
    client_id = None
    if CLIENT in roles:  # the narrowest role is the one that counts
        roles = [CLIENT]
        found = _claim(claims, oidc.client_id_claim)
        if not isinstance(found, str) or not found:
            raise TokenError(f"the token has the role `{CLIENT}` and no claim `{oidc.client_id_claim}`")
        client_id = found
    try:
        ends = float(claims["exp"])
    except OverflowError as error:
        raise TokenError("the claim `exp` of the token is not accepted") from error
    return Principal.of(str(claims["sub"]), roles, "token", client_id=client_id, expires_at=ends)


def _claim(claims: Mapping[str, Any], path: str) -> Any:
    """Return a claim: the one of that name, else what its dots lead to."""
    if path in claims:
        return claims[path]
    value: Any = claims
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _names(value: Any) -> list[str]:
    if isinstance(value, str):
        return value.split()
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []
