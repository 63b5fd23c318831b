"""The decision log answers as a scan over all of it would, behind cursors that stay put."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Iterator
from itertools import count
from random import Random
from typing import Any, TypeAlias

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.store.stores import Content, Stores, all_decisions, checked, flush, ids_of

from policy_engine.model.errors import UnknownDecisionError
from policy_engine.model.record import Checked, LogEntry
from policy_engine.store import decisions
from policy_engine.store.batch import BLOCK_ITEMS
from policy_engine.store.decisions import MAX_PAGE, DecisionQuery
from policy_engine.store.opened import Store
from policy_engine.store.position import microseconds_of
from policy_engine.store.terms import term

TYPES = ("network_security", "fl_client_training")
NOBODY = "01a20dbe-ad20-70e1-a641-6218149f686f"
CLIENTS = ("alice", "bob", "carol")


def some(choose: Random, **context: Any) -> Checked:
    given: dict[str, Any] = {"dst_port": choose.choice((22, 80, 443)), **context}
    if choose.random() < 0.8:
        given["client_id"] = choose.choice(CLIENTS)
    if choose.random() < 0.3:
        given["component"] = choose.choice(("switch", "collector"))
    if choose.random() < 0.1:
        given["operation"] = "cheat"
    return checked(choose.choice(TYPES), **given)


def fill(stores: list[Store], choose: Random, calls: int) -> None:
    for _ in range(calls):
        size = choose.choice((1, 1, 1, 1, 2, 30, 5))
        choose.choice(stores).writer.record_decisions([some(choose) for _ in range(size)])
    for store in stores:
        flush(store)


def matches(query: DecisionQuery, position: int, entry: LogEntry, client: str | None) -> bool:
    decision, moment = entry.decision, microseconds_of(position)
    return (
        (query.start is None or moment >= query.start)
        and (query.end is None or moment < query.end)
        and query.policy_type in (None, decision.policy_type)
        and query.component in (None, entry.component)
        and query.client in (None, client)
        and query.allowed in (None, decision.allowed)
        and query.policy_id in (None, decision.policy_id)
    )


Log: TypeAlias = list[tuple[int, LogEntry, str | None]]


def read_all(stores: Stores) -> Log:
    """Return the whole log, newest first, with the names of the clients."""
    content = Content(stores.url)
    names = {row.pseudonym: row.name for row in content.all("subject")}
    entries = sorted(content.entries(), key=lambda item: item[0], reverse=True)
    return [(position, entry, names.get(entry.client or "")) for position, entry in entries]


def expected(log: Log, query: DecisionQuery) -> list[str]:
    """Return what a query must find, newest first: by looking at everything."""
    return [entry.decision.decision_id for position, entry, client in log if matches(query, position, entry, client)]


def found(store: Store, query: DecisionQuery, limit: int) -> list[str]:
    return [item.entry.decision.decision_id for item in all_decisions(store, query, limit=limit)]


def some_query(choose: Random, moments: list[int]) -> DecisionQuery:
    given: dict[str, Any] = {
        "policy_type": choose.choice((*TYPES, "other")),
        "component": choose.choice(("switch", "collector", "fl-client", "other")),
        "client": choose.choice((*CLIENTS, "nobody")),
        "allowed": choose.choice((True, False)),
        "policy_id": choose.choice(("web", "train", "other")),
        "start": choose.choice(moments) + choose.choice((0, 1)),
        "end": choose.choice(moments) + choose.choice((0, 1)),
    }
    return DecisionQuery(**{name: given[name] for name in given if choose.random() < 0.3})


@pytest.mark.parametrize("scan_seconds", [decisions.SCAN_SECONDS, -1])
def test_every_query_finds_what_a_scan_would(
    stores: Stores, scan_seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decisions, "SCAN_SECONDS", scan_seconds)
    choose = Random(scan_seconds)
    opened = [stores(name="one"), stores(name="two")]
    fill(opened, choose, 50)
    opened[0].writer.record_decisions([some(choose) for _ in range(1030)])
    opened[1].writer.record_decisions([some(choose) for _ in range(300)])
    fill(opened, choose, 20)
    log = read_all(stores)
    moments = [microseconds_of(position) for position, _, _ in log]
    queries = [DecisionQuery(), *(some_query(choose, moments) for _ in range(30))]
    for query in queries:
        limit = choose.choice((100, 300, MAX_PAGE))
        assert found(choose.choice(opened), query, limit) == expected(log, query), query


def test_the_smallest_page_and_a_huge_one(stores: Stores) -> None:
    choose = Random(3)
    store = stores()
    fill([store], choose, 15)
    for query in (DecisionQuery(), DecisionQuery(client="alice", allowed=True), DecisionQuery(component="switch")):
        wanted = expected(read_all(stores), query)
        assert found(store, query, 1) == wanted
        assert len(store.decisions.page(query, limit=10**30).decisions) == min(len(wanted), MAX_PAGE)
        assert len(store.decisions.page(query, limit=0).decisions) == min(len(wanted), 1)


def test_rows_of_many_that_do_not_match_hide_none_that_does(stores: Stores) -> None:
    store = stores()
    wanted = checked(client_id="alice")
    store.writer.record_decisions([wanted])
    for _ in range(10):
        store.writer.record_decisions([checked(client_id="bob"), checked(client_id="carol")])
    flush(store)
    assert found(store, DecisionQuery(client="alice"), 1) == ids_of([wanted])


def test_a_page_may_end_within_the_first_row_of_many(stores: Stores) -> None:
    store = stores()
    made = [checked(dst_port=number) for number in range(50)]
    store.writer.record_decisions(made)
    flush(store)
    assert found(store, DecisionQuery(), 7) == ids_of(made)[::-1]


def test_a_cursor_sees_what_was_there_when_the_first_page_was_asked_for(stores: Stores) -> None:
    choose = Random(4)
    opened = [stores(name="one"), stores(name="two")]
    fill(opened, choose, 60)
    for query in (DecisionQuery(), DecisionQuery(client="bob"), DecisionQuery(allowed=False)):
        wanted = expected(read_all(stores), query)
        seen: list[str] = []
        cursor = None
        while True:
            page = choose.choice(opened).decisions.page(query, limit=20, cursor=cursor)
            seen += [item.entry.decision.decision_id for item in page.decisions]
            cursor = page.next_cursor
            if cursor is None:
                break
            fill(opened, choose, 2)
        assert seen == wanted


def test_a_cursor_outlives_a_restart(stores: Stores) -> None:
    store = stores()
    fill([store], Random(5), 40)
    wanted = expected(read_all(stores), DecisionQuery())
    page = store.decisions.page(DecisionQuery(), limit=10)
    stores.end(store)
    again = stores(name="again")
    fill([again], Random(6), 10)
    seen = [item.entry.decision.decision_id for item in page.decisions]
    while page.next_cursor is not None:
        page = again.decisions.page(DecisionQuery(), limit=10, cursor=page.next_cursor)
        seen += [item.entry.decision.decision_id for item in page.decisions]
    assert seen == wanted


def test_many_more_rows_than_one_block_of_the_index_holds(stores: Stores) -> None:
    store = stores()
    rare = 1234
    for number in range(2500):
        store.writer.record_decisions([checked(client_id="rare" if number == rare else f"c{number % 7}")])
    flush(store)
    blocks = [row._mapping["count"] for row in Content(stores.url).all("block")]
    assert sum(blocks) == 2500
    assert len(blocks) == 3
    assert all(count >= BLOCK_ITEMS for count in sorted(blocks)[1:])
    assert len(all_decisions(store, DecisionQuery(client="rare"))) == 1
    assert found(store, DecisionQuery(client="c3"), 100) == expected(read_all(stores), DecisionQuery(client="c3"))


def collide(kind: str) -> tuple[str, str]:
    """Return two values with the same term."""
    seen: dict[int, str] = {}
    for number in count():
        value = f"v{number}"
        before = seen.setdefault(term.__wrapped__(kind, value), value)
        if before != value:
            return before, value
    raise AssertionError


def test_values_that_share_a_term_are_told_apart(stores: Stores) -> None:
    store = stores()
    one, other = collide("component")
    assert term("component", one) == term("component", other)
    for number in range(30):
        store.writer.record_decisions([checked(component=other if number % 10 else one)])
    store.writer.record_decisions([checked(component=other), checked(component=one)])
    flush(store)
    for name, times in ((one, 4), (other, 28)):
        query = DecisionQuery(component=name)
        assert found(store, query, 1) == expected(read_all(stores), query)
        assert len(found(store, query, 100)) == times


def test_one_decision_by_its_id(stores: Stores) -> None:
    choose = Random(7)
    opened = [stores(name="one"), stores(name="two")]
    made = [some(choose, password="secret") for _ in range(40)]  # noqa: S106
    for number, item in enumerate(made[:20]):
        opened[number % 2].writer.record_decisions([item])
    opened[0].writer.record_decisions(made[20:])
    for store in opened:
        flush(store)
    for item in made:
        shown = choose.choice(opened).decisions.get(item.decision.decision_id)
        assert shown.entry.decision == item.decision
        assert shown.entry.context == {**item.context, "password": "***"}
        assert shown.entry.client == item.context.get("client_id")
    events = {event.details["decision_id"]: event.event_id for event in opened[0].events.page(since_event_id="").events}
    assert opened[1].decisions.get(made[25].decision.decision_id).event_id == events[made[25].decision.decision_id]
    assert opened[1].decisions.get(made[0].decision.decision_id.upper()).entry.decision == made[0].decision


@pytest.mark.parametrize("identity", ["", "x", "0" * 32, "f" * 32, NOBODY, "\ud800", "{" + NOBODY + "}", "\u0661" * 32])
def test_an_id_that_nobody_has(stores: Stores, identity: str) -> None:
    store = stores()
    store.writer.record_decisions([checked()], sync=True)
    with pytest.raises(UnknownDecisionError):
        store.decisions.get(identity)


def test_the_cursor_of_another_store_is_refused(stores: Stores, tmp_path: Any) -> None:
    store = stores()
    fill([store], Random(8), 30)
    cursor = store.decisions.page(DecisionQuery(), limit=5).next_cursor
    elsewhere = Stores(f"sqlite:///{tmp_path}/other.db", tmp_path / "other")
    other = elsewhere()
    with pytest.raises(ValueError, match="cursor"):
        other.decisions.page(DecisionQuery(), cursor=cursor)
    elsewhere.stop()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    directory = tmp_path_factory.mktemp("filled")
    made = Stores(f"sqlite:///{directory}/x.db", directory)
    store = made()
    fill([store], Random(9), 30)
    yield store
    made.stop()


@given(text=st.one_of(st.text(max_size=60), st.binary(max_size=60).map(lambda raw: urlsafe_b64encode(raw).decode())))
@settings(deadline=None, max_examples=200)
def test_what_is_no_cursor_is_refused(filled: Store, text: str) -> None:
    with pytest.raises(ValueError, match="cursor"):
        filled.decisions.page(DecisionQuery(), cursor=text)


@given(numbers=st.lists(st.integers(0, 2**64 - 1), max_size=5), cut=st.integers(0, 9))
@settings(deadline=None, max_examples=200)
def test_a_made_up_cursor_shows_no_more_than_there_is(filled: Store, numbers: list[int], cut: int) -> None:
    packed = b"".join(number.to_bytes(8, "big") for number in (filled.store_id, *numbers))
    cursor = urlsafe_b64encode(packed).decode()[: -cut or None]
    try:
        page = filled.decisions.page(DecisionQuery(), cursor=cursor)
    except ValueError:
        return
    assert len(page.decisions) <= 100


@given(
    query=st.builds(
        DecisionQuery,
        start=st.none() | st.integers(-(2**70), 2**70),
        end=st.none() | st.integers(-(2**70), 2**70),
        policy_type=st.none() | st.text(),
        component=st.none() | st.text(),
        client=st.none() | st.text() | st.text().map("~".__add__),
        policy_id=st.none() | st.text(),
    ),
    limit=st.integers(-(2**70), 2**70),
)
@settings(deadline=None, max_examples=200)
def test_any_query_can_be_asked(filled: Store, query: DecisionQuery, limit: int) -> None:
    assert isinstance(filled.decisions.page(query, limit=limit).decisions, list)


def test_secrets_and_personal_data_are_not_in_the_database(stores: Stores) -> None:
    store = stores(masked=("diagnosis", "nested.inner"))
    secrets: dict[str, Any] = {
        "password": "hunter-2-x",
        "diagnosis": "flu-x-flu",
        "nested": {"inner": "deep-x-deep", "api_key": "key-x-key", "list": [{"token": "tok-x-tok"}]},
    }
    personal = {"client_id": "alice-x-alice", "client_ip": "192.0.2.77"}
    store.writer.record_decisions([checked(**secrets, **personal)])
    store.writer.record_decisions([checked(client_ip="192.0.2.77")])
    store.writer.record_decisions([checked(**personal, dst_port=number) for number in range(3)])
    flush(store)
    assert [item.entry.context["client_ip"] for item in all_decisions(store)] == ["192.0.2.77"] * 5
    masked = all_decisions(store)[-1].entry.context
    assert masked["nested"] == {"inner": "***", "api_key": "***", "list": [{"token": "***"}]}
    for _, entry in Content(stores.url).entries():
        body = msgspec.json.encode(entry)
        for hidden in (b"hunter-2", b"flu-x", b"deep-x", b"key-x", b"tok-x", b"alice-x", b"192.0.2.77"):
            assert hidden not in body
    assert len(all_decisions(store, DecisionQuery(client="alice-x-alice"))) == 4
    (pseudonym,) = {entry.client for _, entry in Content(stores.url).entries() if entry.client}
    assert len(all_decisions(store, DecisionQuery(client=pseudonym))) == 4
