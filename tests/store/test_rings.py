"""The events that are held, and following them with a cursor."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from random import Random
from uuid import RFC_4122, UUID

import pytest

from policy_engine.pdp import PolicyEngine
from policy_engine.store.rings import EventLog

RULES = [{"action": "deny", "match": {"dst_port": 22}}, {"action": "allow", "match": {"protocol": "tcp"}}]
DOCUMENT = {"policies": {"web": {"type": "network_security", "rules": RULES}}}


def engine(log: EventLog) -> PolicyEngine:
    return PolicyEngine.from_document(DOCUMENT, listener=log.record_decisions)


def decide(deciding: PolicyEngine, port: int = 80) -> None:
    deciding.check("network_security", {"protocol": "tcp", "dst_port": port})


def test_nothing_yet() -> None:
    page = EventLog().page()
    assert (page.events, page.total, page.last_event_id, page.gap) == ([], 0, None, False)


def test_both_rings_in_one_order() -> None:
    log = EventLog()
    deciding = engine(log)
    for number in range(3):
        log.record("POLICY_CREATED", {"number": number})
        decide(deciding, 22)
    assert [event.event_type for event in log.page().events] == ["POLICY_CREATED", "POLICY_VIOLATION"] * 3


@pytest.mark.parametrize(
    ("seen", "more", "gap"),
    [(1, 0, False), (1, 2, False), (1, 3, False), (1, 4, True), (3, 2, False), (3, 3, False), (3, 4, True)],
)
def test_gap(seen: int, more: int, gap: bool) -> None:  # noqa: FBT001
    log = EventLog(capacity=3)
    ids = [log.record("POLICY_CREATED", {}).event_id for _ in range(seen)]
    new = [log.record("POLICY_CREATED", {}).event_id for _ in range(more)]
    page = log.page(since_event_id=ids[-1])
    assert page.gap is gap
    assert [event.event_id for event in page.events] == new[-3:]


def test_what_the_other_ring_lost_is_a_gap_too() -> None:
    log = EventLog(capacity=3)
    deciding = engine(log)
    cursor = log.record("POLICY_CREATED", {}).event_id
    for _ in range(4):
        decide(deciding)
    page = log.page(since_event_id=cursor)
    assert page.gap is True
    assert len(page.events) == 3


def test_a_cursor_that_is_not_known() -> None:
    log, other = EventLog(), EventLog()
    first = log.record("POLICY_CREATED", {}).event_id
    foreign = other.record("POLICY_CREATED", {}).event_id
    ahead = EventLog()
    for cursor in ("nope", "", foreign, foreign.upper(), first[:-1], first + "0", "0" * 36, "-" * 36, "\u0663" * 36):
        page = log.page(since_event_id=cursor)
        assert page.gap is True, cursor
        assert [event.event_id for event in page.events] == [first]
    assert ahead.page(since_event_id=first).gap is True


def test_ids_are_unique_uuids() -> None:
    log = EventLog()
    ids = [log.record("POLICY_CREATED", {}).event_id for _ in range(500)]
    assert len(set(ids)) == 500
    assert ids == [str(UUID(text)) for text in ids]
    assert {UUID(text).variant for text in ids} == {RFC_4122}
    assert ids == [event.event_id for event in log.page().events]


def test_a_filter_does_not_hold_the_cursor_back() -> None:
    log = EventLog()
    log.record("POLICY_CREATED", {})
    last = log.record("POLICY_DELETED", {}).event_id
    page = log.page(event_types={"POLICY_CREATED"})
    assert page.last_event_id == last
    assert page.total == 2


def test_decisions_do_not_make_a_reader_of_changes_see_them_again() -> None:
    log = EventLog(capacity=10)
    deciding = engine(log)
    cursor, seen, recorded = None, [], []
    for number in range(5):
        recorded.append(log.record("POLICY_CREATED", {"number": number}).event_id)
        for _ in range(25):
            decide(deciding)
        page = log.page(since_event_id=cursor, event_types={"POLICY_CREATED"})
        seen += [event.event_id for event in page.events]
        cursor = page.last_event_id
    assert seen == recorded


@pytest.fixture
def _eager_threads() -> Iterator[None]:
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("_eager_threads")
def test_following_while_others_write() -> None:
    log = EventLog(capacity=20_000)
    deciding = engine(log)
    each = 1500

    def change(writer: int) -> None:
        for number in range(each):
            log.record("POLICY_CREATED" if number % 3 else "POLICY_DELETED", {"writer": writer, "number": number})

    def check(writer: int) -> None:
        for number in range(each):
            decide(deciding, 22 if (number + writer) % 2 else 80)

    def follow(seed: int, types: Collection[str]) -> list[str]:
        choose = Random(seed)
        cursor: str | None = None
        seen: list[str] = []
        while True:
            last = all(writer.done() for writer in writers)
            page = log.page(since_event_id=cursor, limit=choose.choice((1, 3, 50, 500)), event_types=types)
            assert page.gap is False
            seen += [event.event_id for event in page.events]
            cursor = page.last_event_id
            if last and not page.events:
                return seen

    filters: list[Collection[str]] = [
        (),
        {"POLICY_DELETED"},
        {"POLICY_VIOLATION"},
        {"POLICY_CREATED", "POLICY_APPLIED"},
    ]
    with ThreadPoolExecutor(max_workers=10) as pool:
        writers = [pool.submit(work, writer) for work in (change, check) for writer in (0, 1)]
        readers = [pool.submit(follow, seed, types) for seed, types in enumerate(filters)]
        for writer in writers:
            writer.result()
        followed = [reader.result() for reader in readers]
    everything = log.page(limit=10**9).events
    assert len(everything) == 4 * each
    for seen, types in zip(followed, filters, strict=True):
        assert seen == [event.event_id for event in everything if not types or event.event_type in types]
    for name in (0, 1):
        order = [event.details["number"] for event in everything if event.details.get("writer") == name]
        assert order == list(range(each))


def test_what_a_filter_leaves_out_makes_no_gap() -> None:
    log = EventLog(capacity=3)
    deciding = engine(log)
    cursor = log.record("POLICY_CREATED", {}).event_id
    for _ in range(9):
        decide(deciding)
    assert log.page(since_event_id=cursor, event_types={"POLICY_CREATED", "POLICY_DELETED"}).gap is False
    assert log.page(since_event_id=cursor, event_types={"POLICY_APPLIED"}).gap is True
