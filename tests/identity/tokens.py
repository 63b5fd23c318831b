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


def forged(**header: Any) -> str:
    """A token without a signature."""
    return f"{part({'alg': 'none', **header})}.{part(claims(roles=['admin']))}."


def signed_with_the_public_key() -> str:
    """A token signed by HMAC with the text of the public key, as if that were a secret."""
    signed = f"{part({'alg': 'HS256', 'kid': 'one'})}.{part(claims(roles=['admin']))}"
    return f"{signed}.{part(hmac.digest(RSA.as_pem(private=False), signed.encode(), 'sha256'))}"


def altered() -> str:
    """A token whose claims were changed after it was signed."""
    head, _, signature = token().split(".")
    return f"{head}.{part(claims(roles=['admin']))}.{signature}"


def with_its_own_key() -> str:
    """A token that brings the key it is signed with."""
    own = RSAKey.generate_key(2048, parameters={"kid": "one"})
    return token(key=own, header={"jwk": own.as_dict(private=False)}, roles=["admin"])


def refused() -> dict[str, str]:
    """Tokens that no service may accept, by what is wrong with them."""
    now = int(time.time())
    return {
        "alg none": forged(kid="one"),
        "alg None": forged(alg="None"),
        "no algorithm": f"{part({'kid': 'one'})}.{part(claims())}.{part(b'x')}",
        "another key of the same id": token(key=OTHER_RSA),
        "a key nobody knows": token(key=LATER, algorithm="ES256"),
        "an algorithm that is not pinned": token(algorithm="RS512"),
        "the public key as a secret": signed_with_the_public_key(),
        "its own key": with_its_own_key(),
        "altered claims": altered(),
        "no signature": token().rpartition(".")[0] + ".",
        "another audience": token(aud="somebody-else"),
        "no audience": token(aud=None),
        "another issuer": token(iss="https://evil.example"),
        "the issuer with a slash": token(iss=ISSUER + "/"),
        "no issuer": token(iss=None),
        "expired": token(exp=now - 60),
        "no end": token(exp=None),
        "an end that is a text": token(exp="never"),
        "an end that is no number": token(exp=float("nan")),
        "not yet": token(nbf=now + 600),
        "from the future": token(iat=now + 600),
        "nobody": token(sub=None),
        "a critical header": forged(crit=["x"], x=1),
        "claims that are a list": jws.serialize_compact(
            {"alg": "RS256", "kid": "one"}, b"[]", RSA, algorithms=["RS256"]
        ),
        "claims that are no JSON": jws.serialize_compact(
            {"alg": "RS256", "kid": "one"}, b"{", RSA, algorithms=["RS256"]
        ),
        "no token at all": "eyJ.eyJ.x",
        "too long": "eyJ" + "a" * 20_000 + ".e.e",
        "a client without its id": token(roles=["client"]),
    }
