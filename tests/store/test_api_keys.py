"""API keys in the store, and the ring that knows them: on both databases, in one process or several."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Event
from typing import Any

import pytest
from sqlalchemy import select
from tests.store.stores import Stores, patiently
from tests.store.trail import write_trail

from policy_engine import keyring
from policy_engine.identity.key import make_key, verifies
from policy_engine.keyring import Keyring
from policy_engine.model.errors import BusyError, UnknownKeyError
from policy_engine.store import schema
from policy_engine.store.api_keys import ApiKeys
from policy_engine.store.backup import back_up, restore
from policy_engine.store.opened import Store
from policy_engine.store.options import DEFAULT_TENANT


def keys_of(store: Store) -> ApiKeys:
    return ApiKeys(store.database, DEFAULT_TENANT, store.writer)


def ring(store: Store) -> Keyring:
    return Keyring(keys_of(store))


def create(of: Keyring, *roles: str, **more: Any) -> Any:
    return patiently(partial(of.create, "ann", roles or ("viewer",), author="root", **more))


def events(store: Store) -> list[tuple[str, dict[str, Any]]]:
    shown = store.events.page().events
    return [(event.event_type, event.details) for event in shown if "KEY" in event.event_type]


def test_a_key_is_told_once_and_kept_as_a_hash(stores: Stores) -> None:
    store = stores()
    key, text = create(ring(store), "client", client_id="c", expires_at=time.time() + 60)
    with store.database.read() as connection:
        (row,) = connection.execute(select(schema.api_key)).all()
    assert text not in str(row)
    assert text.split("_", 2)[2] not in str(row)
    assert verifies(row.hash, text)
    assert (row.name, row.client_id, row.author, row.revoked_at) == ("ann", "c", "root", None)
    ((kind, details),) = events(store)
    assert (kind, details["author"], details["key_id"], details["client_id"]) == (
        "KEY_CREATED",
        "root",
        key.key_id,
        "c",
    )
    assert text not in str(details)
    assert row.hash not in str(details)


def test_a_key_is_recognised(stores: Stores) -> None:
    of = ring(stores())
    key, text = create(of, "author", "checker")
    for _ in range(2):
        found = of.identify(text)
        assert found is not None
        assert (found.name, found.roles, found.key_id) == ("ann", ("author", "checker"), key.key_id)
    for wrong in ("", "x", text + "x", text[:-1] + ("a" if text[-1] != "a" else "b"), make_key().text):
        assert of.identify(wrong) is None
        assert of.identify(wrong) is None


def test_a_key_that_was_verified_is_not_verified_again(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    of = ring(stores())
    _, text = create(of)
    wrong = text[:-1] + ("a" if text[-1] != "a" else "b")
    calls = []

    def counted(hashed: str, given: str) -> bool:
        calls.append(given)
        return verifies(hashed, given)

    monkeypatch.setattr(keyring, "verifies", counted)
    for _ in range(5):
        assert of.identify(text)
        assert not of.identify(wrong)
    assert len(calls) == 2


def test_keys_are_verified_one_at_a_time(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    of = ring(stores())
    _, text = create(of)
    inside, go_on = Event(), Event()

    def slowly(hashed: str, given: str) -> bool:
        inside.set()
        assert go_on.wait(30)
        return verifies(hashed, given)

    monkeypatch.setattr(keyring, "verifies", slowly)
    with ThreadPoolExecutor(1) as executor:
        first = executor.submit(of.identify, text)
        assert inside.wait(30)
        with pytest.raises(BusyError):
            of.identify(text[:-1] + "-")
        go_on.set()
        assert first.result() is not None


def test_a_key_expires(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    of = ring(stores())
    _, text = create(of, expires_at=time.time() + 100)
    assert of.identify(text)
    monkeypatch.setattr("policy_engine.keyring.time.time", lambda: 3e9)
    assert of.identify(text) is None


def test_a_revoked_key_is_refused_at_once_and_elsewhere_soon(stores: Stores) -> None:
    here, there = stores(), stores(name="two")
    of, other = ring(here), ring(there)
    key, text = create(of)
    assert other.identify(text) is None
    other.refresh()
    assert other.identify(text)
    patiently(partial(of.revoke, key.key_id, author="root"))
    assert of.identify(text) is None
    other.refresh()
    assert other.identify(text) is None
    again = patiently(partial(other.revoke, key.key_id, author="root"))
    assert again.revoked_at == of.all()[0].revoked_at
    assert [kind for kind, _ in events(here)] == ["KEY_CREATED", "KEY_REVOKED"]


def test_a_key_is_changed(stores: Stores) -> None:
    store = stores()
    of = ring(store)
    key, text = create(of)
    for _ in range(2):
        changed = patiently(partial(of.change, key.key_id, {"roles": ("author",), "name": "bob"}, author="root"))
        assert (changed.roles, changed.name, changed.hash) == (("author",), "bob", key.hash)
    found = of.identify(text)
    assert found is not None
    assert (found.roles, found.name) == (("author",), "bob")
    (_, (kind, details)) = events(store)
    assert kind == "KEY_CHANGED"
    assert (details["before"]["roles"], details["after"]["roles"]) == (["viewer"], ["author"])


def test_what_is_not_there_cannot_be_changed(stores: Stores) -> None:
    of = ring(stores())
    key, _ = create(of)
    patiently(partial(of.revoke, key.key_id, author="root"))
    for call in (
        partial(of.change, "nope", {"name": "x"}, author="root"),
        partial(of.change, key.key_id, {"name": "x"}, author="root"),
        partial(of.revoke, "nope", author="root"),
    ):
        with pytest.raises(UnknownKeyError):
            patiently(call)


def test_only_the_first_start_makes_a_key(stores: Stores) -> None:
    store = stores()
    keys = keys_of(store)
    first = [
        patiently(partial(keys.create_first, made.prefix, made.hash, name="admin", roles=("admin",)))
        for made in (make_key(), make_key())
    ]
    assert first[0] is not None
    assert first[1] is None
    patiently(partial(keys.revoke, first[0].key_id, author="root"))
    made = make_key()
    assert patiently(partial(keys.create_first, made.prefix, made.hash, name="admin", roles=("admin",))) is None
    assert events(store)[0][0] == "ADMIN_KEY_CREATED"


def test_when_keys_were_used_is_written(stores: Stores) -> None:
    of = ring(stores())
    _, text = create(of)
    assert of.all()[0].last_used_at is None
    before = time.time()
    of.identify(text)
    of.note_uses()
    seen = of.all()[0].last_used_at
    assert seen is not None
    assert before <= seen <= time.time()


def test_roles_that_nobody_knows_allow_nothing(stores: Stores) -> None:
    of = ring(stores())
    _, text = create(of, "viewer", "owner")
    found = of.identify(text)
    assert found is not None
    assert found.roles == ("viewer",)


def test_a_restore_brings_keys_back_but_for_those_that_were_revoked(stores: Stores) -> None:
    write_trail(stores)
    store = stores()
    of = ring(store)
    kept, revoked = create(of), create(of)
    file = stores.directory / "backup"
    back_up(store.database, file, lambda _done, _total: None)
    patiently(partial(of.revoke, revoked[0].key_id, author="root"))
    later = create(of)
    again = partial(restore, author="root", replace=False, progress=lambda _done, _total: None)
    patiently(lambda: again(store.database, DEFAULT_TENANT, file, store.keys))
    of.refresh()
    assert of.identify(kept[1])
    assert of.identify(revoked[1]) is None
    assert of.identify(later[1]) is None
