"""An issuer for tests: keys, and tokens that are right or forged in every way."""

from __future__ import annotations

import base64
import hmac
import json
import time
from typing import Any

from joserfc import jws, jwt
from joserfc.jwk import ECKey, KeySet, RSAKey

from policy_engine.identity.token import Oidc

ISSUER = "https://issuer.example/realm"
AUDIENCE = "policy-engine"
OIDC = Oidc(issuer=ISSUER, audience=AUDIENCE)

RSA = RSAKey.generate_key(2048, parameters={"kid": "one"})
OTHER_RSA = RSAKey.generate_key(2048, parameters={"kid": "one"})
EC = ECKey.generate_key("P-256", parameters={"kid": "two"})
LATER = ECKey.generate_key("P-256", parameters={"kid": "later"})


def document(*keys: Any) -> dict[str, Any]:
    """The JWKS document of some keys."""
    return {"keys": [key.as_dict(private=False) for key in keys]}


def key_set(*keys: Any) -> KeySet:
    return KeySet(list(keys))


def claims(**changed: Any) -> dict[str, Any]:
    """Claims that are accepted; None leaves one out."""
    now = int(time.time())
    made = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "exp": now + 300, "iat": now, "roles": ["viewer"], **changed}
    return {name: value for name, value in made.items() if value is not None}


def token(*, key: Any = RSA, algorithm: str = "RS256", header: dict[str, Any] | None = None, **changed: Any) -> str:
    """A token, by default one that is accepted."""
    head = {"alg": algorithm, "kid": key.kid, **(header or {})}
    return jwt.encode(head, claims(**changed), key, algorithms=[algorithm])


def part(value: Any) -> str:
    """A part of a token."""
    content = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def forged(iss: str = ISSUER, **header: Any) -> str:
    """A token without a signature."""
    return f"{part({'alg': 'none', **header})}.{part(claims(iss=iss, roles=['admin']))}."


def signed_with_the_public_key(iss: str) -> str:
    """A token signed by HMAC with the text of the public key, as if that were a secret."""
    signed = f"{part({'alg': 'HS256', 'kid': 'one'})}.{part(claims(iss=iss, roles=['admin']))}"
    return f"{signed}.{part(hmac.digest(RSA.as_pem(private=False), signed.encode(), 'sha256'))}"


def altered(iss: str) -> str:
    """A token whose claims were changed after it was signed."""
    head, _, signature = token(iss=iss).split(".")
    return f"{head}.{part(claims(iss=iss, roles=['admin']))}.{signature}"


def with_its_own_key(iss: str) -> str:
    """A token that brings the key it is signed with."""
    own = RSAKey.generate_key(2048, parameters={"kid": "one"})
    return token(key=own, header={"jwk": {"kty": "RSA"}}, iss=iss, roles=["admin"])


def signed(content: bytes) -> str:
    """A signature by the right key, over anything."""
    return jws.serialize_compact({"alg": "RS256", "kid": "one"}, content, RSA, algorithms=["RS256"])


def refused(iss: str = ISSUER) -> dict[str, str]:
    """Tokens that no service may accept, by what is wrong with them."""
    now = int(time.time())

    def admin(**changed: Any) -> str:
        return token(**{"iss": iss, "roles": ["admin"], **changed})

    return {
        "alg none": forged(iss, kid="one"),
        "alg None": forged(iss, alg="None"),
        "no algorithm": f"{part({'kid': 'one'})}.{part(claims(iss=iss))}.{part(b'x')}",
        "another key of the same id": admin(key=OTHER_RSA),
        "a key nobody knows": admin(key=LATER, algorithm="ES256"),
        "an algorithm that is not pinned": admin(algorithm="RS512"),
        "the public key as a secret": signed_with_the_public_key(iss),
        "its own key": with_its_own_key(iss),
        "altered claims": altered(iss),
        "no signature": admin().rpartition(".")[0] + ".",
        "another audience": admin(aud="somebody-else"),
        "no audience": admin(aud=None),
        "another issuer": admin(iss="https://evil.example"),
        "the issuer with a slash": admin(iss=iss + "/"),
        "no issuer": admin(iss=None),
        "expired": admin(exp=now - 60),
        "no end": admin(exp=None),
        "an end that is a text": admin(exp="never"),
        "an end that is no number": admin(exp=float("nan")),
        "not yet": admin(nbf=now + 600),
        "from the future": admin(iat=now + 600),
        "nobody": admin(sub=None),
        "a critical header": forged(iss, crit=["x"], x=1),
        "claims that are a list": signed(b"[]"),
        "claims that are no JSON": signed(b"{"),
        "no token at all": "eyJ.eyJ.x",
        "too long": "eyJ" + "a" * 20_000 + ".e.e",
        "a client without its id": admin(roles=["client"]),
    }
