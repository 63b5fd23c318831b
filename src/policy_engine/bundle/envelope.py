"""The envelope of a manifest: DSSE (Dead Simple Signing Envelope), with its signatures."""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from typing import Annotated, Any

import msgspec

from policy_engine.bundle.refusal import BundleError
from policy_engine.bundle.strict import decode
from policy_engine.signing import SigningKey

PAYLOAD_TYPE = "application/vnd.flopynet.policy-bundle.v1+json"
MAX_SIGNATURES = 32
MAX_PAYLOAD_BYTES = 1 << 20
SIGNATURE_BYTES = 64
_WHAT = "the envelope"


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """One signature.

    Attributes:
        key_id: A hint by which key it is; empty for none. Nothing is believed because of it.
        signature: 64 bytes.
    """

    key_id: str
    signature: bytes


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """A payload and who signed it."""

    payload: bytes
    signatures: tuple[Signature, ...]

    def signed_by(self, key: SigningKey) -> Envelope:
        """Return the envelope with the signature of one more key, or with a new one of a key that signed before."""
        made = Signature(key_id=key.public.key_id, signature=key.sign(PAYLOAD_TYPE, self.payload))
        others = [each for each in self.signatures if each.key_id != key.public.key_id]
        return Envelope(payload=self.payload, signatures=(*others, made))

    def document(self) -> dict[str, Any]:
        """Return the envelope as the JSON object that the standard describes."""
        signatures = [{"keyid": each.key_id, "sig": _encoded(each.signature)} for each in self.signatures]
        return {"payload": _encoded(self.payload), "payloadType": PAYLOAD_TYPE, "signatures": signatures}


class SignatureDocument(msgspec.Struct, forbid_unknown_fields=True):
    """One signature as the standard writes it; its hint may be shown before anything is believed."""

    sig: Annotated[str, msgspec.Meta(max_length=100)]
    keyid: Annotated[str, msgspec.Meta(pattern=r"^[ -~]{0,128}\Z")]


class EnvelopeDocument(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """An envelope as the standard writes it."""

    payload: Annotated[str, msgspec.Meta(max_length=2 * MAX_PAYLOAD_BYTES)]
    payload_type: str
    signatures: Annotated[list[SignatureDocument], msgspec.Meta(max_length=MAX_SIGNATURES)]


def load_envelope(content: bytes, what: str) -> Envelope:
    """Return the envelope in a text of canonical JSON.

    Raises:
        BundleError: As `read_envelope`, or it is not one.
    """
    return read_envelope(decode(content, EnvelopeDocument, what))


def read_envelope(read: EnvelopeDocument) -> Envelope:
    """Return what an envelope says.

    Raises:
        BundleError: It holds something else than the manifest of a bundle.
    """
    if read.payload_type != PAYLOAD_TYPE:
        raise BundleError("malformed", f"{_WHAT} holds `{read.payload_type[:80]}`, not `{PAYLOAD_TYPE}`")
    signatures = [Signature(key_id=each.keyid, signature=_decoded(each.sig, "a signature")) for each in read.signatures]
    for each in signatures:
        if len(each.signature) != SIGNATURE_BYTES:
            raise BundleError("malformed", f"a signature has {len(each.signature)} bytes, not {SIGNATURE_BYTES}")
    return Envelope(payload=_decoded(read.payload, "the payload"), signatures=tuple(signatures))


def _encoded(content: bytes) -> str:
    return b64encode(content).decode()


def _decoded(text: str, what: str) -> bytes:
    """Return what a text in base64 holds; of the ways to write the same bytes, only the usual one is taken."""
    try:
        content = b64decode(text, validate=True)
    except (Base64Error, ValueError):
        raise BundleError("malformed", f"{what} is not base64") from None
    if _encoded(content) != text:
        raise BundleError("malformed", f"{what} is not base64 in its usual form")
    return content
