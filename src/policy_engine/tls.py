"""TLS: the files that the settings name, found good before anything listens."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn

import msgspec
from cryptography import x509

from policy_engine.config import Settings
from policy_engine.model.errors import SettingsError

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_MODES = {"off": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
_SOON = timedelta(days=14)


class Tls(msgspec.Struct, frozen=True, kw_only=True):
    """How to listen with TLS.

    Attributes:
        certificate: The certificate and what leads to its authority, as PEM.
        key: Its private key, as PEM, not encrypted.
        client_ca: Whose certificates of clients are believed; there is one unless `verify` is "off".
        min_version: "1.2" or "1.3".
        verify: One of `TLS_VERIFY`.
        expires: When the certificate does.
    """

    certificate: Path
    key: Path
    client_ca: Path | None
    min_version: str
    verify: str
    expires: datetime

    def context(self) -> ssl.SSLContext:
        """Return the context of a listener."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = _VERSIONS[self.min_version]
        context.load_cert_chain(self.certificate, self.key)
        if self.client_ca is not None:
            context.load_verify_locations(self.client_ca)
        context.verify_mode = _MODES[self.verify]
        return context

    def expires_soon(self, now: datetime) -> bool:
        """Whether it is time for another certificate."""
        return self.expires - now < _SOON


def read_tls(settings: Settings, now: datetime | None = None) -> Tls | None:
    """Return how to listen with TLS, None where the settings name no certificate.

    Raises:
        SettingsError: A file cannot be used, or the settings do not go together.
    """
    if not settings.tls_certificate:
        for name in ("tls_key", "tls_client_ca", "tls_client_verify"):
            if getattr(settings, name) not in {"", "off"}:
                _refuse(name, "without `tls_certificate` it has no meaning, and nothing would be encrypted")
        return None
    if not settings.tls_key:
        _refuse("tls_certificate", "without `tls_key`, its private key, it cannot be used")
    certificate, key = Path(settings.tls_certificate), Path(settings.tls_key)
    own = _certificates("tls_certificate", certificate)[0]
    _check_dates("tls_certificate", certificate, own, now or datetime.now(UTC))
    _check_key(certificate, key)
    return Tls(
        certificate=certificate,
        key=key,
        client_ca=_client_ca(settings),
        min_version=settings.tls_min_version,
        verify=settings.tls_client_verify or ("required" if settings.tls_client_ca else "off"),
        expires=own.not_valid_after_utc,
    )


def _client_ca(settings: Settings) -> Path | None:
    verify = settings.tls_client_verify
    if not settings.tls_client_ca:
        if verify not in {"", "off"}:
            _refuse(
                "tls_client_verify", f"`{verify}` needs `tls_client_ca`: no certificate could be verified without it"
            )
        return None
    if verify == "off":
        _refuse("tls_client_ca", "`tls_client_verify` is `off`, so it would not be used")
    path = Path(settings.tls_client_ca)
    _certificates("tls_client_ca", path)
    return path


def _certificates(name: str, path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        _refuse(name, f"cannot read `{path}`: {error.strerror}")
    except ValueError:
        _refuse(name, f"`{path}` holds no certificate as PEM")


def _check_dates(name: str, path: Path, certificate: x509.Certificate, now: datetime) -> None:
    if now > certificate.not_valid_after_utc:
        _refuse(name, f"the certificate in `{path}` expired at {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
    if now < certificate.not_valid_before_utc:
        _refuse(
            name, f"the certificate in `{path}` is valid from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
        )


def _check_key(certificate: Path, key: Path) -> None:
    try:
        key.read_bytes()
    except OSError as error:
        _refuse("tls_key", f"cannot read `{key}`: {error.strerror}")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=_ask_nobody)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            _refuse("tls_key", f"`{key}` is not the key of the certificate in `{certificate}`")
        _refuse("tls_key", f"`{key}` holds no private key as PEM, or an encrypted one, which nobody could unlock")
    except ValueError:  # what `_ask_nobody` leads to
        _refuse("tls_key", f"the private key in `{key}` is encrypted; nobody could unlock it")


def _ask_nobody() -> NoReturn:
    """Answer instead of the terminal, where a service would wait for ever."""
    raise ValueError


def _refuse(name: str, detail: str) -> NoReturn:
    raise SettingsError(name, "the settings together", detail) from None
