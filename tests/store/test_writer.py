"""What goes through the writer is there afterwards, in order, once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from random import Random
from time import sleep
from typing import Any

import pytest
from sqlalchemy import Connection, insert, update
from sqlalchemy.exc import IntegrityError
from tests.store.stores import Content, Stores, all_decisions, checked, flush, ids_of, until

from policy_engine.model.errors import BusyError
from policy_engine.model.record import Checked
from policy_engine.store import schema
from policy_engine.store.chain import entry_hash
from policy_engine.store.change import Transaction
from policy_engine.store.database import Database
from policy_engine.store.decisions import DecisionQuery
from policy_engine.store.draft import Draft
from policy_engine.store.encode import MAX_ITEMS
from policy_engine.store.item import Unsealed
from policy_engine.store.opened import Store
from policy_engine.store.options import DEFAULT_TENANT
from policy_engine.store.position import writer_of
from policy_engine.store.retention import remove_decisions


def batch(count: int, **context: Any) -> list[Checked]:
    return [checked(dst_port=number % 65536, **context) for number in range(count)]


@contextmanager
def another_connection(url: str) -> Iterator[Connection]:
    """Write to the database as a program of its own would."""
    database = Database(url, busy_seconds=5)
    try:
        with database.write() as connection:
            yield connection
    finally:
        database.close()


def names(store: Store) -> list[str]:
    return [event.event_type for event in store.events.page().events]


def test_what_was_recorded_is_there_after_stop(stores: Stores) -> None:
    store = stores()
    made = batch(20)
    for item in made:
        store.writer.record_decisions([item])
    event = store.events.record("ENGINE_START", {"pid": 1})
    stores.stop()
    content = Content(stores.url)
    assert content.decision_ids() == ids_of(made)
    content.check_chains()
    assert len(content.rows("event")) == 1
    again = stores()
    assert [item.entry.decision.decision_id for item in all_decisions(again)] == ids_of(made)[::-1]
    assert event.event_id in [item.event_id for item in again.events.page().events]


def test_a_store_that_was_never_started_writes_when_it_stops(stores: Stores) -> None:
    store = stores(started=False)
    made = batch(3)
    store.writer.record_decisions(made)
    stores.stop()
    assert Content(stores.url).decision_ids() == ids_of(made)


def test_what_waits_is_committed_together(stores: Stores) -> None:
    store = stores(started=False)
    for item in batch(50):
        store.writer.record_decisions([item])
    assert Content(stores.url).rows("decision") == []
    store.start()
    until(lambda: bool(Content(stores.url).rows("decision")), "the first commit")
    assert [row.items for row in Content(stores.url).rows("decision")] == [50]


def test_sync_returns_when_the_decision_is_in_the_database(stores: Stores) -> None:
    store = stores()
    for item in batch(5):
        store.writer.record_decisions([item], sync=True)
        assert Content(stores.url).decision_ids()[-1:] == ids_of([item])


def test_who_waits_for_nothing_is_written_soon_however_often_others_did_not_want_to_wait(stores: Stores) -> None:
    store = stores()
    for item in batch(1_000):
        store.writer.record_decisions([item], sync=True)
    last = checked()
    store.writer.record_decisions([last])
    # many times what it may take, and a tenth of what 1,000 pauses would be
    until(lambda: Content(stores.url).decision_ids()[-1:] == ids_of([last]), "the last")


def test_a_full_queue_refuses_and_loses_nothing_of_what_it_took(stores: Stores) -> None:
    store = stores(started=False, queue=10)
    taken = batch(4)
    for item in taken:
        store.writer.record_decisions([item])
    more = batch(6)
    store.writer.record_decisions(more)
    for refused in (batch(1), batch(7)):
        with pytest.raises(BusyError):
            store.writer.record_decisions(refused)
    stores.stop()
    assert Content(stores.url).decision_ids() == ids_of(taken + more)


def test_a_batch_above_the_capacity_is_taken_when_nothing_else_waits(stores: Stores) -> None:
    store = stores(started=False, queue=10)
    made = batch(25)
    store.writer.record_decisions(made)
    with pytest.raises(BusyError):
        store.writer.record_decisions(batch(1))
    stores.stop()
    assert Content(stores.url).decision_ids() == ids_of(made)


def test_room_in_the_queue_lets_those_in_who_wait(stores: Stores) -> None:
    store = stores(started=False, queue=10)
    store.writer.record_decisions(batch(10))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(store.writer.record_decisions, batch(10))
        store.start()
        waiting.result()
    stores.stop()
    assert len(Content(stores.url).decision_ids()) == 20


def test_nothing_is_taken_any_more_after_stop(stores: Stores) -> None:
    store = stores()
    store.writer.record_decisions(batch(1))
    stores.stop()
    with pytest.raises(BusyError):
        store.writer.record_decisions(batch(1))
    with pytest.raises(BusyError):
        store.writer.transact(lambda _: None)
    assert len(Content(stores.url).rows("decision")) == 1


@pytest.mark.parametrize("count", [2, 128, 129, 1000])
def test_decisions_made_together_become_full_rows(stores: Stores, count: int) -> None:
    store = stores()
    made = batch(count)
    store.writer.record_decisions(made, "somebody", 3)
    stores.stop()
    content = Content(stores.url)
    assert content.decision_ids() == ids_of(made)
    rest = [count % MAX_ITEMS] * bool(count % MAX_ITEMS)
    assert [row.items for row in content.rows("decision")] == [MAX_ITEMS] * (count // MAX_ITEMS) + rest
    assert {(entry.source, entry.represents) for _, entry in content.entries()} == {("somebody", 3)}
    content.check_chains()


def test_a_change_returns_what_it_did(stores: Stores) -> None:
    store = stores()
    assert store.writer.transact(lambda transaction: transaction.event("POLICY_CREATED", {"a": 1}).details, 1) == {
        "a": 1
    }
    assert names(store) == ["POLICY_CREATED"]


def test_a_change_that_raises_leaves_nothing_and_takes_no_decision_with_it(stores: Stores) -> None:
    store = stores(started=False)
    made = batch(5)
    for item in made:
        store.writer.record_decisions([item])

    def fails(transaction: Transaction) -> None:
        transaction.event("POLICY_CREATED", {})
        row = {"tenant": DEFAULT_TENANT, "path": "p", "fingerprint": "f", "number": 1}
        transaction.connection.execute(insert(schema.imported), row)
        raise LookupError("no")

    with ThreadPoolExecutor(1) as pool:
        change = pool.submit(store.writer.transact, fails, 1)
        until(lambda: bool(store.writer._intake._changes), "the change waits")
        store.start()
        with pytest.raises(LookupError):
            change.result()
    content = Content(stores.url)
    assert content.decision_ids() == ids_of(made)
    assert content.rows("event") == content.all("imported") == []
    store.events.record("ENGINE_START", {})
    stores.stop()
    content.check_chains()


def test_a_change_that_contradicts_the_database_takes_no_decision_with_it(stores: Stores) -> None:
    store = stores(started=False)
    made = batch(5)
    store.writer.record_decisions(made)

    def fails(transaction: Transaction) -> None:
        row = {"tenant": DEFAULT_TENANT, "path": "p", "fingerprint": "f", "number": 1}
        transaction.connection.execute(insert(schema.imported), row)
        transaction.connection.execute(insert(schema.imported), row)

    with ThreadPoolExecutor(1) as pool:
        change = pool.submit(store.writer.transact, fails, 0)
        until(lambda: bool(store.writer._intake._changes), "the change waits")
        store.start()
        with pytest.raises(IntegrityError):
            change.result()
    content = Content(stores.url)
    assert content.decision_ids() == ids_of(made)
    assert content.all("imported") == []


def test_the_events_of_a_change_can_be_read_exactly_when_it_is_committed(stores: Stores) -> None:
    store = stores()
    cursor = store.events.page().last_event_id
    before: list[Any] = []

    def change(transaction: Transaction) -> None:
        transaction.event("POLICY_CREATED", {})
        store.events.record("RELOAD_FAILED", {})
        before.extend([store.events.page(), store.events.page(since_event_id=cursor)])

    store.writer.transact(change, 1)
    assert [page.events for page in before] == [[], []]
    assert names(store) == ["POLICY_CREATED", "RELOAD_FAILED"]
    after = store.events.page(since_event_id=before[1].last_event_id)
    assert [event.event_type for event in after.events] == ["POLICY_CREATED", "RELOAD_FAILED"]


def test_a_change_whose_turn_does_not_come_is_taken_back(stores: Stores) -> None:
    store = stores(started=False)
    done: list[int] = []
    with pytest.raises(BusyError):
        store.writer.transact(lambda _: done.append(1))
    store.start()
    flush(store)
    assert done == []


def test_changes_are_carried_out_in_the_order_in_which_they_came(stores: Stores) -> None:
    store = stores(started=False)
    order: list[int] = []

    def append(number: int) -> Callable[[Transaction], None]:
        def apply(transaction: Transaction) -> None:
            order.append(number)
            transaction.event("POLICY_UPDATED", {"number": number})

        return apply

    with ThreadPoolExecutor(5) as pool:
        waiting = []
        for number in range(5):
            waiting.append(pool.submit(store.writer.transact, append(number), 1))
            until(lambda: len(store.writer._intake._changes) == len(waiting), "the change waits")
        store.start()
        for change in waiting:
            change.result()
    assert order == [0, 1, 2, 3, 4]
    assert [event.details["number"] for event in store.events.page().events] == order


def test_many_threads_write_and_nothing_is_lost_or_out_of_order(stores: Stores) -> None:
    store = stores(queue=500)
    each = 60

    def work(name: int) -> list[str]:
        choose = Random(name)
        made: list[str] = []
        for number in range(each):
            decisions = batch(choose.choice((1, 1, 1, 7)), client_id=f"c{name}")
            store.writer.record_decisions(decisions, sync=not number % 20)
            made += ids_of(decisions)
            if not number % 10:
                store.events.record("POLICY_UPDATED", {"by": name, "number": number})
        return made

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(work, range(4)))
    stores.stop()
    content = Content(stores.url)
    content.check_chains()
    written = content.decision_ids()
    assert sorted(written) == sorted(chain.from_iterable(made))
    for own in made:
        mine = set(own)
        assert [identity for identity in written if identity in mine] == own


def test_two_stores_have_chains_of_their_own(stores: Stores) -> None:
    one, two = stores(name="one"), stores(name="two")
    assert {one.writer.number, two.writer.number} == {1, 2}
    for number in range(30):
        for store in (one, two):
            store.writer.record_decisions(batch(1 + number % 3))
            store.events.record("POLICY_UPDATED", {"number": number})
    stores.stop()
    content = Content(stores.url)
    content.check_chains()
    for stream, items in (("decision", 59), ("event", 30)):
        held = dict.fromkeys((1, 2), 0)
        for row in content.rows(stream):
            held[writer_of(row.position)] += row.items
        assert held == ({1: 60, 2: 60} if items == 59 else {1: 30, 2: 30})
    assert {row.number for row in content.all("writer")} == {1, 2}


def test_a_number_is_used_again_after_stop(stores: Stores) -> None:
    one, two = stores(), stores(name="two")
    one.writer.record_decisions(batch(3))
    stores.end(one)
    third = stores(name="three")
    assert (two.writer.number, third.writer.number) == (2, 1)
    third.writer.record_decisions(batch(3))
    stores.stop()
    content = Content(stores.url)
    assert [row.seq for row in content.rows("decision")] == [1, 2]
    content.check_chains()


def overtake(url: str, writer: int, ahead: int) -> None:
    """Append an entry to somebody else's chain, as a process does that was given the same number."""
    table = schema.chain
    with another_connection(url) as connection:
        key = (table.c.tenant == DEFAULT_TENANT, table.c.writer == writer, table.c.stream == "event")
        head = connection.execute(table.select().where(*key)).one()
        position = head.position + (ahead << 10)
        body = b'{"event_id":"x","timestamp":"2026-01-01T00:00:00Z","event_type":"ENGINE_START","details":{}}'
        digest = entry_hash(bytes(head.hash), position, head.seq + 1, body)
        connection.execute(
            update(table).where(*key).values(seq=head.seq + 1, position=position, hash=digest, items=head.items + 1)
        )
        row = {"tenant": DEFAULT_TENANT, "position": position, "type": "ENGINE_START", "seq": head.seq + 1}
        connection.execute(insert(schema.event).values(**row, body=body, hash=digest))


@pytest.mark.parametrize("ahead", [1, 3_600_000_000])
def test_a_writer_that_was_overtaken_reads_its_chain_again_and_loses_nothing(stores: Stores, ahead: int) -> None:
    store = stores()
    store.events.record("POLICY_CREATED", {"number": 0})
    flush(store)
    overtake(stores.url, store.writer.number, ahead)
    made = batch(3, client_id="c")
    for number, item in enumerate(made, 1):
        store.events.record("POLICY_CREATED", {"number": number})
        store.writer.record_decisions([item])
    flush(store)
    stores.stop()
    content = Content(stores.url)
    content.check_chains()
    assert content.decision_ids() == ids_of(made)
    assert len(content.rows("event")) == 5
    again = stores()
    assert len(all_decisions(again, DecisionQuery(client="c"))) == 3


def poison(decision_id: str) -> Unsealed:
    """Return what cannot be encoded."""
    draft = Draft(decision_id, b"{", b"{}", (True, False, "a", None, None, 1))
    return Unsealed(draft, b"[")


def test_what_cannot_be_written_does_not_block_what_can(stores: Stores) -> None:
    store = stores(started=False)
    made = [checked(client_id=f"c{number}", client_ip="10.0.0.1") for number in range(6)]
    for number, item in enumerate(made):
        if number in (2, 3, 4):
            store.writer._intake.record_decision(b"{}", poison(str(number)))
        else:
            store.writer.record_decisions([item])
    store.events.record("ENGINE_START", {"odd": object()})
    store.events.record("ENGINE_START", {"even": 1})
    store.start()
    flush(store)
    store.writer.record_decisions([checked(client_id="later")], sync=True)
    kept = [made[0], made[1], made[5]]
    shown = all_decisions(store)[1:][::-1]
    assert [item.entry.decision.decision_id for item in shown] == ids_of(kept)
    assert [item.entry.context for item in shown] == [item.context for item in kept]
    for item in kept:
        assert len(all_decisions(store, DecisionQuery(client=item.context["client_id"]))) == 1
    assert len(Content(stores.url).rows("event")) == 1
    stores.stop()
    Content(stores.url).check_chains()


@pytest.mark.parametrize("odd", [object(), {"deep": [object()]}])
def test_what_is_not_of_json_is_refused_before_it_is_taken(stores: Stores, odd: Any) -> None:
    store = stores()
    item = checked(client_id="c")
    with pytest.raises(TypeError):
        store.writer.record_decisions([item._replace(context={**item.context, "odd": odd})])
    flush(store)
    assert all_decisions(store) == []


def test_what_becomes_of_a_context_later_does_not_reach_the_log(stores: Stores) -> None:
    store = stores(started=False)
    context = {"client_id": "c", "nested": {"list": [1]}}
    store.writer.record_decisions([checked()._replace(context=context)])
    context["client_id"] = "d"
    context["nested"]["list"].append(2)  # type: ignore[index]
    store.start()
    flush(store)
    (shown,) = all_decisions(store)
    assert shown.entry.context == {"client_id": "c", "nested": {"list": [1]}}


@pytest.mark.parametrize(
    "client",
    ["", "a\0b", "\ud800", "x" * 5000, "".join(map(chr, range(0x4E00, 0x4E00 + 4000))), "~x", 5, True, None, ["a"]],
)
def test_any_client_id_can_be_written_and_found(stores: Stores, client: Any) -> None:
    store = stores()
    store.writer.record_decisions([checked(client_id=client, client_ip="10.0.0.1")], sync=True)
    store.writer.record_decisions([checked(client_id="other")], sync=True)
    shown = all_decisions(store)
    assert len(shown) == 2
    assert shown[1].entry.context["client_id"] == client
    assert shown[1].entry.context["client_ip"] == "10.0.0.1"
    if isinstance(client, str) and client != "~x":
        assert len(all_decisions(store, DecisionQuery(client=client))) == 1


def test_what_the_log_takes_falls_when_decisions_go(stores: Stores) -> None:
    store = stores()
    for _ in range(30):
        store.writer.record_decisions(batch(100))
    flush(store)
    before = store.database.bytes_used()
    assert remove_decisions(store, store.writer.readable_until).entries >= 1000
    assert 0 < store.database.bytes_used() < before


def test_whoever_decides_faster_than_is_written_is_slowed_down_and_not_refused(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = stores(started=False)
    pauses: list[float] = []
    monkeypatch.setattr(store.writer._intake._lock, "wait", pauses.append)
    store.writer.record_decisions([checked()])
    sleep(0.15)
    store.writer.record_decisions(batch(3))
    assert pauses == [], "they are few"
    store.writer.record_decisions(batch(500))
    store.writer.record_decisions([checked()])
    monkeypatch.undo()
    assert len(pauses) == 2
    assert 0 < max(pauses) < 0.01
    store.start()
    flush(store)
    monkeypatch.setattr(store.writer._intake._lock, "wait", pauses.append)
    before = len(pauses)
    store.writer.record_decisions([checked()])
    assert len(pauses) == before, "what is written does not count"
    monkeypatch.undo()
    assert len(Content(stores.url).decision_ids()) >= 505
