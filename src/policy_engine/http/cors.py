"""Cross-Origin Resource Sharing: which pages of other origins may read answers. None, unless the settings name them."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from policy_engine.http.front import REQUEST_ID, Application, Environ, StartResponse

_MAX_AGE_SECONDS = 600
_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
_REQUEST_HEADERS = (
    *("Accept", "Authorization", "Content-Type", "If-Match", "If-None-Match", "Last-Event-ID", "X-API-Key"),
    *("X-Change-Reason", "X-Decision-Log", "X-Min-Policy-Version", REQUEST_ID),
)
_SHOWN_HEADERS = ("ETag", "Link", "Location", "Retry-After", REQUEST_ID)
VARY = ("Vary", "Origin")


class Cors:
    """WSGI middleware that lets pages of some origins read answers.

    It never allows credentials that a browser adds by itself, such as cookies: a page has to have a key of its own.
    """

    def __init__(self, behind: Application, origins: Iterable[str]) -> None:
        self._behind = behind
        self._origins = frozenset(origins)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        origin = environ.get("HTTP_ORIGIN")
        added = [VARY, *allowed(origin, self._origins)]
        if origin in self._origins and _is_preflight(environ):
            start_response(f"{HTTPStatus.NO_CONTENT.value} {HTTPStatus.NO_CONTENT.phrase}", [*added, *_PREFLIGHT])
            return []

        def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            return start_response(status, [*headers, *added], *more)

        return self._behind(environ, start)


def allowed(origin: str | None, origins: frozenset[str]) -> list[tuple[str, str]]:
    """Return the headers that let a page of an origin read an answer; none where it may not."""
    if origin is None or origin not in origins:
        return []
    return [("Access-Control-Allow-Origin", origin), ("Access-Control-Expose-Headers", ", ".join(_SHOWN_HEADERS))]


def _is_preflight(environ: Environ) -> bool:
    return environ["REQUEST_METHOD"] == "OPTIONS" and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ


_PREFLIGHT = (
    ("Access-Control-Allow-Methods", _METHODS),
    ("Access-Control-Allow-Headers", ", ".join(_REQUEST_HEADERS)),
    ("Access-Control-Max-Age", str(_MAX_AGE_SECONDS)),
)
