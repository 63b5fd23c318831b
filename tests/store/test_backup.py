"""Backups and restores, on both databases, beside stores that go on writing."""

from __future__ import annotations

import stat
from functools import partial
from pathlib import Path
from threading import Event, Thread

import pytest
from sqlalchemy import insert
from tests.service.running import eventually
from tests.store.stores import Content, Stores, all_decisions, checked, flush, ids_of, patiently
from tests.store.trail import changed, record_some, verified, write_trail

from policy_engine.activation import Activation, Cause
from policy_engine.language.document import read_document
from policy_engine.model.errors import BusyError, StateError
from policy_engine.pap import PolicyAdministration
from policy_engine.pdp import PolicyEngine
from policy_engine.policy_file import NoFile
from policy_engine.store import schema
from policy_engine.store.backup import back_up, restore
from policy_engine.store.database import Database
from policy_engine.store.keys import KeyDirectory
from policy_engine.store.opened import Store
from policy_engine.store.options import DEFAULT_TENANT
from policy_engine.store.subjects import erase
from policy_engine.troubles import Troubles

POLICY = {"type": "network_security", "rules": [{"action": "allow", "match": {"protocol": "tcp"}}]}


@pytest.fixture
def keys(tmp_path: Path) -> KeyDirectory:
    return KeyDirectory(tmp_path / "keys")


def backed_up(url: str, target: Path) -> Path:
    database = Database(url)
    try:
        steps: list[tuple[int, int]] = []
        back_up(database, target, lambda done, total: steps.append((done, total)))
        assert steps[-1][0] == steps[-1][1] > 0
    finally:
        database.close()
    return target


def restored(url: str, source: Path, keys: KeyDirectory, *, replace: bool = False) -> tuple[int, int]:
    database = Database(url, busy_seconds=20)
    try:
        done: tuple[int, int] = patiently(
            lambda: restore(
                database,
                DEFAULT_TENANT,
                source,
                keys,
                author="somebody",
                replace=replace,
                progress=lambda _done, _total: None,
            )
        )
        return done
    finally:
        database.close()


def administration(store: Store) -> PolicyAdministration:
    empty = read_document({"policies": {}}).policy_set
    activation = Activation(store.revisions, PolicyEngine(empty, version=0), Troubles())
    if store.revisions.head() is not None:
        activation.load()
    return PolicyAdministration(activation, NoFile())


def test_a_backup_holds_everything_and_its_owner_alone_reads_it(
    stores: Stores, tmp_path: Path, keys: KeyDirectory
) -> None:
    write_trail(stores)
    stores.stop()
    file = backed_up(stores.url, tmp_path / "backup.db")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.glob(".backup*")] == []
    there, here = Content(f"sqlite:///{file}"), Content(stores.url)
    for name in schema.metadata.tables:
        assert sorted(map(repr, map(tuple, there.all(name)))) == sorted(map(repr, map(tuple, here.all(name)))), name
    assert verified(f"sqlite:///{file}", keys).ok


def test_a_backup_while_others_write_is_of_one_moment(stores: Stores, tmp_path: Path, keys: KeyDirectory) -> None:
    store, enough = stores(), Event()

    def write() -> None:
        number = 0
        while not enough.wait(0.001):
            number += 1
            try:
                store.writer.record_decisions([checked(client_id=f"client-{number % 7}")])
            except BusyError:
                continue

    thread = Thread(target=write)
    thread.start()
    try:
        files = [backed_up(stores.url, tmp_path / f"backup-{number}.db") for number in range(4)]
    finally:
        enough.set()
        thread.join()
    for file in files:
        Content(f"sqlite:///{file}").check_chains()
        assert verified(f"sqlite:///{file}", keys).faults == []


def test_a_restore_brings_everything_back_beside_a_running_store(
    stores: Stores, tmp_path: Path, keys: KeyDirectory
) -> None:
    store = stores()
    pap = administration(store)
    pap.create({"id": "kept", **POLICY})
    before = [checked(client_id="north") for _ in range(5)]
    store.writer.record_decisions(before)
    flush(store)
    file = backed_up(stores.url, tmp_path / "backup.db")
    pap.delete("kept")
    pap.create({"id": "later", **POLICY})
    store.writer.record_decisions([checked(client_id="south")])
    flush(store)
    number, old = restored(stores.url, file, keys)
    assert number > pap._activation.revision.version > old
    assert pap._activation.catch_up()
    assert set(pap.policies) == {"kept"}
    assert store.revisions.get(number).source == "restore"
    after = [checked(client_id="east") for _ in range(3)]
    store.writer.record_decisions(after)
    eventually(
        lambda: (
            sorted(item.entry.decision.decision_id for item in all_decisions(store)) == sorted(ids_of(before + after))
        ),
        "what was there and what came since is there, and nothing else",
    )
    told = [event.details for event in store.events.page(event_types=["STORE_RESTORED"]).events]
    assert [(item["author"], item["policy_version"], item["backed_up_version"]) for item in told] == [
        ("somebody", number, old)
    ]
    patiently(lambda: pap.create({"id": "last", **POLICY}))
    stores.stop()
    assert verified(stores.url, keys).faults == []


def test_numbers_go_on_rising_after_a_restore(stores: Stores, tmp_path: Path, keys: KeyDirectory) -> None:
    store = stores()
    pap = administration(store)
    pap.create({"id": "one", **POLICY})
    file = backed_up(stores.url, tmp_path / "backup.db")
    numbers = [pap._activation.revision.version]
    for _ in range(3):
        number, _old = restored(stores.url, file, keys)
        pap._activation.catch_up()
        numbers.append(number)
        wanted = {**POLICY, "description": str(number)}
        patiently(partial(pap.replace, "one", wanted))
        numbers.append(pap._activation.revision.version)
    assert numbers == sorted(set(numbers))


def test_who_was_erased_stays_erased(stores: Stores, tmp_path: Path, keys: KeyDirectory) -> None:
    store = stores()
    administration(store).create({"id": "one", **POLICY})
    store.writer.record_decisions([checked(client_id="north"), checked(client_id="south")])
    flush(store)
    file = backed_up(stores.url, tmp_path / "backup.db")
    assert patiently(lambda: store.writer.transact(lambda change: erase(change.connection, DEFAULT_TENANT, "north")))
    for _ in range(2):
        restored(stores.url, file, keys)
        assert [row.name for row in Content(stores.url).all("subject")] == ["south"]
    shown = {item.entry.client for item in all_decisions(store)}
    assert "south" in shown
    assert "north" not in shown


def test_a_backup_goes_into_an_empty_database_of_either_kind(
    stores: Stores, tmp_path: Path, keys: KeyDirectory
) -> None:
    store = stores()
    administration(store).create({"id": "one", **POLICY})
    record_some(store, 3)
    stores.stop()
    file = backed_up(stores.url, tmp_path / "backup.db")
    url = f"sqlite:///{tmp_path}/elsewhere/new.db"
    restored(url, file, keys)
    assert verified(url, keys).faults == []
    other = Stores(url, tmp_path)
    opened = other(name="two")
    assert set(administration(opened).policies) == {"one"}
    assert opened.store_id == store.store_id
    other.stop()


def test_the_backup_of_another_store_is_refused_unless_that_is_meant(
    stores: Stores, tmp_path: Path, keys: KeyDirectory
) -> None:
    administration(stores()).create({"id": "here", **POLICY})
    other = Stores(f"sqlite:///{tmp_path}/other.db", tmp_path)
    administration(other()).create({"id": "there", **POLICY})
    other.stop()
    stores.stop()
    file = backed_up(other.url, tmp_path / "backup.db")
    before = Content(stores.url).all("part")
    with pytest.raises(StateError, match="a backup of another store"):
        restored(stores.url, file, keys)
    assert Content(stores.url).all("part") == before
    restored(stores.url, file, keys, replace=True)
    assert set(administration(stores()).policies) == {"there"}


@pytest.mark.parametrize("content", [b"", b"something else" * 500, None])
def test_what_is_no_backup_changes_nothing(
    stores: Stores, tmp_path: Path, keys: KeyDirectory, content: bytes | None
) -> None:
    write_trail(stores)
    stores.stop()
    file = tmp_path / "backup.db"
    if content is not None:
        file.write_bytes(content)
    before = {name: Content(stores.url).all(name) for name in schema.metadata.tables}
    with pytest.raises(StateError, match="backup"):
        restored(stores.url, file, keys)
    assert {name: Content(stores.url).all(name) for name in schema.metadata.tables} == before


def test_a_copy_of_a_database_in_use_is_no_backup(stores: Stores, tmp_path: Path, keys: KeyDirectory) -> None:
    store = stores()
    administration(store).create({"id": "one", **POLICY})
    database = Database(f"sqlite:///{tmp_path}/copy.db")
    with database.write() as connection:
        connection.exec_driver_sql("CREATE TABLE something (x INTEGER)")
    with pytest.raises(StateError, match="is a copy of a database, not a backup"):
        restored(stores.url, tmp_path / "copy.db", keys)
    database.close()
    assert set(administration(store).policies) == {"one"}


def test_another_store_does_not_take_the_place_of_one_in_use(
    stores: Stores, tmp_path: Path, keys: KeyDirectory
) -> None:
    administration(stores()).create({"id": "here", **POLICY})
    other = Stores(f"sqlite:///{tmp_path}/other.db", tmp_path)
    administration(other()).create({"id": "there", **POLICY})
    other.stop()
    file = backed_up(other.url, tmp_path / "backup.db")
    with pytest.raises(StateError, match="a service uses the store"):
        restored(stores.url, file, keys, replace=True)
    stores.stop()
    restored(stores.url, file, keys, replace=True)


def test_a_restore_that_fails_half_way_changes_nothing(stores: Stores, tmp_path: Path, keys: KeyDirectory) -> None:
    write_trail(stores)
    stores.stop()
    file = backed_up(stores.url, tmp_path / "backup.db")
    before = {name: Content(stores.url).all(name) for name in schema.metadata.tables}
    with changed(f"sqlite:///{file}") as connection:
        connection.exec_driver_sql("DROP TABLE writer")
        connection.exec_driver_sql("CREATE TABLE writer (tenant TEXT, number INTEGER, name TEXT, since TEXT)")
        values = {"tenant": DEFAULT_TENANT, "number": 1, "name": None, "since": 0}
        connection.execute(insert(schema.writer).values(**values))
    with pytest.raises(StateError):
        restored(stores.url, file, keys)
    assert {name: Content(stores.url).all(name) for name in schema.metadata.tables} == before


def test_a_backup_that_cannot_be_written_leaves_no_file(stores: Stores, tmp_path: Path) -> None:
    write_trail(stores)
    stores.stop()
    with pytest.raises(StateError, match="cannot write"):
        backed_up(stores.url, tmp_path / "nowhere" / "backup.db")
    assert not (tmp_path / "nowhere").exists()


def test_a_cause_names_who_imports(stores: Stores) -> None:
    store = stores()
    pap = administration(store)
    pap.create({"id": "one", **POLICY}, cause=Cause(author="ada", reason="first", source="import"))
    revision = store.revisions.newest()[0]
    assert (revision.author, revision.reason, revision.source) == ("ada", "first", "import")


def test_a_running_service_forgets_keys_that_a_restore_took_away(
    stores: Stores, tmp_path: Path, keys: KeyDirectory
) -> None:
    store = stores()
    administration(store).create({"id": "one", **POLICY})
    file = backed_up(stores.url, tmp_path / "backup.db")
    store.writer.record_decisions([checked(client_id="old")], sync=True)
    with changed(stores.url) as connection:
        assert erase(connection, DEFAULT_TENANT, "old")
    store.writer.record_decisions([checked(client_id="new")], sync=True)
    patiently(lambda: restored(stores.url, file, keys))
    store.writer.notice_erasures()
    patiently(lambda: store.writer.record_decisions([checked(client_id="new")], sync=True))
    flush(store)
    assert [item.entry.client for item in all_decisions(store)] == ["new"], "under a key that is in the store"
