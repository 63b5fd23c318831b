"""Ed25519 keys, and the signatures of DSSE (Dead Simple Signing Envelope) that they make and check."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from policy_engine.model.errors import StateError


class PublicKey(NamedTuple):
    """A key that signatures are checked with; its id is the start of the SHA-256 of its 32 bytes."""

    key_id: str
    raw: bytes

    @classmethod
    def of(cls, raw: bytes) -> PublicKey:
        """Return the key of these 32 bytes."""
        return cls(sha256(raw).hexdigest()[:16], raw)

    def verifies(self, payload_type: str, payload: bytes, signature: bytes) -> bool:
        """Whether a signature is this key's over a payload."""
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, pre_auth_encoding(payload_type, payload))
        except (InvalidSignature, ValueError):
            return False
        return True

    def pem(self) -> bytes:
        """Return the key as SubjectPublicKeyInfo."""
        public = Ed25519PublicKey.from_public_bytes(self.raw)
        return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


class SigningKey:
    """The private half of a key pair."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = PublicKey.of(private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))

    def sign(self, payload_type: str, payload: bytes) -> bytes:
        """Return the DSSE signature over a payload."""
        return self._private.sign(pre_auth_encoding(payload_type, payload))

    def pem(self) -> bytes:
        """Return the key as PKCS #8."""
        return self._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def new_key() -> SigningKey:
    """Return a new key pair."""
    return SigningKey(Ed25519PrivateKey.generate())


def read_private_key(path: Path) -> SigningKey:
    """Return the key pair of which a PEM file holds the private half.

    Raises:
        StateError: It holds none, or others than its owner can read it.
        OSError: It cannot be read.
    """
    if path.stat().st_mode & 0o077:
        raise StateError(f"the private key `{path}` can be read by others: `chmod 600` it, or make another one")
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise StateError(f"`{path}` holds no private key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise StateError(f"`{path}` is not an Ed25519 key")
    return SigningKey(key)


def read_public_key(path: Path) -> PublicKey:
    """Return the public key in a PEM file.

    Raises:
        StateError: There is none.
    """
    try:
        key = load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise StateError(f"cannot read the key `{path}`: {error.strerror}") from error
    except ValueError as error:
        raise StateError(f"`{path}` holds no public key") from error
    if not isinstance(key, Ed25519PublicKey):
        raise StateError(f"`{path}` is not an Ed25519 key")
    return PublicKey.of(key.public_bytes(Encoding.Raw, PublicFormat.Raw))


def write_new(path: Path, content: bytes, mode: int) -> None:
    """Write a key to a file that is not there yet.

    Raises:
        OSError: It is there, or cannot be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def pre_auth_encoding(payload_type: str, payload: bytes) -> bytes:
    """Return what DSSE signs: the type and the payload, each behind its length."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
