"""The callable in front of Flask: hot endpoints are answered here, everything else goes on to Flask."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, TypeAlias
from urllib.parse import parse_qsl

from policy_engine.http.problem import ProblemError, Reply, problem
from policy_engine.ids import uuid7
from policy_engine.model.diagnostic import Diagnostic
from policy_engine.model.errors import BusyError, InvalidRequestError, OutdatedError, RateLimitedError
from policy_engine.service import Caller

log = logging.getLogger(__name__)

Environ: TypeAlias = dict[str, Any]
StartResponse: TypeAlias = Callable[[str, list[tuple[str, str]]], Any]
Application: TypeAlias = Callable[[Environ, StartResponse], Iterable[bytes]]
Endpoint: TypeAlias = Callable[[bytes, Mapping[str, str], str | None, Caller], Reply]

MAX_REQUEST_ID = 128
REQUEST_ID = "X-Request-ID"
RETRY = (("Retry-After", "1"),)
CHALLENGE = (("WWW-Authenticate", 'Bearer realm="policy-engine"'),)

_HEADERS: dict[int, tuple[tuple[str, str], ...]] = {
    HTTPStatus.UNAUTHORIZED: CHALLENGE,
    HTTPStatus.SERVICE_UNAVAILABLE: RETRY,
}
"""What goes with the problems of some statuses."""
PLAIN = ("X-Content-Type-Options", "nosniff")
"""Keeps browsers from taking an answer for a page."""

_STATUS = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}


def request_id(environ: Environ) -> str | None:
    """Return the id that the caller gave the request, None when there is none that can be sent back."""
    given: str | None = environ.get("HTTP_X_REQUEST_ID")
    return given if given and len(given) <= MAX_REQUEST_ID and given.isascii() and given.isprintable() else None


def read_body(environ: Environ, limit: int) -> bytes:
    """Return the body of a request.

    Raises:
        ProblemError: It is larger than the limit.
    """
    declared = environ.get("CONTENT_LENGTH")
    if declared:
        if not declared.isdigit():
            raise ProblemError(HTTPStatus.BAD_REQUEST, "the header `Content-Length` is not a number")
        size = int(declared)
        content: bytes = environ["wsgi.input"].read(size) if size <= limit else b""
    else:
        content = environ["wsgi.input"].read(limit + 1) if environ.get("wsgi.input_terminated") else b""
        size = len(content)
    if size > limit:
        raise ProblemError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is larger than {limit} bytes")
    return content


def guarded(path: str, work: Callable[..., Reply], *arguments: Any) -> Reply:
    """Return what some work answers, or the problem that it ran into. Here, and nowhere else, errors become answers."""
    try:
        return work(*arguments)
    except ProblemError as error:
        reply = problem(error.status, error.detail, path, error.errors)
        return reply._replace(headers=_HEADERS.get(error.status, ()))
    except (BusyError, OutdatedError) as error:
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error), path)._replace(headers=RETRY)
    except RateLimitedError as error:
        retry = (("Retry-After", str(error.retry_after_seconds)),)
        return problem(HTTPStatus.TOO_MANY_REQUESTS, str(error), path)._replace(headers=retry)
    except InvalidRequestError as error:
        diagnostic = Diagnostic(pointer=error.pointer, detail=error.detail)
        return problem(HTTPStatus.BAD_REQUEST, str(diagnostic), path, [diagnostic])
    except UnicodeDecodeError:
        return problem(HTTPStatus.BAD_REQUEST, "the body is not UTF-8 text", path)
    except RecursionError:
        return problem(HTTPStatus.BAD_REQUEST, "the body is nested too deep", path)
    except Exception:
        log.exception("a request to `%s` failed", path)
        return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "something went wrong inside; the log says what", path)


class Front:
    """WSGI middleware that answers the hot endpoints itself."""

    def __init__(
        self,
        behind: Application,
        endpoints: Mapping[str, Endpoint],
        max_body_bytes: int,
        identify: Callable[[Environ], Caller],
    ) -> None:
        self._behind = behind
        self._endpoints = endpoints
        self._limit = max_body_bytes
        self._identify = identify

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        path = environ["PATH_INFO"]
        endpoint = self._endpoints.get(path)
        if endpoint is None or environ["REQUEST_METHOD"] != "POST":
            return self._behind(environ, start_response)
        caller = request_id(environ)
        reply = guarded(path, self._run, endpoint, environ, caller)
        headers = [
            ("Content-Type", reply.content_type),
            ("Content-Length", str(len(reply.body))),
            (REQUEST_ID, reply.request_id or caller or uuid7()),
            PLAIN,
            *reply.headers,
        ]
        start_response(_STATUS[reply.status], headers)
        return [reply.body]

    def _run(self, endpoint: Endpoint, environ: Environ, caller: str | None) -> Reply:
        query = environ.get("QUERY_STRING")
        asked = dict(parse_qsl(query)) if query else {}
        who = self._identify(environ)  # before the body is read: strangers are not to fill the memory
        return endpoint(read_body(environ, self._limit), asked, caller, who)
