"""The ledger of privacy in the store: nothing is spent twice, on both databases, in one process or several."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from tests.store.stores import Content, Stores, patiently

from policy_engine.model.errors import ReservationError, UnknownReservationError
from policy_engine.privacy.account import Account, Epsilons
from policy_engine.privacy.budget import Budget
from policy_engine.privacy.spend import Noise, Spend
from policy_engine.store.opened import Store
from policy_engine.store.options import DEFAULT_TENANT
from policy_engine.store.privacy import PrivacyStore
from policy_engine.store.privacy_reports import PrivacyReports
from policy_engine.store.subjects import erase

SPEND = Spend(noise_multiplier=1.0, sampling_rate=0.1, steps=10, noise=Noise.SERVER)
DECLARED = Spend(noise_multiplier=1.0, sampling_rate=0.1, steps=10, noise=Noise.DECLARED)
DELTA = 1e-5


def epsilon_of(times: int) -> float:
    """What so many spends come to."""
    return Epsilons().of(Account().spent_all([SPEND] * times).total, DELTA)


TEN = Budget(epsilon=epsilon_of(10), delta=DELTA)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Desk:
    """What a process has of privacy."""

    def __init__(self, store: Store, budgets: dict[str, Budget], clock: Clock) -> None:
        self.store = store
        self.ledger = PrivacyStore(store.database, DEFAULT_TENANT, store.writer, budgets, clock)
        self.reports = PrivacyReports(self.ledger)

    def reserve(self, number: int, *names: str, spend: Spend = SPEND) -> list[str | None]:
        """Reserve for a round; return the ids, None for who was refused."""
        call = partial(self.ledger.reserve, "f", number, names or ("c",), spend, "ann")
        return [each.reservation.reservation_id if each.reservation else None for each in patiently(call).values()]

    def one(self, number: int, **more: Any) -> str:
        (made,) = self.reserve(number, **more)
        assert made is not None
        return made

    def commit(self, *ids: str) -> list[str]:
        return [each.state for each in patiently(partial(self.ledger.commit, ids, "ann"))]

    def release(self, *ids: str) -> list[str]:
        return [each.state for each in patiently(partial(self.ledger.release, ids, "ann"))]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def desk(stores: Stores, clock: Clock) -> Callable[..., Desk]:
    def made(name: str = "one", **budgets: Budget) -> Desk:
        return Desk(patiently(lambda: stores(name=name)), budgets or {"f": TEN}, clock)

    return made


@pytest.mark.parametrize("processes", [1, 2])
def test_sixteen_at_once_get_exactly_ten(desk: Callable[..., Desk], processes: int) -> None:
    desks = [desk(name=f"p{number}") for number in range(processes)]
    with ThreadPoolExecutor(16) as pool:
        jobs = [pool.submit(desks[number % processes].reserve, number) for number in range(16)]
        made = [job.result()[0] for job in jobs]
    assert sum(each is not None for each in made) == 10
    (refused,) = desks[0].ledger.ask("f", ["c"], SPEND).values()
    assert (refused.verdict.allowed, refused.verdict.reason) == (False, "exceeded")
    desks[0].commit(*filter(None, made))
    report = desks[-1].reports.client("c", "f")
    assert report.epsilon_spent == pytest.approx(TEN.epsilon, abs=1e-9)
    assert report.epsilon_remaining == pytest.approx(0.0, abs=1e-9)


def test_the_same_again_is_the_same_reservation(desk: Callable[..., Desk]) -> None:
    mine = desk()
    first = mine.one(1)
    assert mine.one(1) == first
    mine.commit(first)
    with pytest.raises(ReservationError, match="this is committed for this client in round 1 already"):
        mine.ledger.reserve("f", 1, ["c"], SPEND, "ann")  # who trains once more spends once more
    with pytest.raises(ReservationError, match="something else is committed"):
        mine.ledger.reserve("f", 1, ["c"], DECLARED, "ann")


def test_what_is_given_back_can_be_reserved_anew(desk: Callable[..., Desk]) -> None:
    mine = desk()
    ids = [mine.one(number) for number in range(10)]
    assert mine.reserve(10) == [None]
    assert mine.release(ids[0]) == ["released"]
    assert mine.release(ids[0]) == ["released"]
    mine.one(10)
    with pytest.raises(ReservationError):
        mine.ledger.commit([ids[0]], "ann")
    mine.commit(ids[1])
    assert mine.commit(ids[1]) == ["committed"]
    with pytest.raises(ReservationError):
        mine.ledger.release([ids[1]], "ann")


def test_all_are_settled_or_none(desk: Callable[..., Desk]) -> None:
    mine = desk()
    one, two = mine.one(1), mine.one(2)
    mine.release(two)
    with pytest.raises(ReservationError) as caught:
        mine.ledger.commit([one, two], "ann")
    assert caught.value.errors[0].pointer == "/reservation_ids/1"
    with pytest.raises(UnknownReservationError):
        mine.ledger.commit([one, "none"], "ann")
    assert mine.reports.client("c", "f").epsilon_spent == 0.0


def test_a_reservation_expires(desk: Callable[..., Desk], clock: Clock) -> None:
    mine = desk()
    ids = [mine.one(number) for number in range(10)]
    clock.now += TEN.reservation_seconds + 1
    with pytest.raises(ReservationError, match="expired"):
        mine.ledger.commit([ids[0]], "ann")
    assert mine.one(0) != ids[0]
    assert mine.reports.client("c", "f").history[-1].state == "expired"


def test_declared_noise_is_told_apart_and_may_be_refused(desk: Callable[..., Desk]) -> None:
    mine = desk()
    mine.commit(mine.one(1), mine.one(2, spend=DECLARED))
    report = mine.reports.client("c", "f")
    assert report.rests_on_declarations
    assert report.server.epsilon == report.declared.epsilon == pytest.approx(epsilon_of(1), abs=1e-9)
    assert report.epsilon_spent == pytest.approx(epsilon_of(2), abs=1e-9)
    strict = desk(name="two", f=Budget(epsilon=10, delta=DELTA, accept_declared=False))
    assert strict.reserve(3, spend=DECLARED) == [None]


def test_without_a_budget_nothing_is_granted(desk: Callable[..., Desk]) -> None:
    assert desk(g=TEN).reserve(1) == [None]


def test_loss_distributions_are_tighter(desk: Callable[..., Desk]) -> None:
    mine = desk()
    mine.commit(*(mine.one(number) for number in range(3)))
    by_rdp, by_pld = mine.reports.client("c", "f"), mine.reports.client("c", "f", method="pld")
    assert by_pld.epsilon_spent is not None
    assert by_rdp.epsilon_spent is not None
    assert 0 < by_pld.epsilon_spent < by_rdp.epsilon_spent


def test_each_step_is_an_event_without_names(desk: Callable[..., Desk], stores: Stores) -> None:
    mine = desk()
    made = mine.reserve(1, "ann-client", "bob-client")
    mine.commit(str(made[0]))
    mine.release(str(made[1]))
    events = [event for event in mine.store.events.page(limit=100).events if event.event_type.startswith("PRIVACY_")]
    assert [event.event_type for event in events] == ["PRIVACY_RESERVED", "PRIVACY_COMMITTED", "PRIVACY_RELEASED"]
    assert "-client" not in str(events)
    rows = [row for name in ("privacy_account", "privacy_reservation") for row in Content(stores.url).all(name)]
    assert "-client" not in str(rows)


def test_an_erased_client_begins_anew(desk: Callable[..., Desk]) -> None:
    mine = desk()
    mine.commit(*(mine.one(number) for number in range(10)))
    patiently(lambda: mine.store.writer.transact(lambda found: erase(found.connection, DEFAULT_TENANT, "c")))
    assert mine.reports.client("c", "f").epsilon_spent == 0.0
    assert [each.client_id for each in mine.reports.page()] == [None]
    mine.one(99)
