"""Certificates for development: an authority of one's own, a server and a client."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

FILES = ("ca.pem", "ca-key.pem", "server.pem", "server-key.pem", "client.pem", "client-key.pem")
_BACKDATED = timedelta(minutes=5)
"""Clocks of other machines may be late."""

_SIGNS = {"digital_signature": True}
_CERTIFIES = {"key_cert_sign": True, "crl_sign": True}
_USES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


class _Issued(NamedTuple):
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)


def make_development_certificates(
    directory: Path, *, hosts: Sequence[str], client: str, days: int, replace: bool = False, now: datetime | None = None
) -> None:
    """Write an authority, a certificate for a server and one for a client to a directory, each with its key.

    Args:
        directory: Where; it is made, for its owner alone.
        hosts: Names and addresses of the server.
        client: The name of the client.
        days: How long they are valid.
        replace: Whether to replace what is there.
        now: When they begin to be valid.

    Raises:
        FileExistsError: There is such a file already; nothing was written.
        OSError: The directory cannot be written.
        ValueError: A name cannot be in a certificate.
    """
    present = next((directory / name for name in FILES if (directory / name).exists()), None)
    if present is not None and not replace:
        raise FileExistsError(f"`{present}` exists")
    begins = (now or datetime.now(UTC)) - _BACKDATED
    issue = _Authority("FLOPY-NET Policy Engine development CA", begins, begins + timedelta(days=days) + _BACKDATED)
    server = issue.leaf(hosts[0], ExtendedKeyUsageOID.SERVER_AUTH, [_general_name(host) for host in hosts])
    leaf = issue.leaf(client, ExtendedKeyUsageOID.CLIENT_AUTH, [x509.DNSName(client)])
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, content in _files({"ca": issue.own, "server": server, "client": leaf}):
        _write(directory / name, content)


def _files(issued: Mapping[str, _Issued]) -> Iterator[tuple[str, bytes]]:
    for name, each in issued.items():
        yield f"{name}-key.pem", each.key_pem
        yield f"{name}.pem", each.pem


def _write(path: Path, content: bytes) -> None:
    """Write a file for its owner alone, whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


class _Authority:
    """An authority, and what it issues."""

    def __init__(self, name: str, begins: datetime, ends: datetime) -> None:
        self._begins, self._ends = begins, ends
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(name)
        builder = self._builder(subject, subject, key, _CERTIFIES).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        self.own = _Issued(builder.sign(key, hashes.SHA256()), key)

    def leaf(self, name: str, usage: ObjectIdentifier, names: Sequence[x509.GeneralName]) -> _Issued:
        """Issue a certificate."""
        key, issuer = ec.generate_private_key(ec.SECP256R1()), self.own.certificate
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.own.key.public_key())
        builder = (
            self._builder(_name(name), issuer.subject, key, _SIGNS)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(authority, critical=False)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
        )
        return _Issued(builder.sign(self.own.key, hashes.SHA256()), key)

    def _builder(
        self, subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, uses: Mapping[str, bool]
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder(subject_name=subject, issuer_name=issuer, public_key=key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._begins)
            .not_valid_after(self._ends)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.KeyUsage(**{use: uses.get(use, False) for use in _USES}), critical=True)
        )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
