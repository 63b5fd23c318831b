"""Privacy budgets: reserved before a round, committed or released after it, and looked at."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from http import HTTPStatus
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from flask import Blueprint, Response, request

from policy_engine.facts.privacy import DEFAULT_FEDERATION
from policy_engine.http.bodies import cause, invalid, json_response, service, whole_number
from policy_engine.http.front import read_body
from policy_engine.http.problem import JSON, ProblemError, decoding_problem
from policy_engine.language.suggest import did_you_mean
from policy_engine.privacy.budget import Budget
from policy_engine.privacy.spend import Noise, NoiseMultiplier, SamplingRate, Spend, Steps
from policy_engine.store.privacy_reports import Method
from policy_engine.store.privacy_rows import MICROSECONDS, Reservation
from policy_engine.store.privacy_steps import Outcome
from policy_engine.trust.observation import FederationName, Name, check_name

privacy = Blueprint("privacy", __name__)

T = TypeVar("T")

MAX_CLIENTS = 500
MAX_PAGE = 1000
_PAGE = 100
_Names = Annotated[tuple[Name, ...], msgspec.Meta(min_length=1, max_length=MAX_CLIENTS)]
_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
_Ids = Annotated[tuple[_Id, ...], msgspec.Meta(min_length=1, max_length=MAX_CLIENTS)]


class Question(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body that asks what a spend would come to.

    Attributes:
        client_ids: Whose privacy would be spent; `client_id` for one.
    """

    federation: FederationName = DEFAULT_FEDERATION
    client_id: Name | None = None
    client_ids: _Names | None = None
    noise_multiplier: NoiseMultiplier
    sampling_rate: SamplingRate
    steps: Steps
    noise: Noise

    def __post_init__(self) -> None:
        """Check whom it names.

        Raises:
            ValueError: Nobody, or somebody twice or under a name that is none.
        """
        if (self.client_id is None) == (self.client_ids is None):
            raise ValueError("either `client_id` or `client_ids` is needed")
        for name in self.names:
            check_name(name)
        if len(set(self.names)) < len(self.names):
            raise ValueError("a client is named twice in `client_ids`")

    @property
    def names(self) -> tuple[str, ...]:
        """The clients."""
        return self.client_ids or ((self.client_id,) if self.client_id is not None else ())

    @property
    def spend(self) -> Spend:
        """What each of them would spend."""
        return Spend(
            noise_multiplier=self.noise_multiplier,
            sampling_rate=self.sampling_rate,
            steps=self.steps,
            noise=self.noise,
        )


class ReserveRequest(Question, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body that reserves."""

    round: Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class SettleRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body that commits or releases.

    Attributes:
        reservation_ids: What; `reservation_id` for one.
    """

    reservation_id: _Id | None = None
    reservation_ids: _Ids | None = None

    def __post_init__(self) -> None:
        """Check that it says what.

        Raises:
            ValueError: It does not.
        """
        if (self.reservation_id is None) == (self.reservation_ids is None):
            raise ValueError("either `reservation_id` or `reservation_ids` is needed")
        for name in self.ids:
            if not name.isascii() or not name.isprintable():
                raise ValueError("the id of a reservation has a character that is in none")

    @property
    def ids(self) -> tuple[str, ...]:
        """The reservations."""
        return self.reservation_ids or ((self.reservation_id,) if self.reservation_id is not None else ())


# Rounds


@privacy.post("/api/v1/privacy/reserve")
def reserve_privacy() -> Response:
    """Reserve a part of clients' budgets for a round: each is granted or refused; the same again changes nothing."""
    asked = _body(ReserveRequest)
    decided = service().privacy.ledger.reserve(
        asked.federation, asked.round, asked.names, asked.spend, author=cause().author
    )
    answers = [{"client_id": name, **_granted(outcome)} for name, outcome in decided.items()]
    granted = sum(outcome.reservation is not None for outcome in decided.values())
    return json_response(
        {
            "federation": asked.federation,
            "round": asked.round,
            **_budget(asked.federation),
            "granted": granted,
            "refused": len(decided) - granted,
            "reservations": answers,
        }
    )


@privacy.post("/api/v1/privacy/commit")
def commit_privacy() -> Response:
    """Spend what was reserved, all of it or, where something cannot be spent any more, nothing."""
    return _settled(service().privacy.ledger.commit(_body(SettleRequest).ids, cause().author))


@privacy.post("/api/v1/privacy/release")
def release_privacy() -> Response:
    """Give back what was reserved, all of it or, where something is spent already, nothing."""
    return _settled(service().privacy.ledger.release(_body(SettleRequest).ids, cause().author))


@privacy.post("/api/v1/privacy/would_exceed")
def ask_privacy() -> Response:
    """Whether a spend would exceed the budgets of clients; changes nothing."""
    asked = _body(Question)
    decided = service().privacy.ledger.ask(asked.federation, asked.names, asked.spend)
    answers = [
        {
            "client_id": name,
            "would_exceed": not outcome.verdict.allowed,
            "reason": outcome.verdict.reason or None,
            "epsilon": outcome.verdict.epsilon,
        }
        for name, outcome in decided.items()
    ]
    return json_response({"federation": asked.federation, **_budget(asked.federation), "clients": answers})


# What is spent


@privacy.get("/api/v1/privacy")
def list_privacy() -> Response:
    """What clients have spent; `federation` filters, `cursor` goes on where a page ended, `limit` bounds it."""
    _only("federation", "cursor", "limit")
    limit = whole_number("limit", default=_PAGE, most=MAX_PAGE)
    federation = _storable(request.args.get("federation") or "", "federation") or None
    found = service().privacy.reports.page(federation=federation, after=_cursor(), limit=limit)
    cursor = _encoded((found[-1].federation, found[-1].pseudonym)) if len(found) == limit else None
    return json_response({"clients": found, "next_cursor": cursor})


@privacy.get("/api/v1/privacy/clients/<client_id>")
def get_privacy(client_id: str) -> Response:
    """What one client has spent, by `method` `rdp` or `pld`, on whose noise that rests, and what was reserved when."""
    _only("federation", "method", "before", "limit")
    limit = whole_number("limit", default=_PAGE, most=MAX_PAGE)
    found = service().privacy.reports.client(
        _storable(client_id, "client_id"),
        _storable(request.args.get("federation") or DEFAULT_FEDERATION, "federation"),
        method=_method(),
        before=_storable(request.args.get("before") or "", "before"),
        limit=limit,
    )
    before = found.history[-1].reservation_id if len(found.history) == limit else None
    return json_response({**msgspec.structs.asdict(found), "next_before": before})


# What is asked


def _body(kind: type[T]) -> T:
    if request.mimetype != JSON:
        raise ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"send the body as `Content-Type: {JSON}`")
    try:
        return msgspec.json.decode(read_body(request.environ, service().settings.max_body_bytes), type=kind)
    except msgspec.DecodeError as error:
        raise decoding_problem(error) from None


def _only(*names: str) -> None:
    for name in request.args:
        if name not in names:
            raise invalid(name, f"there is no parameter `{name[:40]}`", did_you_mean(name, names))


def _storable(given: str, name: str) -> str:
    try:
        check_name(given)
    except ValueError:
        raise invalid(name, "it has a character that is none") from None
    return given


def _method() -> Method:
    given = request.args.get("method") or "rdp"
    known: dict[str, Literal["rdp", "pld"]] = {"rdp": "rdp", "pld": "pld"}
    if given not in known:
        raise invalid("method", f"`{given[:20]}` is neither `rdp` nor `pld`", did_you_mean(given, list(known)))
    return known[given]


def _cursor() -> tuple[str, str] | None:
    given = request.args.get("cursor")
    if not given:
        return None
    try:
        federation, pseudonym = msgspec.json.decode(urlsafe_b64decode(given.encode()), type=tuple[str, str])
        check_name(federation + pseudonym)
    except ValueError:
        raise invalid("cursor", "it is not the cursor of a page") from None
    return federation, pseudonym


def _encoded(key: tuple[str, str]) -> str:
    return urlsafe_b64encode(msgspec.json.encode(key)).decode()


# What is answered


def _budget(federation: str) -> dict[str, Any]:
    budget: Budget | None = service().privacy.ledger.budget(federation)
    return {"epsilon_budget": budget.epsilon if budget else None, "delta": budget.delta if budget else None}


def _granted(outcome: Outcome) -> dict[str, Any]:
    made, verdict = outcome.reservation, outcome.verdict
    answer = {"granted": made is not None, "reason": verdict.reason or None, "epsilon": verdict.epsilon}
    return answer if made is None else {**answer, **_shown(made)}


def _settled(reservations: list[Reservation]) -> Response:
    return json_response({"reservations": [_shown(each) for each in reservations]})


def _shown(reservation: Reservation) -> dict[str, Any]:
    now = service().privacy.ledger.now()
    return {
        "reservation_id": reservation.reservation_id,
        "state": reservation.state_at(now),
        "round": reservation.round,
        "expires": reservation.expires / MICROSECONDS,
    }
