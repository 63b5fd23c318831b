"""Who may change something, until there are roles: this machine, and whoever has the admin key."""

from __future__ import annotations

from collections.abc import Mapping
from hmac import compare_digest
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from policy_engine.http.problem import ProblemError

_PROXY_HEADERS = frozenset({"HTTP_FORWARDED", "HTTP_X_FORWARDED_FOR", "HTTP_X_REAL_IP", "HTTP_VIA"})
"""What a proxy on this machine adds; without it, everybody behind the proxy would be this machine."""


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
