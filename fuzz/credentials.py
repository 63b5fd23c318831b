"""What strangers show to be believed: tokens and bundles, once as they come, once behind a good signature."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from joserfc import jws
from joserfc.jwk import KeySet, OKPKey

from fuzz.targets import Target, quickly, register
from policy_engine.bundle.archive import Bundle, pack, unpack
from policy_engine.bundle.build import build, sign
from policy_engine.bundle.contents import read_signed
from policy_engine.bundle.envelope import Envelope
from policy_engine.bundle.refusal import BundleError
from policy_engine.bundle.verify import Trust, verify
from policy_engine.identity.role import ROLES
from policy_engine.identity.token import Oidc, TokenError, looks_like_token, read_token
from policy_engine.signing import new_key

_NOW = datetime(2026, 1, 1, tzinfo=UTC)

# Tokens

_KEY = OKPKey.generate_key("Ed25519", parameters={"kid": "one"})
_KEYS = KeySet([_KEY])
_OIDC = Oidc(issuer="https://issuer.example", audience="policy-engine", algorithms=("Ed25519",))
_END = int(_NOW.timestamp()) + 60
_CLAIMS = (
    b'{"iss":"https://issuer.example","aud":"policy-engine","sub":"ann","exp":%d,"roles":["viewer"]}' % _END,
    b'{"iss":"https://issuer.example","aud":["x","policy-engine"],"sub":"c","exp":%d,"roles":"client","client_id":"c"}'
    % _END,
    b'{"iss":"https://issuer.example","aud":"policy-engine","sub":"ann","exp":%d.5,"nbf":0,"iat":1,"roles":{}}' % _END,
    b'{"iss":"x","aud":"policy-engine","sub":null,"exp":"never"}',
    b"[]",
    b"{}",
    b"",
)


def read_tokens(data: bytes) -> None:
    """Read a token as it comes, and claims as the issuer would have signed them."""
    with quickly():
        shown = data.decode("latin-1")
        looks_like_token(shown)
        for text in (shown, _signed(data)):
            with suppress(TokenError):
                principal = read_token(text, _KEYS, _OIDC, _NOW.timestamp())
                assert set(principal.roles) <= ROLES.keys()
                assert ("client" in principal.roles) is (principal.client_id is not None)


def _signed(claims: bytes) -> str:
    return jws.serialize_compact({"alg": "Ed25519", "kid": "one"}, claims, _KEY, algorithms=["Ed25519"])


def _token_seeds() -> Iterator[bytes]:
    for claims in _CLAIMS:
        yield claims
        yield _signed(claims).encode()


register(
    "tokens", Target(read_tokens, _token_seeds, ("eyJ", '"exp":', '"roles":', '"aud":', "client_id", "1e999"), 4096)
)


# Bundles

_SIGNER = new_key()
_TRUST = Trust(keys=(_SIGNER.public,), name="policies")
_FUNCTION = b"def check(context):\n    return {'allowed': True}\n"
_WEB = b'{"policies": {"web": {"name": "web", "type": "network_security", "rules": [{"action": "deny"}]}}}'


def read_bundles(data: bytes) -> None:
    """Read a bundle as it comes, and a manifest as its signers would have signed it."""
    with quickly():
        with suppress(BundleError):
            _take(unpack(data))
        with suppress(BundleError):
            _take(
                Bundle(files={"policies.json": _WEB}, envelope=Envelope(payload=data, signatures=()).signed_by(_SIGNER))
            )


def _take(bundle: Bundle) -> None:
    verified = verify(bundle, _TRUST, now=_NOW, last=None)
    read_signed(verified.manifest, verified.files)


def _bundle_seeds() -> Iterator[bytes]:
    for files in ({"policies.json": _WEB}, {"policies.json": _WEB, "functions/check.py": _FUNCTION}):
        for version, days in ((1, 30), (2, -1), (2**53 - 1, 1)):
            created = _NOW - timedelta(days=2)
            made = build(files, name="policies", version=version, created=created, expires=_NOW + timedelta(days=days))
            yield pack(sign(made, _SIGNER))
            if made.envelope is not None:
                yield made.envelope.payload


_WORDS = (
    '"files":',
    '"manifest":',
    '"payload":',
    '"signatures":',
    '"keyid":',
    '"sig":',
    '"version":',
    "functions/x.py",
)
register("bundles", Target(read_bundles, _bundle_seeds, _WORDS, 1 << 14))
