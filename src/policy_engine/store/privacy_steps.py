"""What becomes of accounts and reservations, decided from their rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from policy_engine.ids import uuid7
from policy_engine.model.diagnostic import Diagnostic
from policy_engine.model.errors import ReservationError, UnknownReservationError
from policy_engine.privacy.account import Epsilons, Verdict, judge
from policy_engine.privacy.budget import Budget
from policy_engine.privacy.spend import Spend
from policy_engine.store.privacy_rows import (
    COMMITTED,
    EXPIRED,
    MICROSECONDS,
    RELEASED,
    RESERVED,
    Balance,
    Known,
    Reservation,
)

_NO_DELTA = 1.0
_REFUSED = {COMMITTED: (RELEASED, EXPIRED), RELEASED: (COMMITTED,)}
"""What is to become of a reservation -> in which states it cannot."""


class Asked(NamedTuple):
    """What is to be reserved.

    Attributes:
        federation: Whose budget counts.
        round: For which round; None when that does not matter.
        spend: What each client would spend.
    """

    federation: str
    round: int | None
    spend: Spend


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of asking for a reservation for one client.

    Attributes:
        reservation: What is reserved; None when that was refused.
        verdict: Why; for a reservation that was there already, what the account comes to.
        is_new: Whether it was not there before.
    """

    reservation: Reservation | None
    verdict: Verdict
    is_new: bool


class Context(NamedTuple):
    """What decisions are made with.

    Attributes:
        budget: That of the federation.
        now: Microseconds since 1970.
        epsilons: Computes.
    """

    budget: Budget | None
    now: int
    epsilons: Epsilons


def balance(known: Known, context: Context) -> Balance:
    """Return what an account comes to; without a budget nobody can say at which delta, and it counts as infinite."""
    budget, now, epsilons = context
    outstanding = known.outstanding(now)
    until = max((each.expires for each in outstanding), default=0)
    if budget is None:
        return Balance(_NO_DELTA, float("inf"), float("inf"), until)
    spent = epsilons.of(known.account.total, budget.delta)
    held = epsilons.of(known.held(now).total, budget.delta) if outstanding else spent
    return Balance(budget.delta, spent, held, until)


def decide(asked: Asked, known: Mapping[str, Known], context: Context) -> dict[str, Outcome]:
    """Say for each client what is to be done.

    Raises:
        ReservationError: Something else is reserved for one of them in this round, or something is spent: who trains
            that round once more spends once more, and has to reserve it for another round, or for none.
    """
    decided, faults = {}, []
    for place, (name, mine) in enumerate(known.items()):
        present = [each for each in mine.of_round if each.state_at(context.now) in (RESERVED, COMMITTED)]
        if not present:
            decided[name] = _decide_anew(asked, mine, context)
        elif present[-1].spend == asked.spend and present[-1].state == RESERVED:
            decided[name] = _decide_again(present[-1], mine, context)
        else:
            what = "this" if present[-1].spend == asked.spend else "something else"
            detail = f"{what} is {present[-1].state} for this client in round {asked.round} already"
            faults.append(Diagnostic(pointer=f"/client_ids/{place}", detail=detail))
    if faults:
        raise ReservationError(faults)
    return decided


def _decide_again(present: Reservation, known: Known, context: Context) -> Outcome:
    budget, now, epsilons = context
    held = epsilons.of(known.held(now).total, budget.delta) if budget else None
    return Outcome(reservation=present, verdict=Verdict(allowed=True, reason="", epsilon=held), is_new=False)


def _decide_anew(asked: Asked, known: Known, context: Context) -> Outcome:
    budget, now, epsilons = context
    verdict = judge(known.held(now), asked.spend, budget, epsilons)
    if budget is None or not verdict.allowed:
        return Outcome(reservation=None, verdict=verdict, is_new=False)
    reservation = Reservation(
        reservation_id=uuid7(),
        federation=asked.federation,
        client=known.client,
        round=asked.round or 0,
        spend=asked.spend,
        state=RESERVED,
        at=now,
        expires=now + int(budget.reservation_seconds * MICROSECONDS),
    )
    return Outcome(reservation=reservation, verdict=verdict, is_new=True)


def check_settling(ids: Sequence[str], found: Mapping[str, Reservation], state: str, now: int) -> None:
    """Refuse what cannot be committed or released.

    Raises:
        UnknownReservationError: There is none of one of these ids.
        ReservationError: One cannot become what it is to become.
    """
    unknown = [
        Diagnostic(pointer=f"/reservation_ids/{place}", detail=f"no reservation `{name[:64]}`")
        for place, name in enumerate(ids)
        if name not in found
    ]
    if unknown:
        raise UnknownReservationError(unknown)
    faults = [
        Diagnostic(pointer=f"/reservation_ids/{place}", detail=f"reservation `{name}` is {found[name].state_at(now)}")
        for place, name in enumerate(ids)
        if found[name].state_at(now) in _REFUSED[state]
    ]
    if faults:
        raise ReservationError(faults)


def settled(known: Mapping[str, Known], moving: Sequence[Reservation], state: str) -> dict[str, Known]:
    """Return what is known of clients when some of their reservations are committed or released."""
    after = dict(known)
    for each in moving:
        mine = after[each.client]
        account = mine.account.spent(each.spend) if state == COMMITTED else mine.account
        left = tuple(other for other in mine.reserved if other.reservation_id != each.reservation_id)
        after[each.client] = mine._replace(account=account, reserved=left)
    return after
