"""Decisions are sealed by whoever checks or by the writer: to the same bytes, with keys that are there."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import OperationalError
from tests.store.stores import Content, Stores, all_decisions, checked, flush, ids_of, until

from policy_engine.store import subjects as subjects_module
from policy_engine.store.batch import Batch
from policy_engine.store.change import Transaction
from policy_engine.store.decisions import DecisionQuery
from policy_engine.store.draft import encode_decision
from policy_engine.store.encode import Decisions, Queued, decode_entries, decode_records, encode_record, row_ahead
from policy_engine.store.encoder import Encoder
from policy_engine.store.item import Pending, Sealed, Unsealed, entry_terms
from policy_engine.store.position import step
from policy_engine.store.redact import Redactor
from policy_engine.store.sealer import Sealer
from policy_engine.store.subjects import Subject, erase, seal, subject_name, unseal

PERSONAL = ("client_id", "client_ip", "person.name")
SEALER = Sealer(Redactor(("hidden.deep",), PERSONAL))
ENCODER = Encoder(SEALER)
CHECKED = checked()
ENCODED = encode_decision(CHECKED.decision, None)
NOBODY: dict[str, Subject] = {}

values = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
keys = st.sampled_from(["client_id", "client_ip", "person", "password", "hidden", "src_type", "component", "note"])
contexts = st.dictionaries(
    keys,
    st.recursive(
        values | st.text(alphabet="\ud800a", min_size=1) | st.sampled_from(["~", "~x.y", "***"]),
        lambda inner: (
            st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["name", "deep", "password"]), inner)
        ),
        max_leaves=4,
    ),
)


class Subjects(dict[str, Subject]):
    """The keys of everybody who was asked for."""

    def __init__(self, salt: str = "-") -> None:
        super().__init__()
        self.salt = salt
        self.asked: list[set[str]] = []

    def __call__(self, names: set[str]) -> Mapping[str, Subject]:
        self.asked.append(set(names))
        for name in names - self.keys():
            key = f"{self.salt}{name}".encode().ljust(64, b"-")[:64]
            self[name] = Subject(name, key, seal(key, name))
        return self


def taken(context: dict[str, Any], subjects: Mapping[str, Subject] = NOBODY) -> Pending:
    return SEALER.take(CHECKED._replace(context=context), ENCODED, "127.0.0.1", 1, subjects)


def queued(*pending: Pending) -> Queued:
    return Queued([step(1 << 50, number) for number in range(1, len(pending) + 1)], list(pending))


@settings(max_examples=300, deadline=None)
@given(context=contexts)
def test_whoever_checks_seals_as_the_writer_does(context: dict[str, Any]) -> None:
    subjects = Subjects()
    before = json.dumps(context)
    late = taken(context)
    (sealed,) = SEALER.seal([late], subjects, subjects)
    early = taken(context, subjects)
    assert json.dumps(context) == before
    assert isinstance(early, Sealed)
    assert isinstance(late, Sealed) == (not subjects)
    assert (early.body, early.terms) == (sealed.body, sealed.terms)
    row = next(ENCODER.rows([queued(early)], subjects, subjects))
    ((_, entry),) = decode_entries(row.position, row.body)
    assert row.terms == set(entry_terms(entry))


@settings(max_examples=300, deadline=None)
@given(context=contexts)
def test_what_was_sealed_with_keys_that_are_gone_is_sealed_again(context: dict[str, Any]) -> None:
    old, new = Subjects("old"), Subjects("new")
    SEALER.seal([taken(context)], old, old)
    stale, fresh = taken(context, old), taken(context)
    again, wanted = SEALER.seal([stale, fresh], new, new)
    assert (again.body, again.terms) == (wanted.body, wanted.terms)
    assert old.keys() == new.keys()
    assert not any(subject.pseudonym in str(again.body) for subject in old.values())


@pytest.mark.parametrize("personal", [{"password": "pass-secret"}, [{"password": "pass-secret"}]])
def test_no_secret_is_sealed_within_personal_data(personal: Any) -> None:
    subjects = Subjects()
    subjects({"alice"})
    sealed = taken({"client_id": "alice", "client_ip": personal}, subjects)
    assert isinstance(sealed, Sealed)
    shown = json.loads(sealed.body)["context"]["client_ip"]
    assert "pass-secret" not in str(unseal(subjects["alice"].key, shown))


@pytest.mark.parametrize("paths", [("person.a", "person.a.b"), ("person.a.b", "person.a")])
@pytest.mark.parametrize("client", [None, "alice"])
def test_what_is_within_personal_data_is_sealed_with_it(paths: tuple[str, ...], client: str | None) -> None:
    sealer, old, new = Sealer(Redactor((), paths)), Subjects("old"), Subjects("new")
    item = CHECKED._replace(context={"client_id": client, "person": {"a": {"b": "secret-name"}}})
    late = sealer.take(item, ENCODED, None, 1, NOBODY)
    (sealed,) = sealer.seal([late], NOBODY, old)
    stale = sealer.take(item, ENCODED, None, 1, old)
    again, wanted = sealer.seal([stale, late], new, new)
    assert b"secret-name" not in sealed.body
    assert again.body == wanted.body


def test_keys_are_asked_for_once_however_many_rows_there_are() -> None:
    subjects = Subjects()
    many = queued(*(taken({"client_id": f"c{number}"}) for number in range(300)))
    rows = list(ENCODER.rows([many], subjects, subjects))
    assert [row.count for row in rows] == [128, 128, 44]
    assert subjects.asked == [{f"c{number}" for number in range(300)}]


def test_a_row_does_not_become_long_by_sealing() -> None:
    many = queued(*(taken({"person": {"name": "\u00e9" * 3000}}) for _ in range(128)))
    rows = list(ENCODER.rows([many], NOBODY, Subjects()))
    assert max(len(zlib.decompress(row.body)) for row in rows) < 1.2 * (1 << 18)


def test_what_is_long_is_copied_once(monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[int] = []
    body = Sealed.body.fget  # type: ignore[attr-defined]

    def counted(sealed: Sealed) -> bytes:
        found: bytes = body(sealed)
        copied.append(len(found))
        return found

    many = queued(*(taken({"note": "x" * 300_000}) for _ in range(128)))
    monkeypatch.setattr(Sealed, "body", property(counted))
    assert len(list(ENCODER.rows([many], NOBODY, Subjects()))) == 128
    assert len(copied) == 128
    assert row_ahead(many.positions, many.decisions) is None
    assert len(copied) == 129


def test_of_a_long_component_the_beginning_is_kept() -> None:
    (row,) = ENCODER.rows([queued(taken({"component": "x" * 10_000}))], NOBODY, Subjects())
    ((_, entry),) = decode_entries(row.position, row.body)
    assert entry.component == "x" * 128


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), 5])
@pytest.mark.parametrize("known", [False, True])
def test_what_was_spooled_is_logged_as_what_was_not(odd: float, *, known: bool) -> None:
    context = {"client_id": odd, "client_ip": odd, "password": "\ud800", "person": {"name": "\ud800"}}
    subjects = Subjects()
    subjects({subject_name(odd)})
    waiting = queued(taken(context, subjects if known else NOBODY))
    spooled = [encode_record(record) for record in ENCODER.to_spool(waiting, NOBODY)]
    again = [record for record in decode_records(spooled) if isinstance(record, Decisions)]
    assert list(ENCODER.rows(again, subjects, subjects)) == list(ENCODER.rows([waiting], subjects, subjects))


def test_no_secret_waits_and_no_name_is_spooled_whose_key_is_known() -> None:
    context = {"client_id": "alice-name", "password": "pass-secret", "hidden": {"deep": "deep-secret"}}
    waiting = taken(context)
    assert isinstance(waiting, Unsealed)
    subjects = Subjects()
    subjects({"alice-name"})
    (record,) = ENCODER.to_spool(queued(waiting), subjects)
    for secret in (b"pass-secret", b"deep-secret"):
        assert secret not in waiting.context
    for secret in (b"alice-name", b"pass-secret", b"deep-secret"):
        assert secret not in encode_record(record)


# In a store


def pending_in(store: Any) -> list[Pending]:
    """Return what waits in the queue."""
    return [each for part in store.writer._intake._decisions for each in part.decisions]


def test_what_was_sealed_ahead_is_stored_found_and_erased_like_anything(stores: Stores) -> None:
    store = stores(masked=("note.inner",))
    for number in range(50):
        store.writer.record_decisions([checked(client_id=f"c{number}")])
    flush(store)
    stores.stop()
    store = stores(masked=("note.inner",), started=False)
    made = [
        checked(client_id=f"c{number % 50}", api_token="private", note={"inner": "hidden", "outer": number})  # noqa: S106 - it is none
        for number in range(300)
    ]
    store.start()
    for item in made:
        store.writer.record_decisions([item], "10.0.0.1")
        store.events.record("POLICY_UPDATED", {})
    flush(store)
    shown = all_decisions(store)[: len(made)][::-1]
    assert [item.entry.decision.decision_id for item in shown] == ids_of(made)
    assert [item.entry.context["client_id"] for item in shown] == [item.context["client_id"] for item in made]
    assert {json.dumps(item.entry.context["api_token"]) for item in shown} == {'"***"'}
    assert {item.entry.source for item in shown} == {"10.0.0.1"}
    assert len(Content(stores.url).decision_ids()) == 50 + len(made)
    text = str(Content(stores.url).entries())
    for gone in ("private", "hidden", '"c1"', "'c1'"):
        assert gone not in text
    stores.stop()
    Content(stores.url).check_chains()


@pytest.fixture
def holding(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return what lets no transaction be committed, and what lets them be again."""
    write = Batch.write
    state = {"fails": False, "failed": 0}

    def fails(batch: Batch) -> None:
        if state["fails"] and batch._rows["decision"]:
            state["failed"] += 1
            raise OperationalError("x", None, Exception("disk I/O error"))
        write(batch)

    monkeypatch.setattr(Batch, "write", fails)

    def hold(*, on: bool) -> None:
        state["fails"] = on
        if on:
            state["failed"] = 0
        else:
            assert state["failed"]

    return hold


def test_keys_of_a_transaction_that_was_undone_are_not_used(stores: Stores, holding: Callable[..., None]) -> None:
    store = stores(started=False)
    holding(on=True)
    store.writer.record_decisions([checked(client_id="alice")])
    store.writer._turn()
    store.writer.record_decisions([checked(client_id="alice")])
    assert [type(each) for each in pending_in(store)] == [Unsealed]
    holding(on=False)
    store.start()
    flush(store)
    for _ in range(3):
        store.writer.record_decisions([checked(client_id="alice")], sync=True)
    assert len(all_decisions(store, DecisionQuery(client="alice"))) == 5
    assert {item.entry.context["client_id"] for item in all_decisions(store)} == {"alice"}


@pytest.mark.parametrize("how", ["at once", "noticed", "one by one", "spooled"])
def test_what_waits_when_a_client_is_erased_elsewhere_is_found_by_its_new_key(
    stores: Stores, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    store, other = stores(started=False), stores()
    store.writer.record_decisions([checked(client_id="alice")])
    store.writer._turn()
    store.writer.record_decisions([checked(client_id="alice")])
    assert [type(each) for each in pending_in(store)] == [Sealed]

    def forget(transaction: Transaction) -> str | None:
        return erase(transaction.connection, "default", "alice")

    assert other.writer.transact(forget) is not None
    if how in {"noticed", "spooled"}:
        store.writer.notice_erasures()
    write, failing = Batch.write, [how == "one by one", how == "spooled"]

    def fails(batch: Batch) -> None:
        if failing[0] and batch._rows["decision"]:
            failing[0] = False
            raise ValueError("a fault of ours")
        if failing[1] and batch._rows["decision"]:
            failing[1] = False
            raise OperationalError("x", None, Exception("disk I/O error"))
        write(batch)

    monkeypatch.setattr(Batch, "write", fails)
    store.start()
    flush(store)
    shown = all_decisions(store)
    assert [item.entry.context["client_id"] == "alice" for item in shown] == [True, False]
    assert len(all_decisions(store, DecisionQuery(client="alice"))) == 1


def test_more_clients_than_are_remembered_are_logged_as_few_are(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subjects_module, "_MAX_REMEMBERED", 5)
    store = stores()
    made = [checked(client_id=f"c{number % 12}", client_ip=f"10.0.0.{number}") for number in range(600)]
    for number, item in enumerate(made):
        store.writer.record_decisions([item], sync=not number % 50)
    flush(store)
    shown = all_decisions(store)[::-1]
    assert [item.entry.context for item in shown] == [item.context for item in made]
    until(lambda: len(all_decisions(store, DecisionQuery(client="c3"))) == 50, "all of a client are found")
