"""The hot endpoints: plain functions from the bytes of a request to the bytes of its answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any

import msgspec

from policy_engine.http.problem import ProblemError, Reply, decoding_problem
from policy_engine.identity.scope import Scope
from policy_engine.language.suggest import did_you_mean
from policy_engine.model.decision import Decision
from policy_engine.model.diagnostic import Diagnostic
from policy_engine.service import Caller, PolicyService

Instant = Annotated[datetime, msgspec.Meta(tz=True)]
PolicyType = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]

MAX_SYNC_BATCH = 1000
"""How many decisions one answer may wait for to reach the disk."""

_AT_ONCE = " when they are to be on the disk before the answer"

MAX_EXPLAINED_RULES = 200_000
"""How many rules one batch may have explained: the traces would not fit into memory otherwise."""


class CheckRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a check."""

    policy_type: PolicyType
    context: dict[str, Any]
    at: Instant | None = None
    explain: bool = False


class LegacyCheckRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a check as older callers send it: `type` will do for `policy_type`."""

    context: dict[str, Any]
    policy_type: Annotated[str, msgspec.Meta(max_length=128)] = ""
    type: Annotated[str, msgspec.Meta(max_length=128)] = ""
    at: Instant | None = None
    explain: bool = False


class BatchRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a batch: one type, many contexts."""

    policy_type: PolicyType
    contexts: list[dict[str, Any]]
    at: Instant | None = None
    explain: bool = False
    fields: list[str] | None = None


_encode = msgspec.json.Encoder().encode
_decode_check = msgspec.json.Decoder(CheckRequest).decode
_decode_legacy = msgspec.json.Decoder(LegacyCheckRequest).decode
_decode_batch = msgspec.json.Decoder(BatchRequest).decode


class CheckEndpoints:
    """The functions behind the check routes; each takes a body, the query and the caller's request id."""

    def __init__(self, service: PolicyService) -> None:
        self._service = service
        self.routes = {
            "/api/v1/check": self.check,
            "/api/v1/check/batch": self.check_batch,
            "/api/check_policy": self.check_legacy,
        }

    def check(self, body: bytes, _query: Mapping[str, str], request_id: str | None, caller: Caller) -> Reply:
        """Decide one request."""
        try:
            request = _decode_check(body)
        except msgspec.DecodeError as error:
            raise decoding_problem(error) from None
        return self._answer(request.policy_type, request, request_id, caller)

    def check_legacy(self, body: bytes, _query: Mapping[str, str], request_id: str | None, caller: Caller) -> Reply:
        """Decide one request of an older caller."""
        try:
            request = _decode_legacy(body)
        except msgspec.DecodeError as error:
            raise decoding_problem(error) from None
        policy_type = request.policy_type or request.type
        if not policy_type:
            place = Diagnostic(pointer="", detail="field `policy_type` is missing")
            raise ProblemError(HTTPStatus.BAD_REQUEST, str(place), [place])
        return self._answer(policy_type, request, request_id, caller)

    def _answer(
        self, policy_type: str, request: CheckRequest | LegacyCheckRequest, request_id: str | None, caller: Caller
    ) -> Reply:
        if caller.scope is not None:
            _confine(caller.scope, (request.context,), request)
        decision, body = self._service.answer(
            policy_type, request.context, at=request.at, explain=request.explain, request_id=request_id, caller=caller
        )
        return Reply(200, body, request_id=decision.request_id)

    def check_batch(self, body: bytes, query: Mapping[str, str], request_id: str | None, caller: Caller) -> Reply:
        """Decide many requests of one type by one revision; `fields` picks what comes back of each decision."""
        try:
            request = _decode_batch(body)
        except msgspec.DecodeError as error:
            raise decoding_problem(error) from None
        self._check_size(request, caller)
        if caller.scope is not None:
            _confine(caller.scope, request.contexts, request)
        fields = _fields(query.get("fields"), request.fields)
        revision = self._service.revision
        decisions = self._service.check_many(
            request.policy_type,
            request.contexts,
            at=request.at,
            explain=request.explain,
            request_id=request_id,
            caller=caller,
        )
        first = decisions[0] if decisions else None
        answer = {
            "decisions": [{name: getattr(decision, name) for name in fields} for decision in decisions]
            if fields
            else decisions,
            "count": len(decisions),
            "policy_version": first.policy_version if first else revision.version,
            "revision_digest": first.revision_digest if first else revision.digest,
        }
        return Reply(200, _encode(answer))

    def _check_size(self, request: BatchRequest, caller: Caller) -> None:
        limit = self._service.settings.max_batch
        is_sync = caller.sync or self._service.settings.decision_log == "sync"
        if is_sync:
            limit = min(limit, MAX_SYNC_BATCH)
        if len(request.contexts) > limit:
            place = Diagnostic(
                pointer="/contexts",
                detail=f"{len(request.contexts)} contexts; at most {limit} are taken{_AT_ONCE if is_sync else ''}",
            )
            raise ProblemError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, str(place), [place])
        kind = self._service.revision.program.types.get(request.policy_type)
        if request.explain and kind is not None and len(request.contexts) * len(kind.rules) > MAX_EXPLAINED_RULES:
            place = Diagnostic(
                pointer="/explain",
                detail=f"{len(request.contexts)} contexts with {len(kind.rules)} rules each are too many to explain",
                hint=f"at most {MAX_EXPLAINED_RULES} rules in one batch",
            )
            raise ProblemError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, str(place), [place])


def _confine(
    scope: Scope, contexts: Iterable[dict[str, Any]], request: CheckRequest | LegacyCheckRequest | BatchRequest
) -> None:
    """Refuse what a caller may not ask.

    Raises:
        ProblemError: 403.
    """
    refusal = scope.refusal(contexts, simulated=request.at is not None, explain=request.explain)
    if refusal:
        raise ProblemError(HTTPStatus.FORBIDDEN, refusal)


def _fields(in_query: str | None, in_body: list[str] | None) -> list[str]:
    names = in_query.split(",") if in_query else in_body or []
    for name in names:
        if name not in Decision.__struct_fields__:
            hint = did_you_mean(name, Decision.__struct_fields__)
            place = Diagnostic(pointer="/fields", detail=f"a decision has no field `{name}`", hint=hint)
            raise ProblemError(HTTPStatus.BAD_REQUEST, str(place), [place])
    return names
