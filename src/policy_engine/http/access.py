"""Who may change something, until there are roles: this machine, and whoever has the admin key."""

from __future__ import annotations

from collections.abc import Mapping
from hmac import compare_digest
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from policy_engine.activation import Cause
from policy_engine.http.problem import ProblemError
from policy_engine.service import Caller

MAX_REASON = 500
MAX_DIGITS = 16
_LOCAL = frozenset({"127.0.0.1", "::1"})

_PROXY_HEADERS = frozenset({"HTTP_FORWARDED", "HTTP_X_FORWARDED_FOR", "HTTP_X_REAL_IP", "HTTP_VIA"})
"""What a proxy on this machine adds; without it, everybody behind the proxy would be this machine."""


class Access:
    """Tells who asks."""

    def __init__(self, admin_key: str) -> None:
        self._admin_key = admin_key

    def caller(self, environ: Mapping[str, Any]) -> Caller:
        """Return who asks for a check, and how it is to be answered.

        Raises:
            ProblemError: A header cannot be understood.
        """
        source = environ.get("REMOTE_ADDR")
        demanded = environ.get("HTTP_X_MIN_POLICY_VERSION")
        wanted = environ.get("HTTP_X_DECISION_LOG")
        return Caller(
            source,
            source in _LOCAL or self.is_trusted(environ),
            wanted is not None and _is_sync(wanted),
            0 if demanded is None else _version(demanded),
        )

    def is_trusted(self, environ: Mapping[str, Any]) -> bool:
        """Whether the caller could change something too."""
        try:
            authorise_write(environ, self._admin_key)
        except ProblemError:
            return False
        return True

    def cause(self, environ: Mapping[str, Any]) -> Cause:
        """Return who changes something and why; whether that is allowed has been found out before."""
        author = "admin key" if _key(environ) is not None else "local"
        reason = _text(environ.get("HTTP_X_CHANGE_REASON", ""))
        return Cause(author=f"{author} ({environ.get('REMOTE_ADDR', '')})", reason=reason[:MAX_REASON])


def _text(header: str) -> str:
    """Return a header as its sender meant it: WSGI hands on each byte as a character, and most send UTF-8."""
    try:
        return header.encode("latin-1").decode()
    except UnicodeError:
        return header


def _is_sync(wanted: str) -> bool:
    if wanted.lower() in {"sync", "batched"}:
        return wanted.lower() == "sync"
    raise ProblemError(HTTPStatus.BAD_REQUEST, "the header `X-Decision-Log` is `sync` or `batched`")


def _version(demanded: str) -> int:
    if demanded.isascii() and demanded.isdigit() and len(demanded) <= MAX_DIGITS:
        return int(demanded)
    raise ProblemError(HTTPStatus.BAD_REQUEST, "the header `X-Min-Policy-Version` is not a number")


def authorise_write(environ: Mapping[str, Any], admin_key: str) -> None:
    """Let a change pass or refuse it.

    The right key always passes. Without it, a change passes only from this machine itself; and not on behalf of a web
    page of somewhere else: a browser here that visits a hostile page would otherwise be this machine.

    Raises:
        ProblemError: 401 or 403.
    """
    given = _key(environ)
    if given is not None:
        if admin_key and compare_digest(given.encode(), admin_key.encode()):
            return
        raise ProblemError(HTTPStatus.UNAUTHORIZED, "the key is not valid")
    if not _is_loopback(environ.get("REMOTE_ADDR", "")):
        raise ProblemError(HTTPStatus.UNAUTHORIZED, "changes from other machines need the admin key (POLICY_ADMIN_KEY)")
    if not _PROXY_HEADERS.isdisjoint(environ):
        raise ProblemError(HTTPStatus.UNAUTHORIZED, "changes through a proxy need the admin key (POLICY_ADMIN_KEY)")
    if not _is_local_name(environ.get("HTTP_HOST", "")) or _is_foreign_page(environ):
        raise ProblemError(HTTPStatus.FORBIDDEN, "changes on behalf of a page of another origin need the admin key")


def _key(environ: Mapping[str, Any]) -> str | None:
    header: str = environ.get("HTTP_AUTHORIZATION", "")
    scheme, _, credentials = header.partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    key: str | None = environ.get("HTTP_X_API_KEY")
    return key


def _is_loopback(address: str) -> bool:
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_loopback


def _is_local_name(host: str) -> bool:
    try:
        name = (urlsplit(f"//{host}").hostname or "") if host else "localhost"
    except ValueError:
        return False
    return name == "localhost" or _is_loopback(name)


def _is_foreign_page(environ: Mapping[str, Any]) -> bool:
    origin = environ.get("HTTP_ORIGIN")
    try:
        return origin is not None and urlsplit(origin).netloc != environ.get("HTTP_HOST")
    except ValueError:
        return True
