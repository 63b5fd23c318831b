"""Who may do what: each request is let through or refused here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

from policy_engine.activation import Cause
from policy_engine.http.authentication import Authenticator
from policy_engine.http.permissions import CONFIDENTIAL, PERMISSIONS, PUBLIC
from policy_engine.http.problem import ProblemError
from policy_engine.http.refusals import Refusals
from policy_engine.identity.permission import Permission
from policy_engine.identity.principal import Principal
from policy_engine.rate import address_key
from policy_engine.service import Caller, PolicyService

MAX_REASON = 500
MAX_DIGITS = 16
_EXTENDED = re.compile(r"UTF-8'[A-Za-z0-9-]*'(.*)", re.IGNORECASE)
_KEPT = "policy_engine.principal"
"""Where a request keeps who asks: callers' headers cannot have this name."""


class Access:
    """Tells who asks, and what they may do."""

    def __init__(self, service: PolicyService) -> None:
        record = service.events.record
        self._authenticator = Authenticator(service.settings, service.keys, Refusals(record, "LOGIN_FAILED"))
        self._refused = Refusals(record, "CHANGE_REFUSED")

    def start(self) -> None:
        """Begin what goes on beside."""
        self._authenticator.start()

    def principal(self, environ: dict[str, Any]) -> Principal:
        """Return who asks.

        Raises:
            ProblemError, BusyError: As `Authenticator.identify`.
        """
        known: Principal | None = environ.get(_KEPT)
        if known is None:
            known = environ[_KEPT] = self._authenticator.identify(environ)
        return known

    def caller(self, environ: dict[str, Any]) -> Caller:
        """Return who asks for a check, and how it is to be answered.

        Raises:
            ProblemError: A header cannot be understood, or nothing may be checked.
            BusyError: As `principal`.
        """
        principal = self.principal(environ)
        if principal.scope is not None and not _may_ask(principal):
            raise _refused(principal, Permission.CHECK)
        source = self._authenticator.source(environ)
        demanded = environ.get("HTTP_X_MIN_POLICY_VERSION")
        wanted = environ.get("HTTP_X_DECISION_LOG")
        return Caller(
            source,
            self._authenticator.is_here(environ) or principal.is_known,
            wanted is not None and _is_sync(wanted),
            0 if demanded is None else _version(demanded),
            principal.scope,
        )

    def authorise(self, endpoint: str | None, environ: dict[str, Any], arguments: Mapping[str, Any]) -> None:
        """Let a request pass or refuse it.

        Args:
            endpoint: What it is for; None where there is nothing.
            environ: The request.
            arguments: What its path names.

        Raises:
            ProblemError: 401 or 403.
            BusyError: As `principal`.
        """
        if endpoint is None or endpoint in PUBLIC:
            return
        principal = self.principal(environ)
        if endpoint not in PERMISSIONS:
            raise ProblemError(HTTPStatus.FORBIDDEN, "nobody may use this: it does not say which permission it needs")
        permission = PERMISSIONS[endpoint]
        if permission is None or (permission is Permission.CHECK and _may_ask(principal)):
            return
        if not principal.may(permission):
            raise _refused(principal, permission)
        if principal.client_id is not None and arguments.get("client_id") != principal.client_id:
            raise ProblemError(HTTPStatus.FORBIDDEN, f"this credential is for client `{principal.client_id}` alone")

    def authorise_stream(self, environ: dict[str, Any]) -> frozenset[str]:
        """Let somebody follow events or refuse it, without waiting: other streams would wait too.

        Returns:
            The types of events that are hidden from this one.

        Raises:
            ProblemError, BusyError: As `authorise`.
        """
        environ[_KEPT] = self._authenticator.identify(environ, wait_seconds=0)
        self.require(environ, Permission.READ_EVENTS)
        return self.hidden_events(environ)

    def hidden_events(self, environ: dict[str, Any]) -> frozenset[str]:
        """Return the types of events that are hidden from whoever asks."""
        return frozenset() if self.principal(environ).may(Permission.READ_KEYS) else CONFIDENTIAL

    def require(self, environ: dict[str, Any], permission: Permission) -> None:
        """Refuse who may not do something.

        Raises:
            ProblemError: 401 or 403.
            BusyError: As `principal`.
        """
        principal = self.principal(environ)
        if not principal.may(permission):
            raise _refused(principal, permission)

    def source(self, environ: dict[str, Any]) -> str | None:
        """Return the address that a request comes from."""
        return self._authenticator.source(environ)

    def note_refusal(self, environ: dict[str, Any], action: str, reason: str) -> None:
        """Tell that somebody wanted to change something who may not; one whose credential is not valid is told already.

        Args:
            environ: The request.
            action: What was asked for, such as `DELETE /api/v1/policies/web`.
            reason: Why not.
        """
        known: Principal | None = environ.get(_KEPT)
        if known is not None:
            author = self._author(known, environ)
            self._refused.note(self.source(environ) or "", reason, author=author, action=action)

    def counted_as(self, environ: dict[str, Any]) -> str:
        """Return under what changes of whoever asks are counted."""
        principal = self.principal(environ)
        return f"{principal.method} {principal.key_id or principal.name} {address_key(self.source(environ) or '')}"

    def breaks_glass(self, environ: dict[str, Any]) -> bool:
        """Whether somebody uses the admin key of the settings, which is for emergencies."""
        return self.principal(environ).method == "admin_key"

    def cause(self, environ: dict[str, Any]) -> Cause:
        """Return who changes something and why; whether that is allowed has been found out before."""
        reason = _decoded(_text(environ.get("HTTP_X_CHANGE_REASON", "")))
        return Cause(author=self._author(self.principal(environ), environ), reason=reason[:MAX_REASON])

    def _author(self, principal: Principal, environ: dict[str, Any]) -> str:
        return f"{principal.name} ({_shown_by(principal)}{self.source(environ) or ''})"


def _decoded(value: str) -> str:
    """Return what a header says that may be an extended value (RFC 8187): `UTF-8''` and text with percent signs."""
    extended = _EXTENDED.fullmatch(value)
    return unquote(extended[1], errors="replace") if extended else value


def _shown_by(principal: Principal) -> str:
    """Return what tells somebody from others of the same name."""
    if principal.key_id is not None:
        return f"key {principal.key_id}, "
    return f"{principal.method}, " if principal.method in {"token", "certificate"} else ""


def _may_ask(principal: Principal) -> bool:
    """Whether somebody may ask for some check; the bounds of which are its scope."""
    return principal.may(Permission.CHECK) or principal.may(Permission.SIMULATE)


def _refused(principal: Principal, permission: Permission) -> ProblemError:
    """Return the problem that somebody may not do something."""
    if principal.method == "anonymous":
        return ProblemError(
            HTTPStatus.UNAUTHORIZED,
            f"the permission `{permission}` is missing: show a key or token that has it (`Authorization: Bearer ...`)",
        )
    if principal.method == "page":
        detail = f"on behalf of a page of another origin the permission `{permission}` needs a key or token"
    else:
        roles = ", ".join(f"`{role}`" for role in principal.roles) or "no role"
        detail = f"the permission `{permission}` is missing: this caller has {roles}"
    return ProblemError(HTTPStatus.FORBIDDEN, detail)


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
