"""Who asks: a key, a token, a certificate that a proxy verified, a trusted network, or nobody in particular."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from hmac import compare_digest
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any, NoReturn

from policy_engine.config import Settings
from policy_engine.http.issuer import IssuerKeys
from policy_engine.http.problem import ProblemError
from policy_engine.http.refusals import Refusals
from policy_engine.identity.certificate import CertificateError, read_certificate
from policy_engine.identity.key import prefix_of
from policy_engine.identity.network import Networks, forwarded_for, is_foreign_page
from policy_engine.identity.principal import Principal
from policy_engine.identity.role import ADMIN
from policy_engine.identity.token import Oidc, TokenError, looks_like_token, read_token
from policy_engine.keyring import Keyring
from policy_engine.rate import address_key, rate_limit

_PROXY_HEADERS = frozenset({"HTTP_FORWARDED", "HTTP_X_FORWARDED_FOR", "HTTP_X_REAL_IP", "HTTP_VIA"})
"""What a proxy adds; without a look at it, everybody behind one on a trusted network would be of that network."""

UNKNOWN_SOURCE = "unknown"
"""The address of whoever asked a proxy of ours that does not say."""

_LOCAL = frozenset({"127.0.0.1", "::1"})
_MAX_TOKENS = 10_000
_WAIT_SECONDS = 0.2
"""How long a request waits for keys of the issuer."""


def credential(environ: Mapping[str, Any]) -> str | None:
    """Return the key or token that a request shows, None when it shows none.

    A bearer without anything is an empty one, which is never valid, and so is a header of which the server has left
    nothing because it is not text. Other ways of showing something, such as passwords for a proxy in front, are passed
    over.
    """
    header: str | None = environ.get("HTTP_AUTHORIZATION")
    if header is not None:
        scheme, _, credentials = header.partition(" ")
        if not scheme or scheme.lower() == "bearer":
            return credentials.strip()
    key: str | None = environ.get("HTTP_X_API_KEY")
    return key


class Authenticator:
    """Finds out who asks. A credential that is not valid is refused, never taken for none."""

    def __init__(self, settings: Settings, keys: Keyring, failed: Refusals) -> None:
        self._keys = keys
        self._failed = failed
        self._admin_key = settings.admin_key.encode()
        self._proxies = Networks(settings.trusted_proxies)
        self._networks = Networks(settings.trusted_networks)
        self._hosts = frozenset(host.lower() for host in settings.trusted_hosts)
        self._certificates = settings.certificates
        self._oidc = settings.oidc
        self._issuer = None if settings.oidc is None else IssuerKeys(settings.oidc.issuer)
        self._tokens: dict[bytes, tuple[Principal, int]] = {}
        self._nobody = Principal.of("anonymous", settings.anonymous_roles, "anonymous")
        self._page = Principal.of("a page of another origin", settings.anonymous_roles, "page")
        self._local = Principal.of("local", settings.trusted_roles, "network")
        self._network = Principal.of("network", settings.trusted_roles, "network")
        self._admin = Principal.of("admin key", (ADMIN,), "admin_key")
        self._limit = rate_limit(settings.rate_limit_logins, "keys that are not valid")

    def start(self) -> None:
        """Begin to fetch the keys of the issuer."""
        if self._issuer is not None:
            self._issuer.start()

    def source(self, environ: Mapping[str, Any]) -> str | None:
        """Return the address that a request comes from: the one that asked our proxy, where there is one."""
        address: str | None = environ.get("REMOTE_ADDR")
        if self._proxies and address in self._proxies:
            return forwarded_for(environ.get("HTTP_X_FORWARDED_FOR", ""), self._proxies) or UNKNOWN_SOURCE
        return address

    def is_here(self, environ: Mapping[str, Any]) -> bool:
        """Whether a request comes from this machine itself, and not through a proxy on it."""
        address = environ.get("REMOTE_ADDR")
        return address in _LOCAL and address not in self._proxies and _PROXY_HEADERS.isdisjoint(environ)

    def identify(self, environ: Mapping[str, Any], *, wait_seconds: float = _WAIT_SECONDS) -> Principal:
        """Return who asks.

        Args:
            environ: The request, as WSGI shows it.
            wait_seconds: How long to wait for keys of the issuer.

        Raises:
            ProblemError: 401: the credential is not valid; 503: that cannot be found out now.
            RateLimitedError: Too many from this address were not valid.
            BusyError: That cannot be found out now.
        """
        text = credential(environ)
        if text is not None:
            return self._credential(text, environ, wait_seconds)
        if self._proxies and environ.get("REMOTE_ADDR") in self._proxies:
            return self._proxied(environ)
        if self._networks and environ.get("REMOTE_ADDR") in self._networks and _PROXY_HEADERS.isdisjoint(environ):
            return self._neighbour(environ.get("REMOTE_ADDR", ""), environ)
        return self._nobody

    def _neighbour(self, address: str, environ: Mapping[str, Any]) -> Principal:
        if is_foreign_page(environ, self._hosts):
            return self._page
        return self._local if _is_loopback(address) else self._network

    def _proxied(self, environ: Mapping[str, Any]) -> Principal:
        """Return who asked a proxy of ours."""
        if self._certificates is not None:
            try:
                found = read_certificate(environ, self._certificates)
            except CertificateError as error:
                self._refuse("certificate", str(error), environ)
            if found is not None:
                return found
        address = forwarded_for(environ.get("HTTP_X_FORWARDED_FOR", ""), self._proxies)
        if address is not None and address in self._networks:
            return self._neighbour(address, environ)
        return self._nobody

    def _credential(self, text: str, environ: Mapping[str, Any], wait_seconds: float) -> Principal:
        if self._admin_key and compare_digest(text.encode(), self._admin_key):
            return self._admin
        if self._oidc is not None and self._issuer is not None and looks_like_token(text):
            try:
                return self._token(text, self._oidc, self._issuer, wait_seconds)
            except TokenError as error:
                self._refuse("token", str(error), environ)
        found = self._keys.identify(text, lambda: self._check_limit(environ))
        if found is None:
            self._refuse("key", "the key is not valid", environ, prefix=prefix_of(text))
        return found

    def _check_limit(self, environ: Mapping[str, Any]) -> None:
        """Refuse to verify what costs much, once too many from an address were not valid.

        Raises:
            RateLimitedError: It was too many.
        """
        if self._limit is not None:
            self._limit.check(address_key(self.source(environ) or ""))

    def _token(self, text: str, oidc: Oidc, issuer: IssuerKeys, wait_seconds: float) -> Principal:
        """Return who shows a token; one that was verified with the keys that the issuer has now is not verified again.

        Raises:
            TokenError: It is not accepted.
            ProblemError: 503: the keys are not known.
        """
        digest = sha256(text.encode()).digest()
        known = self._tokens.get(digest)
        now = time.time()
        if known is not None and known[1] == issuer.generation:
            if known[0].expires_at is not None and now >= known[0].expires_at + oidc.leeway_seconds:
                raise TokenError("the claim `exp` of the token is not accepted")
            return known[0]
        found = self._read(text, oidc, issuer, wait_seconds)
        if len(self._tokens) >= _MAX_TOKENS:
            self._tokens.clear()
        self._tokens[digest] = found
        return found[0]

    def _read(self, text: str, oidc: Oidc, issuer: IssuerKeys, wait_seconds: float) -> tuple[Principal, int]:
        if issuer.keys is None:
            issuer.look_again(wait_seconds)
        try:
            return _read_with(text, oidc, issuer)
        except TokenError as error:
            if not (error.may_be_newer and issuer.look_again(wait_seconds)):
                raise
        return _read_with(text, oidc, issuer)

    def _refuse(self, method: str, reason: str, environ: Mapping[str, Any], **more: str | None) -> NoReturn:
        source = self.source(environ) or ""
        self._failed.note(source, reason, method=method, **more)
        if self._limit is not None:
            self._limit.take(address_key(source))
        raise ProblemError(HTTPStatus.UNAUTHORIZED, reason)


def _read_with(text: str, oidc: Oidc, issuer: IssuerKeys) -> tuple[Principal, int]:
    """Return who shows a token, by the keys that the issuer has now, and the generation of these."""
    generation, keys = issuer.generation, issuer.keys
    if keys is None:
        raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, "the keys of the issuer of tokens are not known yet")
    return read_token(text, keys, oidc, time.time()), generation


@lru_cache(maxsize=1024)
def _is_loopback(address: str) -> bool:
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return (getattr(parsed, "ipv4_mapped", None) or parsed).is_loopback
