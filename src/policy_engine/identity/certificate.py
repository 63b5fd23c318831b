"""Client certificates that a proxy has verified: whom its headers name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from policy_engine.identity.principal import Grant, Principal

VERIFIED = "SUCCESS"


class Certificates(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a proxy in front says who showed a certificate.

    Attributes:
        subjects: What each subject is given, by its distinguished name as the proxy writes it.
        verify_header: The header that says `SUCCESS` when the proxy has verified the chain.
        subject_header: The header with the subject.
    """

    subjects: dict[str, Grant] = {}
    verify_header: str = "X-SSL-Client-Verify"
    subject_header: str = "X-SSL-Client-S-DN"


class CertificateError(ValueError):
    """A certificate that is not accepted."""


def variable(header: str) -> str:
    """Return the name under which WSGI hands a header on."""
    return f"HTTP_{header.upper().replace('-', '_')}"


def read_certificate(environ: Mapping[str, Any], certificates: Certificates) -> Principal | None:
    """Return whose certificate a proxy has verified; None when it was shown none.

    The headers have to come from a proxy that is trusted, which removes those that callers send.

    Raises:
        CertificateError: It did not verify, or nobody knows its subject.
    """
    verified = environ.get(variable(certificates.verify_header), "NONE")
    if verified in {"", "NONE"}:
        return None
    if verified != VERIFIED:
        raise CertificateError("the proxy has not verified the client certificate")
    subject = environ.get(variable(certificates.subject_header), "")
    grant = certificates.subjects.get(subject)
    if grant is None:
        raise CertificateError("the subject of the client certificate is not one of `certificates`")
    return Principal.of(subject, grant.roles, "certificate", client_id=grant.client_id)
