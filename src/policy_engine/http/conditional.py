"""Conditional requests (RFC 9110): entity tags, `If-None-Match` on reads, `If-Match` on changes."""

from __future__ import annotations

from http import HTTPStatus

from flask import Response, request

from policy_engine.http.bodies import service
from policy_engine.http.problem import ProblemError


def conditional(response: Response) -> Response:
    """Return an answer with its entity tag; without its body, as 304, when the caller has it already."""
    if "ETag" not in response.headers:
        response.add_etag()
    tag, _ = response.get_etag()
    if tag is not None and request.if_none_match.contains_weak(tag):
        return Response(status=HTTPStatus.NOT_MODIFIED, headers={"ETag": response.headers["ETag"]})
    return response


def expected(*, is_optional: bool = False) -> list[str] | None:
    """Return the entity tags one of which must be that of what is to be changed; None for any.

    Args:
        is_optional: Whether none has to be named, whatever the settings demand.

    Raises:
        ProblemError: The settings demand that a change names one, and this one does not.
    """
    if "If-Match" not in request.headers:
        if service().settings.require_if_match and not is_optional:
            raise ProblemError(
                HTTPStatus.PRECONDITION_REQUIRED,
                "a change has to name the policy it means: send its ETag as `If-Match`",
            )
        return None
    return None if request.if_match.star_tag else list(request.if_match.as_set())


def expect_nothing() -> None:
    """Refuse to create what the caller takes to be there.

    Raises:
        ProblemError: The request has an `If-Match`, which nothing can match that is not there yet.
    """
    if "If-Match" in request.headers:
        raise ProblemError(
            HTTPStatus.PRECONDITION_FAILED, "what is to be created has no ETag yet: send it without `If-Match`"
        )
