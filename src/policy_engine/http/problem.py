"""Problem details (RFC 9457): the one shape of every error."""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import NamedTuple

import msgspec

from policy_engine.model.diagnostic import Diagnostic

PROBLEM_JSON = "application/problem+json"
JSON = "application/json"


class Reply(NamedTuple):
    """An answer, ready to be sent.

    Attributes:
        request_id: The id of the request, where the work gave it one.
    """

    status: int
    body: bytes
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()
    request_id: str | None = None


class ProblemError(Exception):
    """A request that cannot be served; it becomes a problem document."""

    def __init__(self, status: int, detail: str, errors: Sequence[Diagnostic] = ()) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = tuple(errors)


def problem(
    status: int, detail: str, instance: str, errors: Sequence[Diagnostic] = (), code: str | None = None
) -> Reply:
    """Return the document of one error.

    Besides the members of the standard it has `error`, the detail again, which older callers read, and `code` where
    one status has several causes that callers have to tell apart.
    """
    document = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": instance,
        "error": detail,
    }
    if code is not None:
        document["code"] = code
    if errors:
        document["errors"] = list(errors)
    return Reply(status, msgspec.json.encode(document), PROBLEM_JSON)


_AT = re.compile(r" - at `\$(?P<path>[^`]*)`$")
_SEGMENT = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")
_MISSING = re.compile(r"Object missing required field `(?P<name>[^`]+)`")


def decoding_problem(error: msgspec.DecodeError) -> ProblemError:
    """Return the problem that a body is which cannot be decoded, with its place where there is one."""
    text = str(error)
    if not isinstance(error, msgspec.ValidationError):
        return ProblemError(HTTPStatus.BAD_REQUEST, f"the body is not valid JSON: {_lower(text)}")
    found = _AT.search(text)
    path = found["path"].partition("[...]")[0] if found else ""  # an element that is not named: its array is the place
    pointer = "".join("/" + (name or index) for name, index in _SEGMENT.findall(path))
    detail = _AT.sub("", text)
    missing = _MISSING.match(detail)
    detail = f"field `{missing['name']}` is missing" if missing else _lower(detail)
    diagnostic = Diagnostic(pointer=pointer, detail=detail)
    return ProblemError(HTTPStatus.BAD_REQUEST, str(diagnostic), [diagnostic])


def _lower(text: str) -> str:
    """Return text that starts with a small letter, unless it starts with an acronym."""
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]
