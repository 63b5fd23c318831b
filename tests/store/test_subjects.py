"""Personal data is stored under pseudonyms, and nobody reads it any more when its key is deleted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection
from tests.store.stores import Content, Stores, all_decisions, checked, flush

from policy_engine.store.database import Database
from policy_engine.store.decisions import DecisionQuery
from policy_engine.store.opened import Store
from policy_engine.store.options import DEFAULT_TENANT
from policy_engine.store.subjects import (
    MARK,
    Subject,
    Subjects,
    erase,
    pseudonym_in,
    seal,
    seal_alone,
    subject_name,
    unseal,
)

KEY, OTHER = bytes(range(64)), bytes(64)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def erased(store: Store, name: str) -> str | None:
    """Erase somebody, as the command of another process does."""
    database = Database(store.options.url, busy_seconds=5)
    with database.write() as connection:
        pseudonym = erase(connection, DEFAULT_TENANT, name)
    database.close()
    return pseudonym


def record(store: Store, *clients: str, **context: Any) -> None:
    for client in clients:
        store.writer.record_decisions([checked(client_id=client, client_ip=f"ip-of-{client}", **context)])
    flush(store)


def clients(store: Store) -> list[Any]:
    return [item.entry.context["client_id"] for item in all_decisions(store)][::-1]


@given(value=json_values)
def test_a_sealed_value_is_read_with_its_key_alone(value: Any) -> None:
    token = seal(KEY, value)
    assert token.startswith(MARK)
    assert seal(KEY, value) == token
    assert repr(unseal(KEY, token)) == repr(value)
    assert unseal(OTHER, token) == token


def test_values_that_are_equal_in_python_keep_their_types() -> None:
    for value in (1, True, 1.0, "1", 0, False, 0.0, None, ""):
        assert repr(unseal(KEY, seal(KEY, value))) == repr(value)


@given(text=st.text())
def test_what_is_no_token_stays_as_it_is(text: str) -> None:
    assert unseal(KEY, text) == text
    assert unseal(KEY, MARK + text) == MARK + text


@given(value=json_values)
def test_a_value_that_is_its_own_subject_names_its_key(value: Any) -> None:
    name = subject_name(value)
    subject = Subject(name, KEY, seal(KEY, name))
    token = seal_alone(subject, value)
    assert pseudonym_in(token) == subject.pseudonym
    assert repr(unseal(KEY, token)) == repr(value)


@given(value=st.text(max_size=600) | st.text(alphabet="\ud800\0ab", max_size=5), other=st.text(alphabet="\ud800\0ab"))
def test_a_name_fits_every_database(value: str, other: str) -> None:
    name = subject_name(value)
    assert len(name) <= 256
    assert "\0" not in name
    assert name.encode().decode() == name
    assert (subject_name(other) == name) == (other == value)


def test_the_same_client_has_the_same_pseudonym_everywhere(stores: Stores) -> None:
    one, two = stores(name="one"), stores(name="two")
    for _ in range(3):
        record(one, "alice", "bob")
        record(two, "bob", "alice")
    stored = {entry.client for _, entry in Content(stores.url).entries()}
    assert len(stored) == 2
    assert len(Content(stores.url).all("subject")) == 2
    for store in (one, two):
        assert len(all_decisions(store, DecisionQuery(client="alice"))) == 6


def test_who_is_erased_is_not_shown_and_not_found_any_more(stores: Stores) -> None:
    store = stores()
    record(store, "alice", "bob", "alice")
    pseudonym = erased(store, "alice")
    assert pseudonym is not None
    assert erased(store, "alice") is None
    shown = clients(store)
    assert shown[1] == "bob"
    assert shown[0] == shown[2] == pseudonym
    assert {item.entry.client for item in all_decisions(store)} == {pseudonym, "bob"}
    assert "alice" not in str(all_decisions(store))
    assert all_decisions(store, DecisionQuery(client="alice")) == []
    assert len(all_decisions(store, DecisionQuery(client=pseudonym))) == 2
    assert len(all_decisions(store, DecisionQuery(client="bob"))) == 1


def test_a_running_writer_notices_an_erasure_by_another_process(stores: Stores) -> None:
    store = stores()
    record(store, "alice")
    before = erased(store, "alice")
    store.writer.notice_erasures()
    record(store, "alice")
    (subject,) = Content(stores.url).all("subject")
    assert (subject.name, subject.pseudonym == before) == ("alice", False)
    assert clients(store) == [before, "alice"]
    assert len(all_decisions(store, DecisionQuery(client="alice"))) == 1


def test_personal_data_without_a_client_can_be_erased_too(stores: Stores) -> None:
    store = stores(personal=("client_id", "client_ip", "person.name"))
    store.writer.record_decisions([checked(client_ip="192.0.2.1", person={"name": "Ann"}, other={"name": "kept"})])
    store.writer.record_decisions([checked(client_ip=5, person={"name": ["a", "list"]})])
    flush(store)
    shown = [item.entry.context for item in all_decisions(store)][::-1]
    assert (shown[0]["client_ip"], shown[0]["person"], shown[0]["other"]) == (
        "192.0.2.1",
        {"name": "Ann"},
        {"name": "kept"},
    )
    assert (shown[1]["client_ip"], shown[1]["person"]) == (5, {"name": ["a", "list"]})
    assert erased(store, "Ann") is not None
    shown = [item.entry.context for item in all_decisions(store)][::-1]
    assert shown[0]["client_ip"] == "192.0.2.1"
    assert shown[0]["person"]["name"].startswith(MARK)


@pytest.mark.parametrize("count", [1, 1200])
def test_many_new_clients_at_once(stores: Stores, count: int) -> None:
    store = stores()
    names = [f"client-{number}" for number in range(count)]
    store.writer.record_decisions([checked(client_id=name) for name in names])
    flush(store)
    assert clients(store) == names
    assert len(Content(stores.url).all("subject")) == count


SOUTH = Subject("south", b"k" * 64, "~s")


def test_a_key_that_was_erased_while_it_was_looked_up_is_not_kept() -> None:
    subjects = Subjects(DEFAULT_TENANT)
    subjects.begin(1)
    subjects._fresh["south"] = SOUTH
    subjects.forget_erased(2)  # the follower, before the commit
    subjects.keep()
    assert subjects.lasting == {}
    subjects.begin(2)
    subjects._fresh["south"] = SOUTH
    subjects.keep()
    assert subjects.lasting == {"south": SOUTH}
    subjects.forget_erased(3)
    assert subjects.lasting == {}


def test_a_name_that_was_erased_while_another_process_added_it_gets_a_key(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, subjects = stores(), Subjects(DEFAULT_TENANT)
    add = subjects._add
    calls: list[int] = []

    def lose_once(connection: Connection, new: list[Subject]) -> dict[str, Subject]:
        calls.append(len(new))
        return {} if len(calls) == 1 else add(connection, new)

    monkeypatch.setattr(subjects, "_add", lose_once)
    with store.database.write() as connection:
        subjects.begin(0)
        assert set(subjects.ensure(connection, {"west"})) == {"west"}
    assert calls == [1, 1]
