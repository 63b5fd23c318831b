"""While the database is away, decisions are taken and kept; when it is back, all of them are in it, once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import sleep
from typing import Any

import pytest
from tests.databases import empty_database
from tests.postgres import Postgres
from tests.store.outages import FileLimit, Frozen, Locked, Outage, Proxy, Stopped, away
from tests.store.stores import Content, Stores, all_decisions, checked, flush, ids_of, patiently, until

from policy_engine.model.errors import BusyError, StoreUnavailableError
from policy_engine.store import ledger, writer
from policy_engine.store.database import Database
from policy_engine.store.decisions import DecisionQuery
from policy_engine.store.encode import Decisions, Record
from policy_engine.store.opened import Store
from policy_engine.store.position import writer_of

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["sqlite locked", "postgresql stopped", "postgresql frozen"])
def what_happens(request: pytest.FixtureRequest) -> str:
    happens: str = request.param
    return happens


@pytest.fixture
def database_url(what_happens: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with empty_database(what_happens.partition(" ")[0], tmp_path, request) as url:
        yield url


@pytest.fixture
def outage(what_happens: str, database_url: str, request: pytest.FixtureRequest) -> Iterator[Outage]:
    made: Outage
    if what_happens == "sqlite locked":
        path = Database(database_url).path
        assert path is not None
        made = Locked(path)
    else:
        kind = Stopped if what_happens == "postgresql stopped" else Frozen
        made = kind(request.getfixturevalue("postgres"))
    yield made
    if isinstance(made, Locked):
        made.end()


def spools(stores: Stores, name: str = "one") -> list[Path]:
    return list((stores.directory / name / "spool").glob("*.spool"))


def record(store: Store, count: int, **context: Any) -> list[str]:
    """Record decisions one by one, as callers do who ask again when they are told to wait."""
    made = [checked(dst_port=number, client_id=f"c{number % 3}", **context) for number in range(count)]
    for item in made:
        store.writer.record_decisions([item])
    return ids_of(made)


def check_all_there(stores: Stores, decisions: list[str], events: int) -> None:
    content = Content(stores.url)
    content.check_chains()
    assert sorted(content.decision_ids()) == sorted(decisions)
    assert len(content.rows("event")) == events


def test_what_is_recorded_meanwhile_goes_to_the_spool_and_from_there_to_the_database(
    stores: Stores, outage: Outage
) -> None:
    store = stores()
    made = record(store, 5)
    flush(store)
    with away(outage):
        made += record(store, 20)
        for number in range(3):
            store.events.record("RELOAD_FAILED", {"number": number})
        until(lambda: "store_unavailable" in stores.troubles.now, "the outage is noticed")
        for _ in range(2):
            with pytest.raises((BusyError, StoreUnavailableError)):
                store.writer.transact(lambda transaction: transaction.event("POLICY_CREATED", {}), 1)
        made += record(store, 20)
        until(lambda: not store.writer.waiting, "everything is in the spool")
        assert len(spools(stores)) == 1
        assert spools(stores)[0].stat().st_size > 0
    until(lambda: not stores.troubles.now, "the database is noticed again")
    flush(store)
    assert spools(stores) == []
    assert Content(stores.url).decision_ids() == made
    made += record(store, 5)
    stores.stop()
    check_all_there(stores, made, 3)
    again = stores()
    assert [item.entry.decision.decision_id for item in all_decisions(again)] == made[::-1]
    found = [len(all_decisions(again, DecisionQuery(client=client))) for client in ("c0", "c1", "c2")]
    assert found == [18, 18, 14]


def test_events_are_read_from_memory_meanwhile_and_none_is_lost_or_repeated(stores: Stores, outage: Outage) -> None:
    store = stores()
    seen: list[str] = []
    made = [store.events.record("RELOAD_FAILED", {}).event_id]
    cursor = store.events.page(since_event_id="").last_event_id
    flush(store)

    def follow(cursor: str | None) -> str | None:
        while True:
            page = store.events.page(since_event_id=cursor, limit=7)
            assert not page.gap
            seen.extend(event.event_id for event in page.events)
            cursor = page.last_event_id
            if not page.events:
                return cursor

    with away(outage):
        for _ in range(10):
            made.append(store.events.record("RELOAD_FAILED", {}).event_id)
            record(store, 2)
            cursor = follow(cursor)
        until(lambda: "store_unavailable" in stores.troubles.now, "the outage is noticed")
        made.append(store.events.record("RELOAD_FAILED", {}).event_id)
        cursor = follow(cursor)
    made.append(store.events.record("RELOAD_FAILED", {}).event_id)
    cursor = follow(cursor)
    until(lambda: not stores.troubles.now, "the database is noticed again")
    flush(store)
    follow(cursor)
    assert len(seen) == len(set(seen)) == len(made) - 1 + 20
    assert [identity for identity in seen if identity in set(made)] == made[1:]
    stores.end(store)
    again = stores()
    page = again.events.page(since_event_id=made[0])
    assert [event.event_id for event in page.events] == seen


def test_a_full_spool_fills_the_queue_and_then_checks_are_refused(stores: Stores, outage: Outage) -> None:
    store = stores(spool_bytes=20_000, queue=25)
    made = record(store, 5)
    flush(store)
    refused = 0
    with away(outage):
        while not refused:
            try:
                made += record(store, 1)
            except BusyError:
                refused += 1
        until(lambda: "spool_full" in stores.troubles.now, "the full spool is told")
        with pytest.raises((BusyError, StoreUnavailableError)):
            store.writer.transact(lambda _: None)
        store.events.record("RELOAD_FAILED", {})
    patiently(lambda: made.extend(record(store, 1)))
    until(lambda: not stores.troubles.now, "the database is noticed again")
    stores.stop()
    check_all_there(stores, made, 1)
    assert spools(stores) == []


def test_a_store_that_stops_meanwhile_leaves_its_spool_to_the_next_one(stores: Stores, outage: Outage) -> None:
    store = stores()
    made = record(store, 5)
    flush(store)
    with away(outage):
        made += record(store, 10)
        event = store.events.record("RELOAD_FAILED", {})
        stores.end(store)
        assert len(spools(stores)) == 1
    again = stores()
    assert spools(stores) == []
    page = again.events.page(since_event_id="")
    assert event.event_id in [item.event_id for item in page.events]
    stores.stop()
    check_all_there(stores, made, 1)


def test_outages_one_after_another(stores: Stores, outage: Outage) -> None:
    store = stores()
    made: list[str] = []
    for _ in range(3):
        with away(outage):
            made += record(store, 4)
            sleep(0.3)
        made += record(store, 4)
        flush(store)
    stores.stop()
    assert Content(stores.url).decision_ids() == made
    check_all_there(stores, made, 0)


CHILD = """
import json, sys
from pathlib import Path
from tests.store.stores import Stores, checked, flush, until
from tests.store.test_away import record, spools
stores = Stores(sys.argv[1], Path(sys.argv[2]))
store = stores()
made = record(store, 5)
flush(store)
print("ready", flush=True)
sys.stdin.readline()
made += record(store, 10)
event = store.events.record("RELOAD_FAILED", {})
until(lambda: bool(spools(stores)) and not store.writer.waiting, "everything is in the spool")
until(lambda: not store.writer._intake._events, "the event too")
print(json.dumps([made, event.event_id, store.writer.number]), flush=True)
sys.stdin.readline()
"""


def die_with_a_spool(stores: Stores, outage: Outage) -> tuple[list[str], str]:
    """Let a process write, lose the database, spool, and be killed; return its decisions and the id of its event."""
    command = [sys.executable, "-W", "error", "-c", CHILD, stores.url, str(stores.directory)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            assert child.stdout.readline() == "ready\n"
            with away(outage):
                child.stdin.write("\n")
                child.stdin.flush()
                made, event, number = json.loads(child.stdout.readline())
                child.kill()
                child.wait()
        finally:
            child.kill()
    assert number == 1
    assert len(spools(stores)) == 1
    return made, event


def test_the_spool_of_a_killed_process_is_taken_over_where_it_stood(stores: Stores, outage: Outage) -> None:
    made, event = die_with_a_spool(stores, outage)
    store = stores()
    assert store.writer.number == 1
    assert spools(stores) == []
    assert Content(stores.url).decision_ids() == made
    assert event in [item.event_id for item in store.events.page(since_event_id="").events]
    assert [store.decisions.get(identity).entry.decision.decision_id for identity in made] == made
    stores.stop()
    check_all_there(stores, made, 1)


def test_the_spool_of_a_killed_process_is_taken_over_under_another_number(stores: Stores, outage: Outage) -> None:
    made, _ = die_with_a_spool(stores, outage)
    other = stores(name="other")
    assert other.writer.number == 1
    other.events.record("ENGINE_START", {})
    store = stores()
    assert store.writer.number == 2
    assert spools(stores) == []
    assert [item.entry.decision.decision_id for item in all_decisions(store)] == made[::-1]
    stores.stop()
    check_all_there(stores, made, 2)
    assert {writer_of(row.position) for row in Content(stores.url).rows("decision")[-1:]} == {2}


def test_a_spool_that_cannot_be_taken_over_now_is_taken_over_later(stores: Stores, outage: Outage) -> None:
    made, _ = die_with_a_spool(stores, outage)
    late = stores(name="late", started=False)
    late.writer._spool.directory = stores.directory / "one" / "spool"
    with away(outage):
        late.writer.adopt_orphans()
        assert len(spools(stores)) == 1

    def take_over() -> bool:
        late.writer.adopt_orphans()
        return spools(stores) == []

    until(take_over, "it is taken over")
    late.start()
    stores.stop()
    check_all_there(stores, made, 1)


def test_a_full_disk_is_an_outage_too(sqlite_url: str, tmp_path: Path) -> None:
    stores = Stores(sqlite_url, tmp_path)
    store = stores()
    made = record(store, 300, note="x" * 400)
    flush(store)
    limit = 100_000
    assert Path(f"{store.database.path}-wal").stat().st_size > limit
    with away(FileLimit(limit)):
        made += record(store, 10)
        until(lambda: "store_unavailable" in stores.troubles.now, "the outage is noticed")
        made += record(store, 10)
        until(lambda: not store.writer.waiting, "everything is in the spool")
    until(lambda: not stores.troubles.now, "the database is noticed again")
    stores.stop()
    assert Content(stores.url).decision_ids() == made
    check_all_there(stores, made, 0)


def test_nothing_that_was_taken_is_lost_when_the_disk_of_the_spool_is_full_too(sqlite_url: str, tmp_path: Path) -> None:
    stores = Stores(sqlite_url, tmp_path)
    store = stores(queue=20)
    made = record(store, 20)
    flush(store)
    refused = 0
    with away(FileLimit(6000)):
        while not refused:
            try:
                made += record(store, 1)
            except BusyError:
                refused += 1
    until(lambda: not stores.troubles.now, "the database is noticed again")
    stores.stop()
    assert Content(stores.url).decision_ids() == made
    check_all_there(stores, made, 0)


def test_connections_that_are_cut_lose_and_double_nothing(
    postgres_url: str, postgres: Postgres, tmp_path: Path
) -> None:
    stores = Stores(postgres_url, tmp_path)
    open_stores = [stores(name="one"), stores(name="two")]
    name = postgres_url.rpartition("/")[2].partition("?")[0]

    def write(store: Store) -> list[str]:
        made: list[str] = []
        for _ in range(80):
            made += record(store, 3)
            store.events.record("RELOAD_FAILED", {})
            sleep(0.01)
        return made

    with ThreadPoolExecutor(2) as pool:
        writing = [pool.submit(write, store) for store in open_stores]
        while not all(work.done() for work in writing):
            postgres.cut(name)
            sleep(0.1)
        made = [identity for work in writing for identity in work.result()]
    for store in open_stores:
        flush(store)
    stores.stop()
    check_all_there(stores, made, 160)


@pytest.fixture
def proxy(postgres_url: str, tmp_path: Path) -> Iterator[Proxy]:
    made = Proxy(postgres_url, tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("cuts", [1, 2, 5])
def test_a_commit_that_nobody_knows_of_doubles_nothing(proxy: Proxy, tmp_path: Path, cuts: int) -> None:
    stores = Stores(proxy.url, tmp_path)
    store = stores()
    made = record(store, 5)
    store.events.record("ENGINE_START", {})
    flush(store)
    cursor = store.events.page().last_event_id
    proxy.cut_after_commits(cuts)
    made += record(store, 5)
    until(lambda: proxy.cuts_left < cuts, "the first commit without an answer")
    made += record(store, 5)
    last = store.events.record("RELOAD_FAILED", {})
    until(lambda: not proxy.cuts_left, "the last commit without an answer")
    flush(store)
    page = store.events.page(since_event_id=cursor)
    assert len(page.events) == 11
    assert page.events[-1] == last
    stores.stop()
    assert Content(stores.url).decision_ids() == made
    check_all_there(stores, made, 2)


def test_a_change_that_nobody_knows_of_can_be_read_once_it_is_there(proxy: Proxy, tmp_path: Path) -> None:
    stores = Stores(proxy.url, tmp_path)
    store = stores()
    made = record(store, 5)
    flush(store)
    cursor = store.events.page().last_event_id
    proxy.cut_after_commits(1)
    with pytest.raises(StoreUnavailableError):
        store.writer.transact(lambda transaction: transaction.event("POLICY_CREATED", {}), 1)
    patiently(lambda: store.writer.transact(lambda transaction: transaction.event("POLICY_DELETED", {}), 1))
    names = [event.event_type for event in store.events.page(since_event_id=cursor).events]
    assert names == ["POLICY_CREATED", "POLICY_DELETED"]
    stores.stop()
    check_all_there(stores, made, 2)


def test_a_commit_that_comes_late_doubles_nothing(proxy: Proxy, tmp_path: Path) -> None:
    stores = Stores(proxy.url, tmp_path)
    store = stores()
    made = record(store, 5)
    flush(store)
    proxy.lose_at_commit()
    made += record(store, 5)
    last = store.events.record("RELOAD_FAILED", {})
    until(
        lambda: proxy.has_late_commit and len(spools(stores)) == 1, "the commit is under way, and nobody waits for it"
    )
    made += record(store, 5)
    until(lambda: "store_unavailable" in stores.troubles.now, "nothing is written before that is over")
    proxy.deliver()
    until(lambda: not stores.troubles.now, "it is over")
    flush(store)
    assert last in store.events.page(since_event_id="").events
    stores.stop()
    assert sorted(Content(stores.url).decision_ids()) == sorted(made)
    check_all_there(stores, made, 1)


@pytest.mark.parametrize("comes_late", [False, True])
def test_whoever_follows_gets_the_event_of_a_change_that_nobody_knows_of(
    proxy: Proxy, tmp_path: Path, *, comes_late: bool
) -> None:
    stores = Stores(proxy.url, tmp_path)
    store = stores()
    cursor = store.events.page(since_event_id="").last_event_id
    followed: list[str] = []

    def follow() -> list[str]:
        nonlocal cursor
        page = store.events.page(since_event_id=cursor)
        assert not page.gap
        cursor = page.last_event_id
        followed.extend(event.event_type for event in page.events)
        return followed

    def change(name: str) -> None:
        store.writer.transact(lambda transaction: transaction.event(name, {}), 1)

    if comes_late:
        proxy.lose_at_commit()
    else:
        proxy.cut_after_commits(1)
    with pytest.raises(StoreUnavailableError):
        change("POLICY_CREATED")
    store.events.record("RELOAD_FAILED", {})
    for _ in range(50):
        follow()
        sleep(0.005)
    proxy.deliver()
    until(lambda: not store.writer._away, "the database is there again")
    patiently(lambda: change("POLICY_DELETED"))
    until(lambda: "POLICY_DELETED" in follow(), "all is followed")
    assert sorted(followed) == ["POLICY_CREATED", "POLICY_DELETED", "RELOAD_FAILED"]
    stores.stop()


@pytest.fixture
def without_standby(postgres: Postgres) -> Iterator[Callable[[], None]]:
    """Lets the server wait, from a call on, for a standby that there is not: commits hang, all else is answered."""

    def configure(*settings: str) -> None:
        for setting in settings:
            postgres.execute(f"ALTER SYSTEM {setting}")
        postgres.execute("SELECT pg_reload_conf()")

    yield lambda: configure("SET synchronous_commit = on", "SET synchronous_standby_names = 'nobody'")
    configure("RESET synchronous_standby_names", "RESET synchronous_commit")


def test_a_commit_that_never_ends_is_an_outage_too(
    postgres_url: str, tmp_path: Path, without_standby: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "_PATIENCE_SECONDS", 0.5)
    stores = Stores(postgres_url, tmp_path)
    store = stores()
    made = record(store, 5)
    flush(store)
    without_standby()
    made += record(store, 5)
    until(lambda: "store_unavailable" in stores.troubles.now, "the outage is noticed")
    made += record(store, 5)
    until(lambda: not store.writer.waiting, "everything is in the spool")
    stores.end(store)
    assert len(spools(stores)) == 1


def test_a_takeover_that_nobody_knows_of_doubles_nothing(
    proxy: Proxy, postgres: Postgres, postgres_url: str, tmp_path: Path
) -> None:
    stores = Stores(postgres_url, tmp_path)
    made, _ = die_with_a_spool(stores, Stopped(postgres))
    other = stores(name="other")
    assert other.writer.number == 1
    late = Stores(proxy.url, tmp_path)
    taking = late(name="late", started=False)
    assert taking.writer.number == 2
    taking.writer._spool.directory = tmp_path / "one" / "spool"
    proxy.cut_after_commits(1)
    taking.writer.adopt_orphans()
    assert len(spools(stores)) == 1
    patiently(taking.writer.adopt_orphans)
    assert spools(stores) == []
    taking.start()
    made += record(taking, 3)
    late.stop()
    stores.stop()
    check_all_there(stores, made, 1)


def test_a_change_is_made_once_a_database_that_was_only_busy_is_free(stores: Stores, outage: Outage) -> None:
    store = stores()
    with away(outage):
        made = record(store, 3)
        until(lambda: store.writer._away, "the database is busy")
    if not isinstance(outage, Locked):
        until(lambda: not store.writer._away, "the server is back")
    store.writer.transact(lambda transaction: transaction.event("POLICY_CREATED", {}), 1)
    flush(store)
    check_all_there(stores, made, 1)


def test_a_replay_that_is_interrupted_loses_nothing_but_what_cannot_be_written(
    stores: Stores, outage: Outage, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = stores()
    with away(outage):
        made = record(store, 12)
        until(lambda: "store_unavailable" in stores.troubles.now and not store.writer.waiting, "all is spooled")
        write, busy = store.writer._ledger.write, [1]

        def poisoned(records: Sequence[Record], *rest: Any) -> Any:
            names = {item.decision_id for record in records if isinstance(record, Decisions) for item in record.items}
            if made[2] in names:
                raise ValueError("it cannot be written")
            if names == {made[3]} and busy[0]:  # when each is tried by itself, behind the poison
                busy[0] -= 1
                raise StoreUnavailableError("busy for a moment")
            return write(records, *rest)

        monkeypatch.setattr(writer, "_CHUNK", 5)
        monkeypatch.setattr(store.writer._ledger, "write", poisoned)
    until(lambda: not stores.troubles.now and spools(stores) == [], "everything was replayed")
    assert busy == [0], "the poison shared its part with others"
    flush(store)
    check_all_there(stores, made[:2] + made[3:], 0)


def test_what_no_text_can_hold_outlasts_an_outage(stores: Stores, outage: Outage) -> None:
    store = stores()
    odd = checked(client_id="half\ud800", note="half\ud800", nested={"number": float("nan")})
    with away(outage):
        store.writer.record_decisions([odd])
        until(lambda: "store_unavailable" in stores.troubles.now and not store.writer.waiting, "all is spooled")
    until(lambda: not stores.troubles.now and spools(stores) == [], "everything was replayed")
    flush(store)
    (shown,) = all_decisions(store)
    assert shown.entry.decision.decision_id == odd.decision.decision_id
    assert shown.entry.context["note"] == "half?"
    assert shown.entry.context["nested"] == {"number": None}
    stores.stop()
    Content(stores.url).check_chains()
