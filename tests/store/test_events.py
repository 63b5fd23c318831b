"""Who follows the events sees every one of them once, whichever process is asked."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from random import Random
from time import sleep
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.store.stores import Content, Stores, checked, flush, patiently

from policy_engine.store.events import EventPage
from policy_engine.store.opened import Store
from policy_engine.store.position import encode_cursor
from policy_engine.store.rings import CAPACITY

FILTERS: list[Collection[str]] = [
    (),
    {"POLICY_DELETED"},
    {"POLICY_VIOLATION"},
    {"POLICY_CREATED", "POLICY_APPLIED"},
    {"POLICY_APPLIED", "POLICY_VIOLATION"},
]


def ids(page: EventPage) -> list[str]:
    return [event.event_id for event in page.events]


def follow(store: Store, cursor: str | None, limit: int = 50, types: Collection[str] = ()) -> list[str]:
    """Return the ids of all events behind a cursor."""
    seen: list[str] = []
    while True:
        page = store.events.page(since_event_id=cursor, limit=limit, event_types=types)
        assert not page.gap
        assert len(page.events) <= limit
        if not page.events:
            return seen
        seen += ids(page)
        cursor = page.last_event_id


def start(store: Store) -> str:
    """Return the cursor from which everything that happens from now on can be followed."""
    cursor = store.events.page(limit=1000).last_event_id
    assert cursor is not None
    return cursor


def test_nothing_yet(stores: Stores) -> None:
    store = stores()
    page = store.events.page()
    assert (page.events, page.total, page.gap) == ([], 0, False)
    assert ids(store.events.page(since_event_id=page.last_event_id)) == []
    event = store.events.record("ENGINE_START", {"pid": 1})
    page = store.events.page(since_event_id=page.last_event_id)
    assert (page.events, page.total, page.last_event_id, page.gap) == ([event], 1, event.event_id, False)


def test_events_and_decisions_come_in_one_order(stores: Stores) -> None:
    store = stores()
    for number in range(3):
        store.events.record("POLICY_CREATED", {"number": number})
        store.writer.record_decisions([checked(dst_port=22)])
        store.writer.record_decisions([checked(dst_port=80)])
    before = store.events.page()
    assert [event.event_type for event in before.events] == ["POLICY_CREATED", "POLICY_VIOLATION", "POLICY_APPLIED"] * 3
    flush(store)
    assert store.events.page() == before
    stores.end(store)
    again = stores(name="again")
    assert again.events.page().events == before.events
    assert again.events.page().total == 9


def test_a_decision_is_told_with_what_it_decided(stores: Stores) -> None:
    store = stores()
    made = checked(dst_port=22, client_id="alice")
    store.writer.record_decisions([made])
    (event,) = store.events.page().events
    flush(store)
    stores.end(store)
    again = stores()
    assert again.events.page().events == [event]
    assert event.details["decision_id"] == made.decision.decision_id
    assert event.timestamp == made.decision.timestamp
    assert "alice" not in str(event.details)


@pytest.mark.parametrize("cursor", ["", "nope", "c", "cAAAA", "0" * 36, "-" * 36, "\u0663" * 36, "\ud800", "c\ud800"])
def test_a_cursor_that_is_not_known_begins_with_the_oldest_event_and_tells_of_a_gap(
    stores: Stores, cursor: str
) -> None:
    store = stores()
    first = store.events.record("POLICY_CREATED", {}).event_id
    page = store.events.page(since_event_id=cursor)
    assert (ids(page), page.gap) == ([first], True)
    assert follow(store, page.last_event_id) == []


def test_an_id_of_another_store_or_of_the_future_is_not_known(stores: Stores, tmp_path: Any) -> None:
    elsewhere = Stores(f"sqlite:///{tmp_path}/other.db", tmp_path / "other")
    foreign = elsewhere().events.record("POLICY_CREATED", {}).event_id
    elsewhere.stop()
    store = stores()
    first = store.events.record("POLICY_CREATED", {}).event_id
    for cursor in (foreign, foreign.upper(), first[:-1], first + "0", first[:-6] + "ffff01", first[:20] + "f" * 15):
        page = store.events.page(since_event_id=cursor)
        assert (ids(page), page.gap) == ([first], True), cursor


def test_the_id_of_any_event_is_a_cursor(stores: Stores) -> None:
    opened = [stores(name="one"), stores(name="two")]
    for number in range(10):
        opened[number % 2].events.record("POLICY_CREATED", {"number": number})
        opened[number % 2].writer.record_decisions([checked()])
    for store in opened:
        flush(store)
    everything = follow(opened[0], encode_cursor(opened[0].store_id, {1: 0}))
    assert len(everything) == 20
    for place, identity in enumerate(everything):
        for store in opened:
            assert follow(store, identity) == everything[place + 1 :]
            assert follow(store, identity.upper(), 3) == everything[place + 1 :]


@pytest.mark.parametrize("restarted", [False, True])
def test_without_a_cursor_the_page_begins_with_the_last_events(stores: Stores, *, restarted: bool) -> None:
    store = stores()
    for number in range(CAPACITY + 200):
        store.events.record("POLICY_CREATED", {"number": number})
    flush(store)
    if restarted:
        stores.end(store)
        store = stores()
    page = store.events.page(limit=2000)
    assert [event.details["number"] for event in page.events][-CAPACITY:] == list(range(200, CAPACITY + 200))
    assert page.total == CAPACITY + 200
    assert not page.gap
    assert follow(store, page.last_event_id) == []


def test_more_than_memory_holds_is_read_from_the_store(stores: Stores) -> None:
    store = stores()
    cursor = start(store)
    made = [store.events.record("POLICY_CREATED", {}).event_id]
    for number in range(4):
        store.writer.record_decisions([checked() for _ in range(CAPACITY)])
        made += [store.events.record("POLICY_CREATED", {"number": number}).event_id for _ in range(400)]
    seen: list[str] = []
    while len(seen) < 4 * CAPACITY + len(made):
        page = store.events.page(since_event_id=cursor, limit=300)
        assert not page.gap
        seen += ids(page)
        cursor = page.last_event_id or ""
        sleep(0.005)
    assert follow(store, cursor) == []
    assert len(set(seen)) == len(seen)
    assert seen == sorted(seen)
    assert [identity for identity in seen if identity in set(made)] == made
    assert store.events.page().total == len(seen)


def test_a_filter_does_not_hold_the_cursor_back(stores: Stores) -> None:
    store = stores()
    store.events.record("POLICY_CREATED", {})
    last = store.events.record("POLICY_DELETED", {}).event_id
    page = store.events.page(event_types={"POLICY_CREATED"})
    assert (len(page.events), page.last_event_id, page.total) == (1, last, 2)


@pytest.mark.parametrize("limit", [0, -1, 10**30])
def test_any_limit(stores: Stores, limit: int) -> None:
    store = stores()
    made = [store.events.record("POLICY_CREATED", {}).event_id for _ in range(3)]
    flush(store)
    stores.end(store)
    store = stores()
    assert ids(store.events.page(since_event_id="", limit=limit)) == made[: max(1, limit)]


def test_the_end_of_one_burst_of_events_and_decisions_cannot_overtake_its_beginning(stores: Stores) -> None:
    one, two = stores(name="one", started=False), stores(name="two")
    cursor = start(two)
    for number in range(3):
        for _ in range(3):
            one.writer.record_decisions([checked() for _ in range(900)])
        one.events.record("POLICY_CREATED", {"number": number})
    one.start()
    seen: list[str] = []
    while len(seen) < 9 * 900 + 3:
        page = two.events.page(since_event_id=cursor, limit=1000)
        seen += ids(page)
        cursor = page.last_event_id or ""
    assert len(set(seen)) == len(seen)
    assert seen == sorted(seen)


def test_a_change_takes_what_was_recorded_before_it_along(stores: Stores) -> None:
    one, two = stores(name="one", started=False), stores(name="two")
    cursor = start(two)
    for _ in range(5):
        one.writer.record_decisions([checked() for _ in range(900)])
    with ThreadPoolExecutor(1) as pool:
        change = pool.submit(one.writer.transact, lambda transaction: transaction.event("POLICY_CREATED", {}), 1)
        sleep(0.05)
        one.start()
        seen: list[str] = []
        while len(seen) < 5 * 900 + 1:
            page = two.events.page(since_event_id=cursor, limit=1000)
            seen += ids(page)
            cursor = page.last_event_id or ""
        assert seen[-1] == change.result().event_id
    assert len(set(seen)) == len(seen)


@pytest.fixture
def _eager_threads() -> Iterator[None]:
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(usual)


def write(store: Store, seed: int, calls: int) -> None:
    choose = Random(seed)
    for number in range(calls):
        what = choose.randrange(10)
        if what < 3:
            store.events.record(choose.choice(("POLICY_CREATED", "POLICY_DELETED")), {"seed": seed, "number": number})
        elif what < 9:
            size = choose.choice((1, 1, 1, 3, 250))
            made = [checked(dst_port=choose.choice((22, 80))) for _ in range(size)]
            patiently(partial(store.writer.record_decisions, made))
        else:
            patiently(lambda: store.writer.transact(lambda transaction: transaction.event("POLICY_UPDATED", {}), 1))
        sleep(choose.choice((0, 0, 0.002)))


def read(opened: list[Store], seed: int, cursor: str, types: Collection[str], writers: list[Future[None]]) -> list[str]:
    choose = Random(seed)
    seen: list[str] = []
    while True:
        over = all(writer.done() for writer in writers)
        page = choose.choice(opened).events.page(
            since_event_id=cursor, limit=choose.choice((1, 7, 100, 2000)), event_types=types
        )
        assert not page.gap
        seen += ids(page)
        cursor = page.last_event_id or ""
        sleep(0.003)
        if over and not page.events:
            for store in opened:
                flush(store)
            return seen + follow(choose.choice(opened), cursor, 500, types)


@pytest.mark.usefixtures("_eager_threads")
@pytest.mark.parametrize("seed", [1, 2])
def test_following_while_two_processes_write(stores: Stores, seed: int) -> None:
    opened = [stores(name="one"), stores(name="two")]
    opened[0].events.record("ENGINE_START", {})
    cursor = start(opened[0])
    with ThreadPoolExecutor(10) as pool:
        writers = [pool.submit(write, store, seed * 10 + number, 60) for number, store in enumerate(opened * 2)]
        readers = [
            pool.submit(read, opened, seed * 10 + number, cursor, types, writers)
            for number, types in enumerate(FILTERS)
        ]
        for writer in writers:
            writer.result()
        followed = [reader.result() for reader in readers]
    stores.stop()
    again = stores(name="again")
    everything: list[tuple[str, str]] = []
    place: str | None = cursor
    while True:
        page = again.events.page(since_event_id=place)
        if not page.events:
            break
        everything += [(event.event_id, event.event_type) for event in page.events]
        place = page.last_event_id
    content = Content(stores.url)
    assert len(everything) == sum(row.items for stream in ("event", "decision") for row in content.rows(stream)) - 1
    for seen, types in zip(followed, FILTERS, strict=True):
        wanted = [identity for identity, kind in everything if not types or kind in types]
        assert len(seen) == len(set(seen)), (seed, types)
        assert sorted(seen) == sorted(wanted), (seed, types)


def test_a_cursor_of_one_process_goes_on_at_another_and_after_a_restart(stores: Stores) -> None:
    one = stores(name="one")
    cursor: str | None = start(one)
    made = [one.events.record("POLICY_CREATED", {}).event_id]
    page = one.events.page(since_event_id=cursor)
    seen, cursor = ids(page), page.last_event_id
    two = stores(name="two")
    made.append(two.events.record("POLICY_CREATED", {}).event_id)
    flush(one)
    for store in (two, one, two):
        page = store.events.page(since_event_id=cursor)
        seen, cursor = seen + ids(page), page.last_event_id
        flush(two)
    stores.stop()
    again = stores(name="one")
    made.append(again.events.record("POLICY_CREATED", {}).event_id)
    seen += follow(again, cursor)
    assert seen == made


@given(cursor=st.text(max_size=80), prefix=st.sampled_from(("", "c")))
@settings(deadline=None, max_examples=200)
def test_any_text_can_be_given_as_a_cursor(filled: Store, cursor: str, prefix: str) -> None:
    page = filled.events.page(since_event_id=prefix + cursor)
    assert (len(page.events), page.gap) == (5, True)


@given(vector=st.dictionaries(st.integers(0, 1023), st.integers(0, 2**54 - 1), max_size=4))
@settings(deadline=None, max_examples=200)
def test_any_cursor_of_this_store_can_be_given(filled: Store, vector: dict[int, int]) -> None:
    cursor = encode_cursor(filled.store_id, {key: at << 10 | key for key, at in vector.items()})
    page = filled.events.page(since_event_id=cursor)
    assert len(page.events) in range(6)
    assert page.last_event_id is not None


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    directory = tmp_path_factory.mktemp("filled")
    made = Stores(f"sqlite:///{directory}/x.db", directory)
    store = made()
    for _ in range(5):
        store.events.record("POLICY_CREATED", {})
    flush(store)
    yield store
    made.stop()
