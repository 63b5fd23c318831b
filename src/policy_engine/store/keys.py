"""The key that signs checkpoints, and signatures in DSSE envelopes."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
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

PRIVATE = "audit.pem"
_PUBLIC = "audit-{}.pub.pem"


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


class KeyDirectory:
    """The directory with the private key in use, readable by the owner alone, and every public key so far."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._loaded: tuple[tuple[int, int, int], SigningKey] | None = None

    def make(self) -> SigningKey:
        """Return the key in use, one that is made now if there is none yet.

        Raises:
            StateError: The key cannot be read or made.
        """
        try:
            if not (self.directory / PRIVATE).exists():
                self._install(new_key(), replace=False)
        except OSError as error:
            raise StateError(f"cannot make an audit key in `{self.directory}`: {error.strerror}") from error
        return self.current()

    def current(self) -> SigningKey:
        """Return the key in use.

        Raises:
            StateError: There is none, or it cannot be read.
        """
        path = self.directory / PRIVATE
        try:
            status = path.stat()
            stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
            if self._loaded is None or self._loaded[0] != stamp:
                self._loaded = (stamp, self._read(path))
        except StateError:
            raise
        except OSError as error:
            raise StateError(f"cannot use the audit key `{path}`: {error.strerror}") from error
        return self._loaded[1]

    def rotate(self, key: SigningKey) -> None:
        """Put another key in use; the old private key is gone then, its public key stays.

        Raises:
            StateError: It could not be written; the old key is in use.
        """
        try:
            self._install(key, replace=True)
        except OSError as error:
            raise StateError(f"cannot write the audit key in `{self.directory}`: {error.strerror}") from error

    def trusted(self) -> list[PublicKey]:
        """Return every public key that was in use here.

        Raises:
            StateError: One of them cannot be read.
        """
        return [read_public_key(path) for path in sorted(self.directory.glob(_PUBLIC.format("*")))]

    def _install(self, key: SigningKey, *, replace: bool) -> None:
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        public = self.directory / _PUBLIC.format(key.public.key_id)
        public.write_bytes(_public_pem(key.public))
        draft = self.directory / f".{PRIVATE}.{token_hex(8)}"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(key.pem())
            file.flush()
            os.fsync(file.fileno())
        if replace:
            draft.replace(self.directory / PRIVATE)
            return
        try:
            os.link(draft, self.directory / PRIVATE)  # fails when another process was first
        except FileExistsError:
            public.unlink()
        finally:
            draft.unlink()

    @staticmethod
    def _read(path: Path) -> SigningKey:
        if path.stat().st_mode & 0o077:
            raise StateError(f"the audit key `{path}` can be read by others: `chmod 600` it, or rotate it")
        try:
            key = load_pem_private_key(path.read_bytes(), password=None)
        except (ValueError, TypeError) as error:
            raise StateError(f"`{path}` holds no private key") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise StateError(f"`{path}` is not an Ed25519 key")
        return SigningKey(key)


def new_key() -> SigningKey:
    """Return a new key pair."""
    return SigningKey(Ed25519PrivateKey.generate())


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


def _public_pem(key: PublicKey) -> bytes:
    public = Ed25519PublicKey.from_public_bytes(key.raw)
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def pre_auth_encoding(payload_type: str, payload: bytes) -> bytes:
    """Return what DSSE signs: the type and the payload, each behind its length."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
