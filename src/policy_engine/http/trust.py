"""Trust: what was observed of clients comes in, what to do with them goes out, and people look and decide."""

from __future__ import annotations

import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any, TypeVar

import msgspec
from flask import Blueprint, Response, request, url_for

from policy_engine.authority import DEFAULT_FEDERATION, Breakdown, decided
from policy_engine.http.bodies import cause, invalid, json_body, json_response, service, whole_number
from policy_engine.http.problem import ProblemError, decoding_problem
from policy_engine.language.suggest import did_you_mean
from policy_engine.model.diagnostic import Diagnostic
from policy_engine.model.errors import UnknownClientError
from policy_engine.store.trust_replay import Job
from policy_engine.store.trust_reports import BINS, Listed, PastRound, TrustReports
from policy_engine.trust.observation import FederationName, Name, RoundObservation, StoredName, check_name
from policy_engine.trust.override import Override
from policy_engine.trust.settings import Share
from policy_engine.trust.standing import Band, band_of, trust_score

trust = Blueprint("trust", __name__)

T = TypeVar("T")

MAX_PAGE = 1000
_PAGE = 100
_HISTORY = 20
_MAX_HISTORY = 200
_NO_NUMBER = 1 << 53
_MAX_LISTED = 10
_Reason = Annotated[str, msgspec.Meta(min_length=1, max_length=500)]


class SelectionRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body that asks whom to invite to a round."""

    federation: FederationName
    round: Annotated[int, msgspec.Meta(ge=1, le=_NO_NUMBER)]
    candidates: Annotated[tuple[Name, ...], msgspec.Meta(max_length=10_000)]


class ViolationReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body by which an enforcement point reports a violation."""

    client_id: Name
    policy_id: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    rule_index: Annotated[int, msgspec.Meta(ge=0, le=_NO_NUMBER)]
    federation: FederationName | None = None


class QuarantineRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body that puts a client in quarantine."""

    reason: _Reason
    federation: FederationName | None = None
    expires_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


class OverrideRequest(QuarantineRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body that sets the trust in a client."""

    trust_score: Share


# Rounds


@trust.post("/api/v1/trust/observations")
def observe_round() -> Response:
    """What was observed of a round, in; what to do with each update, out. The same body again gets the first answer."""
    return json_response(service().observe(_body(RoundObservation), author=cause().author))


@trust.post("/api/v1/trust/selection")
def select_clients() -> Response:
    """Whom of the candidates to invite to a round, whom to probe, and whom to leave out; changes nothing."""
    asked = _body(SelectionRequest)
    return json_response(service().select(asked.federation, asked.round, asked.candidates))


@trust.post("/api/v1/trust/violations")
def report_violation() -> Response:
    """Count a violation of a rule that says `counts_against: client`; once per client, rule and round."""
    report = _body(ViolationReport)
    federation = report.federation or _only_federation("field `federation` of the body")
    counted = service().report_violation(
        _checked(report.client_id),
        report.policy_id,
        report.rule_index,
        federation=federation,
        author=cause().author,
    )
    score = service().calculate_trust_score(report.client_id, federation)
    return json_response({"counted": counted, "trust_score": score})


# Clients


@trust.get("/api/v1/trust")
def list_trust() -> Response:
    """Clients with their trust; `federation` and `band` filter, `cursor` goes on where a page ended."""
    _only("federation", "band", "cursor", "limit")
    limit, now = whole_number("limit", default=_PAGE, most=MAX_PAGE), time.time()
    found = _reports().page(federation=_named_federation(), band=_band(), after=_cursor(), limit=limit, at=now)
    after = _encoded(found[-1].key) if len(found) == limit else None
    return json_response({"clients": [_listed(each, now) for each in found], "next_cursor": after})


@trust.get("/api/v1/trust/clients/<client_id>")
def get_trust(client_id: str) -> Response:
    """The trust in a client: its factors, why it is what it is, and what came of the last rounds."""
    _only("federation", "before", "limit")
    federation = _federation()
    limit = whole_number("limit", default=_HISTORY, most=_MAX_HISTORY)
    before = whole_number("before", default=_NO_NUMBER, most=_NO_NUMBER)
    found = service().engine.trust.breakdown(_checked(client_id), federation)
    if not found.known:
        raise UnknownClientError(client_id)
    history = _reports().history(client_id, federation, before=before, limit=limit)
    answer = {**msgspec.structs.asdict(found), "overrides": [_override(each) for each in found.overrides]}
    return json_response({**answer, "why": _why(found), "history": [_past(each) for each in history]})


@trust.put("/api/v1/trust/clients/<client_id>/override")
def override_trust(client_id: str) -> Response:
    """Set the trust in a client, until it is released or a time has come."""
    asked = _body(OverrideRequest)
    return _decide(client_id, asked, kind="trust", score=asked.trust_score)


@trust.delete("/api/v1/trust/clients/<client_id>/override")
def release_override(client_id: str) -> Response:
    """Let the trust in a client follow from what it does again; `X-Change-Reason` says why."""
    return _release(client_id, kind="trust")


@trust.put("/api/v1/trust/clients/<client_id>/quarantine")
def quarantine_client(client_id: str) -> Response:
    """Put a client in quarantine: it is not invited, not probed, and nothing of it is aggregated."""
    return _decide(client_id, _body(QuarantineRequest), kind="quarantine", score=None)


@trust.delete("/api/v1/trust/clients/<client_id>/quarantine")
def release_client(client_id: str) -> Response:
    """Take a client out of quarantine; `X-Change-Reason` says why."""
    return _release(client_id, kind="quarantine")


# Federations


@trust.get("/api/v1/trust/distribution")
def show_distribution() -> Response:
    """How many clients of a federation have which trust, in tenths."""
    _only("federation")
    federation = _federation()
    counts = _reports().distribution(federation)
    bins = [{"from": number / BINS, "to": (number + 1) / BINS, "clients": count} for number, count in enumerate(counts)]
    return json_response({"federation": federation, "clients": sum(counts), "histogram": bins})


@trust.get("/api/v1/trust/trends")
def show_trends() -> Response:
    """The rounds of a federation in numbers, newest first; `before` goes on below a round, `limit` bounds the page."""
    _only("federation", "before", "limit")
    federation = _federation()
    limit = whole_number("limit", default=_PAGE, most=MAX_PAGE)
    before = whole_number("before", default=_NO_NUMBER, most=_NO_NUMBER)
    found = _reports().trends(federation, before=before, limit=limit)
    rounds = [{"at": _moment(at), **msgspec.structs.asdict(summary)} for at, summary in found]
    following = found[-1][1].round if len(found) == limit else None
    return json_response({"federation": federation, "rounds": rounds, "next_before": following})


@trust.get("/api/v1/trust/data-sources")
def list_sources() -> Response:
    """What feeds each factor, when it was seen last, and what is missing."""
    _only()
    found = _reports().sources()
    shown = [{**msgspec.structs.asdict(each), "last_seen": _moment(each.last_seen)} for each in found]
    return json_response({"sources": shown})


@trust.post("/api/v1/trust/recalculate")
def recalculate_trust() -> Response:
    """Begin to reckon all trust again from what was entered; the answer says where to see how far that is."""
    asked = cause()
    job = service().reputation.recalculate(asked.author, asked.reason)
    where = url_for("trust.get_recalculation", job_id=job.job_id)
    return json_response(_job(job), HTTPStatus.ACCEPTED, {"Location": where})


@trust.get("/api/v1/trust/recalculate/<job_id>")
def get_recalculation(job_id: str) -> Response:
    """How far a recalculation is, and how many standings it put right."""
    job = service().reputation.jobs.get(job_id) if job_id.isprintable() else None
    if job is None:
        raise ProblemError(HTTPStatus.NOT_FOUND, f"no recalculation `{job_id[:64]}`")
    return json_response(_job(job))


# What is asked


def _body(kind: type[T]) -> T:
    try:
        return msgspec.convert(json_body(), kind)
    except msgspec.ValidationError as error:
        raise decoding_problem(error) from None


def _only(*names: str) -> None:
    for name in request.args:
        if name not in names:
            raise invalid(name, f"there is no parameter `{name[:40]}`", did_you_mean(name, names))


def _checked(client_id: str) -> str:
    try:
        check_name(client_id)
    except ValueError as error:
        raise ProblemError(HTTPStatus.BAD_REQUEST, str(error)) from None
    return client_id


def _reports() -> TrustReports:
    return service().reputation.reports


def _federation() -> str:
    """Return the federation that is asked for: the one that is named, else the only one there is."""
    return _named_federation() or _only_federation("parameter `federation`")


def _only_federation(where: str) -> str:
    """Return the only federation on record, or the default where there is none.

    Raises:
        ProblemError: There are several, so one has to be named.
    """
    known = _reports().federations()
    if len(known) > 1:
        listed = ", ".join(f"`{name}`" for name in known[:_MAX_LISTED])
        detail = f"there are several federations ({listed}{', ...' if len(known) > _MAX_LISTED else ''}): say which one"
        place = Diagnostic(pointer="/federation", detail=detail, hint=f"by the {where}")
        raise ProblemError(HTTPStatus.BAD_REQUEST, str(place), [place])
    return known[0] if known else DEFAULT_FEDERATION


def _named_federation() -> str | None:
    given = request.args.get("federation")
    if not given:
        return None
    try:
        return msgspec.convert(given, FederationName)
    except msgspec.ValidationError:
        raise invalid("federation", f"`{given[:40]}` is not the name of a federation") from None


def _band() -> Band | None:
    given = request.args.get("band")
    if not given:
        return None
    try:
        return Band(given)
    except ValueError:
        known = [band.value for band in Band]
        raise invalid("band", f"`{given[:20]}` is none of {', '.join(known)}", did_you_mean(given, known)) from None


def _cursor() -> tuple[str, str] | None:
    given = request.args.get("cursor")
    if not given:
        return None
    try:
        federation, client = msgspec.json.decode(
            urlsafe_b64decode(given.encode()), type=tuple[FederationName, StoredName]
        )
        check_name(client)
    except ValueError:
        raise invalid("cursor", "it is not the cursor of a page") from None
    return federation, client


def _encoded(key: tuple[str, str]) -> str:
    return urlsafe_b64encode(msgspec.json.encode(key)).decode()


# What is done


def _decide(client_id: str, asked: QuarantineRequest, *, kind: Any, score: float | None) -> Response:
    expires_at = asked.expires_at.timestamp() if asked.expires_at else None
    if expires_at is not None and expires_at <= time.time():
        place = Diagnostic(pointer="/expires_at", detail="the time is over already")
        raise ProblemError(HTTPStatus.BAD_REQUEST, str(place), [place])
    if len(client_id) > _MAX_NAME:
        raise ProblemError(HTTPStatus.BAD_REQUEST, f"the id of a client has at most {_MAX_NAME} characters")
    authority = service().engine.trust
    federation = asked.federation or _only_federation("field `federation` of the body")
    authority.override(
        _checked(client_id),
        kind=kind,
        author=cause().author,
        reason=asked.reason,
        federation=federation,
        trust=score,
        expires_at=expires_at,
    )
    return json_response(_told(authority.breakdown(client_id, federation)))


_MAX_NAME = 256


def _release(client_id: str, *, kind: Any) -> Response:
    _only("federation")
    federation, asked, authority = _federation(), cause(), service().engine.trust
    authority.release(_checked(client_id), kind=kind, author=asked.author, reason=asked.reason, federation=federation)
    return json_response(_told(authority.breakdown(client_id, federation)))


# What is answered


def _told(found: Breakdown) -> dict[str, Any]:
    return {
        "client_id": found.client_id,
        "federation": found.federation,
        "trust_score": found.trust_score,
        "trust_band": found.trust_band,
        "overrides": [_override(each) for each in found.overrides],
    }


def _listed(each: Listed, at: float) -> dict[str, Any]:
    settings = service().engine.trust.settings(each.federation)
    fixed, is_quarantined = decided(each.overrides, datetime.fromtimestamp(at, UTC))
    score = trust_score(each.standing, settings) if fixed is None else fixed
    band = Band.QUARANTINED if is_quarantined else band_of(score, settings)
    return {
        "client_id": each.client_id,
        "pseudonym": each.pseudonym,
        "federation": each.federation,
        "trust_score": score,
        "trust_band": band.value,
        "factors": each.standing.factors,
        "rounds_answered": each.standing.answered,
        "excluded_in": each.standing.excluded_in,
    }


def _override(each: Override) -> dict[str, Any]:
    shown = {**msgspec.structs.asdict(each), "since": _moment(each.since), "expires_at": _moment(each.expires_at)}
    return {"trust_score" if name == "trust" else name: value for name, value in shown.items()}


def _past(each: PastRound) -> dict[str, Any]:
    advice = {key: value for key, value in msgspec.structs.asdict(each.advice).items() if key != "client_id"}
    return {"round": each.round, "at": _moment(each.at), "held": each.held, **advice}


def _job(job: Job) -> dict[str, Any]:
    times = {"started_at": _moment(job.started_at), "updated_at": _moment(job.updated_at)}
    return {**msgspec.structs.asdict(job), **times}


def _moment(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat()


def _why(found: Breakdown) -> list[str]:
    """Say in words how a score comes about."""
    terms = " + ".join(f"{found.weights[name]:g} x {value:.2f} {name}" for name, value in found.factors.items())
    lines = [f"reckoned: ({terms}) x {found.gate:.2f} for the quality of its updates"]
    lines += [
        f"{each.author} set the trust to {each.trust:g}: {each.reason}"
        if each.trust is not None
        else f"{each.author} put it in quarantine: {each.reason}"
        for each in found.overrides
    ]
    if found.excluded_in is not None:
        lines.append(f"excluded since round {found.excluded_in}")
    if found.on_probation:
        lines.append(f"on probation: it answered in {found.rounds_answered} rounds so far")
    return lines
