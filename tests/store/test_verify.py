"""What verifying finds, and what it does not take for a fault."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from random import Random
from secrets import randbits
from threading import Event, Thread
from time import sleep

import pytest
from sqlalchemy import Connection, delete, update
from sqlalchemy.exc import IntegrityError
from tests.store import mutations
from tests.store.forgery import checkpoints, entry, exported, head, recompute, remove_writer
from tests.store.mutations import ANYWHERE, IN_SQLITE, Mutation, of_writer, other
from tests.store.stores import Content, Stores, all_decisions, checked, flush, patiently
from tests.store.trail import (
    CHECKPOINTS,
    changed,
    checkpoint,
    only_when_told,
    opened,
    record_some,
    verified,
    write_trail,
)

from policy_engine.model.errors import BusyError
from policy_engine.signing import PublicKey
from policy_engine.store import batch, encoder, schema
from policy_engine.store.database import Database, serialise
from policy_engine.store.decisions import DecisionQuery
from policy_engine.store.faults import MAX_FAULTS
from policy_engine.store.keys import KeyDirectory
from policy_engine.store.opened import Store
from policy_engine.store.options import DEFAULT_TENANT
from policy_engine.store.position import writer_of
from policy_engine.store.retention import remove_decisions, remove_events
from policy_engine.store.subjects import erase
from policy_engine.store.verify import Report, verify

MUTATIONS = 1000
"""In all, on SQLite; a tenth of them on PostgreSQL, which only lets happen what the types allow."""


@pytest.fixture
def trail(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> tuple[Store, Store]:
    monkeypatch.setattr(encoder, "MAX_ITEMS", 2)
    monkeypatch.setattr(batch, "BLOCK_ITEMS", 10)  # several rows in the index of decisions
    return write_trail(stores)


@pytest.fixture
def keys(trail: tuple[Store, Store]) -> KeyDirectory:
    return trail[0].keys


def mutated(database: Database, roots: list[PublicKey], mutation: Mutation, random: Random) -> tuple[str, Report]:
    """Alter something, verify, and take the change back; what the database refuses to hold is tried anew."""
    while True:
        with database._reading.connect() as connection, suppress(IntegrityError):
            what = mutation(connection, random)
            return what, verify(connection, DEFAULT_TENANT, roots)


# Nothing is wrong


def test_a_trail_that_nobody_touched(stores: Stores, trail: tuple[Store, Store], keys: KeyDirectory) -> None:
    report = verified(stores.url, keys, exported(stores.url))
    assert report.faults == []
    assert report.ok
    assert report.checkpoints == CHECKPOINTS
    assert 2 * 10 <= report.uncovered < report.entries, "what both recorded last"
    assert report.entries == sum(len(Content(stores.url).rows(stream)) for stream in schema.STREAMS)
    for store in trail:
        stores.end(store)
    report = verified(stores.url, keys)
    assert report.ok
    assert report.uncovered == 0, "a store that ends makes a checkpoint"


def test_a_store_in_which_nothing_happened(stores: Stores) -> None:
    store = stores()
    assert verified(stores.url, store.keys) == Report(ok=True, entries=0, checkpoints=0, uncovered=0, faults=[])


def test_a_store_without_a_checkpoint(stores: Stores) -> None:
    store = stores(started=False)
    only_when_told(store)
    store.writer.start()
    record_some(store, 1)
    report = verified(stores.url, store.keys)
    assert report.ok
    assert report.checkpoints == 0
    assert report.entries == report.uncovered == sum(len(Content(stores.url).rows(name)) for name in schema.STREAMS)


def test_verifying_while_others_write(stores: Stores, trail: tuple[Store, Store], keys: KeyDirectory) -> None:
    store, enough = trail[0], Event()

    def write() -> None:
        number = 0
        while not enough.is_set():
            number += 1
            with suppress(BusyError):  # on a busy machine the disk may take long; that is not what this is about
                store.writer.record_decisions([checked(client_id=f"client-{number % 50}")], sync=number % 20 == 0)
            if number % 50 == 0:
                store.events.record("POLICY_UPDATED", {"number": number})

    thread = Thread(target=write)
    thread.start()
    try:
        reports = [verified(stores.url, keys) for _ in range(8)]
    finally:
        enough.set()
        thread.join()
    assert [report.faults for report in reports] == [[]] * 8
    assert reports[0].entries < reports[-1].entries


def test_erased_clients_leave_the_proof_intact(stores: Stores, trail: tuple[Store, Store], keys: KeyDirectory) -> None:
    before = exported(stores.url)
    assert trail[0].writer.transact(lambda transaction: erase(transaction.connection, DEFAULT_TENANT, "north"))
    flush(trail[0])
    assert verified(stores.url, keys, before).ok
    assert all_decisions(trail[0], DecisionQuery(client="north")) == []
    assert len(all_decisions(trail[0], DecisionQuery(client="south"))) > 0


def test_retention_leaves_the_proof_intact(stores: Stores, trail: tuple[Store, Store], keys: KeyDirectory) -> None:
    before = exported(stores.url)
    border = trail[0].writer.readable_until
    events = remove_events(trail[0], border)
    decisions = remove_decisions(trail[0], border)
    assert min(events.entries, decisions.entries) > 0
    report = verified(stores.url, keys, before)
    assert report.faults == []
    assert report.entries == sum(len(Content(stores.url).rows(stream)) for stream in schema.STREAMS)
    record_some(trail[1], 50)
    checkpoint(trail[1])
    assert verified(stores.url, keys, before).ok


def test_progress_is_told(stores: Stores, trail: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("policy_engine.store.verify._PROGRESS_ENTRIES", 50)
    told: list[tuple[int, int]] = []
    with opened(stores.url) as database, database.read() as connection:
        report = verify(
            connection, DEFAULT_TENANT, trail[0].keys.trusted(), progress=lambda done, total: told.append((done, total))
        )
    assert [done for done, _ in told] == [*range(50, report.entries + 1, 50), report.entries]
    assert {total for _, total in told} == {report.entries}


# Something is wrong


def test_every_mutation_is_found(stores: Stores, trail: tuple[Store, Store]) -> None:
    sqlite = trail[0].database.is_sqlite
    known = {**ANYWHERE, **(IN_SQLITE if sqlite else {})}
    seed = randbits(32)
    print("seed", seed)  # noqa: T201 - shown when the test fails
    random, roots = Random(seed), trail[0].keys.trusted()
    unseen: Counter[str] = Counter()
    with opened(stores.url) as database:
        for number in range(MUTATIONS if sqlite else MUTATIONS // 10):
            name = list(known)[number % len(known)]
            what, report = mutated(database, roots, known[name], random)
            if report.ok:
                unseen[f"{name}: {what}"] += 1
            if number % 50 == 0:
                assert verified(stores.url, trail[0].keys).faults == [], "what was not altered verifies"
    assert not unseen


@pytest.mark.parametrize("name", ["body", "hash"])
def test_an_altered_entry_is_named(stores: Stores, keys: KeyDirectory, name: str) -> None:
    places: list[tuple[str, int, int, int]] = []

    def alter(connection: Connection, random: Random) -> str:
        table = schema.STREAMS[random.choice(sorted(schema.STREAMS))]
        row = mutations.pick(connection, random, table)
        places.append((table.name, writer_of(row.position), row.seq, row.position))
        return mutations.set_to(connection, table, row, **{name: other(random, bytes(row._mapping[name]))})

    random = Random(1)
    with opened(stores.url) as database:
        for _ in range(30):
            what, report = mutated(database, keys.trusted(), alter, random)
            assert len(report.faults) == 1, f"one alteration is one fault: {what}"
            found = report.faults[0]
            assert (found.what, (found.stream, found.writer, found.seq, found.position)) == ("altered", places[-1])


def test_a_removed_entry_is_named(stores: Stores, keys: KeyDirectory) -> None:
    with changed(stores.url) as connection:
        table = schema.event
        connection.execute(delete(table).where(of_writer(table, 1), table.c.seq.between(7, 9)))
    (fault,) = verified(stores.url, keys).faults
    assert (fault.what, fault.stream, fault.writer, fault.seq) == ("missing", "event", 1, 7)
    assert fault.text == "writer 1 in `event`: entries 7 to 9 are missing"


def test_an_entry_in_another_place_is_named(stores: Stores, keys: KeyDirectory) -> None:
    with changed(stores.url) as connection:
        table = schema.event
        last = entry(connection, "event", 2, 20)[0]
        connection.execute(update(table).where(of_writer(table, 2), table.c.seq == 8).values(position=last + 1024))
    fault = verified(stores.url, keys).faults[0]
    assert (fault.what, fault.stream, fault.writer, fault.seq, fault.position) == (
        "reordered",
        "event",
        2,
        8,
        last + 1024,
    )


def test_a_recomputed_chain_is_found_between_two_checkpoints(stores: Stores, keys: KeyDirectory) -> None:
    with changed(stores.url) as connection:
        stated = checkpoints(connection)
        before, after = head(stated[2], "event", 2), head(stated[3], "event", 2)
        body = json.loads(entry(connection, "event", 2, before + 2)[1])
        body["details"] = {"policy_id": "never"}
        recompute(connection, "event", 2, before + 2, json.dumps(body).encode())
    (fault,) = verified(stores.url, keys).faults
    assert (fault.what, fault.stream, fault.writer, fault.checkpoint) == ("altered", "event", 2, 4)
    assert fault.seq == before + 1, "the first that may be the altered one"
    assert f"from {before + 1} to {after}" in fault.text
    assert "between checkpoint 3 and checkpoint 4" in fault.text


def test_a_recomputed_end_that_no_checkpoint_covers_is_not_found(
    stores: Stores, trail: tuple[Store, Store], keys: KeyDirectory
) -> None:
    with changed(stores.url) as connection:
        covered = head(checkpoints(connection)[-1], "event", 1)
        body = json.loads(entry(connection, "event", 1, covered + 2)[1])
        body["details"] = {"policy_id": "never"}
        recompute(connection, "event", 1, covered + 2, json.dumps(body).encode())
    report = verified(stores.url, keys)
    assert report.ok
    assert report.uncovered > 0, "and the report says that it speaks for less than all"
    checkpoint(trail[1])
    assert verified(stores.url, keys).uncovered == 0


def test_a_removed_writer_is_found(stores: Stores, trail: tuple[Store, Store], keys: KeyDirectory) -> None:
    stores.end(trail[1])
    with changed(stores.url) as connection:
        number = trail[1].writer.number
        remove_writer(connection, number)
    report = verified(stores.url, keys)
    assert {(fault.stream, fault.writer) for fault in report.faults if fault.what == "missing"} == {
        (stream, number) for stream in schema.STREAMS
    }
    refuses_to_sign(trail[0], number)


def refuses_to_sign(store: Store, writer: int) -> None:
    record_some(store, 60)
    assert not patiently(lambda: store.writer.transact(lambda transaction: store.signer.sign(transaction.connection)))
    assert f"the chain of writer {writer} in" in store.signer.problem, "no later checkpoint hides what was altered"


def test_a_chain_that_was_taken_back_is_found_and_not_signed(
    stores: Stores, trail: tuple[Store, Store], keys: KeyDirectory
) -> None:
    stores.end(trail[1])
    number = trail[1].writer.number
    with changed(stores.url) as connection:
        position, _, hashed = entry(connection, "event", number, 10)
        connection.execute(delete(schema.event).where(of_writer(schema.event, number), schema.event.c.seq > 10))
        chain = schema.chain
        where = (chain.c.writer == number, chain.c.stream == "event")
        connection.execute(update(chain).where(*where).values(seq=10, position=position, hash=hashed, items=10))
    refuses_to_sign(trail[0], number)
    fault = verified(stores.url, keys).faults[0]
    assert (fault.what, fault.stream, fault.writer) == ("missing", "event", number)


# Retention


def test_a_beginning_that_goes_without_retention_is_not_signed(
    stores: Stores, trail: tuple[Store, Store], keys: KeyDirectory
) -> None:
    number = trail[0].writer.number
    with changed(stores.url) as connection:
        position, _, hashed = entry(connection, "event", number, 10)
        connection.execute(delete(schema.event).where(of_writer(schema.event, number), schema.event.c.seq <= 10))
        tail = {"tail_seq": 10, "tail_position": position, "tail_hash": hashed, "tail_items": 10}
        where = (schema.chain.c.writer == number, schema.chain.c.stream == "event")
        connection.execute(update(schema.chain).where(*where).values(**tail))
    refuses_to_sign(trail[0], number)
    assert not verified(stores.url, keys).ok


def test_a_beginning_that_goes_without_a_signature_is_found(stores: Stores, keys: KeyDirectory) -> None:
    random = Random(7)
    with opened(stores.url) as database:
        for _ in range(10):
            what, report = mutated(database, keys.trusted(), mutations.cut_the_beginning, random)
            assert "chain" in {fault.what for fault in report.faults}, what
            assert "missing" in {fault.what for fault in report.faults}, what


def test_many_faults_are_counted_and_some_are_listed(stores: Stores, keys: KeyDirectory) -> None:
    with changed(stores.url) as connection:
        for table in (schema.decision, schema.event):
            connection.execute(update(table).values(body=b"{}"))
    report = verified(stores.url, keys)
    assert not report.ok
    assert len(report.faults) == MAX_FAULTS


def test_another_name_for_a_subject_is_found(stores: Stores, keys: KeyDirectory) -> None:
    with changed(stores.url) as connection:
        table = schema.subject
        connection.execute(update(table).where(table.c.name == "north").values(name="nobody"))
    (fault,) = verified(stores.url, keys).faults
    assert fault.what == "column"
    assert "its name is another one" in fault.text


def test_the_last_checkpoint_waits_for_its_turn(postgres_url: str, tmp_path: Path) -> None:
    stores = Stores(postgres_url, tmp_path)
    store, taken, free = stores(), Event(), Event()
    only_when_told(store)
    record_some(store, 1)
    database = Database(postgres_url)

    def change_something() -> None:
        with database.write() as connection:
            serialise(connection)
            taken.set()
            free.wait(10)

    with ThreadPoolExecutor(2) as pool:
        other = pool.submit(change_something)
        assert taken.wait(10)
        stopping = pool.submit(stores.end, store)
        sleep(0.3)
        free.set()
        other.result()
        stopping.result()
    database.close()
    report = verified(postgres_url, store.keys)
    assert report.ok
    assert (report.checkpoints, report.uncovered) == (1, 0)
