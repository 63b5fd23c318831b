"""Going on with the event stream: nothing is lost and nothing comes twice, whatever is cut where."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest
from tests.http.sse import Client
from tests.http.streams import Streams, decide, names, record, start_cursor
from tests.service.running import eventually

from policy_engine.store.opened import Store

PATIENCE_SECONDS = 30.0
SEED = 20


@pytest.fixture
def streams(tmp_path: Path) -> Iterator[Streams]:
    made = Streams(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def store(streams: Streams) -> Store:
    return streams.store()


@pytest.fixture
def port(streams: Streams, store: Store) -> int:
    return streams(store).port


@pytest.mark.parametrize("way", ["header", "query", "both"])
def test_resuming(store: Store, port: int, way: str) -> None:
    with Client(port) as client:
        ids = record(store, 6)
        sent = client.take(6)
    cursor = sent[2].id
    query = {"header": "", "query": f"?since_event_id={cursor}", "both": f"?since_event_id={sent[0].id}"}[way]
    with Client(port, "" if way == "query" else cursor, query=query) as client:
        assert names(client.take(3)) == ids[3:]
        new = record(store)
        assert names(client.take(1)) == new


def test_every_id_is_a_place_to_go_on_from(store: Store, port: int) -> None:
    with Client(port) as client:
        for _ in range(4):
            record(store)
            decide(store, 22, 80)
            decide(store, 80)
        sent = client.take(16)
    assert len({event.id for event in sent}) == 16
    for number, event in enumerate(sent[:-1], 1):
        with Client(port, event.id) as client:
            assert client.take(16 - number) == sent[number:]


def test_a_stream_without_events_can_be_resumed_too(store: Store, port: int) -> None:
    with Client(port) as client:
        client.until(lambda _: bool(client.parser.last_id))
        cursor = client.parser.last_id
    ids = record(store, 3)
    with Client(port, cursor) as client:
        assert names(client.take(3)) == ids


def test_a_page_goes_on_where_a_stream_was_and_the_other_way_round(store: Store, port: int) -> None:
    with Client(port) as client:
        ids = record(store, 4)
        cursor = client.take(4)[1].id
    page = store.events.page(since_event_id=cursor, limit=1)
    assert [event.event_id for event in page.events] == [ids[2]]
    for since in (page.last_event_id or "", ids[2]):
        with Client(port, since) as client:
            assert names(client.take(1)) == [ids[3]]


@pytest.mark.parametrize("cursor", ["nope", "c", "cAAAA", "00000000-0000-8000-8000-000000000000", "\u00e4", "x" * 5000])
def test_an_unknown_cursor_starts_at_the_oldest_and_says_so(store: Store, port: int, cursor: str) -> None:
    ids = record(store, 3)
    with Client(port, headers={"Last-Event-ID": cursor}) as client:
        gap, *events = client.take(4)
        assert (gap.type, gap.data) == ("gap", {})
        assert names(events) == ids


def test_a_gap_without_an_event_is_said_once(store: Store, port: int) -> None:
    with Client(port, "nope", query="?event_type=POLICY_DELETED") as client:
        assert client.take(1)[0].type == "gap"
        client.until(lambda _: client.parser.last_id != "nope")
        store.events.record("POLICY_DELETED", {})
        assert client.take(1)[0].type == "POLICY_DELETED"


def test_catching_up_with_more_than_is_sent_at_once(store: Store, port: int) -> None:
    cursor = start_cursor(port)
    made = []
    for _ in range(3):
        made += decide(store, *[80, 22] * 450)
        made += record(store, 50, text="x" * 2000)
    with Client(port, cursor) as client:
        assert names(client.take(2850)) == made
        new = record(store, 3)
        assert names(client.take(3)) == new


class Follower:
    """Follows streams, is cut at random places and goes on, each time on a stream chosen at random."""

    def __init__(self, ports: list[int], cursor: str, random: Random, *, largest: int) -> None:
        self.seen: list[str] = []
        self.connections = 0
        self._ports = ports
        self._cursor = cursor
        self._random = random
        self._largest = largest

    def follow(self, is_done: Callable[[list[str]], bool]) -> list[str]:
        while not is_done(self.seen):
            self.connections += 1
            with Client(self._random.choice(self._ports), self._cursor) as client:
                wanted = self._random.randrange(1, self._largest)
                received = 0
                while received < wanted and not is_done(self.seen):
                    events = client.read(min(self._random.randrange(1, 3000), wanted - received) or 1)
                    received += 700 if not events else sum(len(json.dumps(event.data)) for event in events)
                    assert all(event.type != "gap" for event in events)
                    self.seen += names(events)
                self._cursor = client.parser.last_id
        return self.seen


def write(store: Store, seed: int) -> list[str]:
    """Record some hundred events, now and then with a pause; return what names them."""
    random = Random(seed)
    made = []
    for _ in range(70):
        kind = random.random()
        if kind < 0.5:
            made += record(store, random.randrange(1, 4), text="x" * random.randrange(300))
        elif kind < 0.9:
            made += decide(store, random.choice([22, 80]))
        else:
            made += decide(store, *[random.choice([22, 80]) for _ in range(random.randrange(2, 30))])
        if random.random() < 0.2:
            time.sleep(0.02)
    return made


def follow_while_writing(stores: list[Store], ports: list[int], seed: int) -> tuple[list[list[str]], list[Follower]]:
    """Let three writers write and two followers follow; return what each writer made, and the followers."""
    cursor = start_cursor(ports[0])
    followers = [Follower(ports, cursor, Random(seed * size), largest=size) for size in (6_000, 40_000)]
    with ThreadPoolExecutor() as pool:
        writers = [pool.submit(write, stores[number % len(stores)], seed + number) for number in range(3)]

        def is_done(seen: list[str]) -> bool:
            return all(writer.done() for writer in writers) and len(seen) >= sum(len(w.result()) for w in writers)

        followed = [pool.submit(follower.follow, is_done) for follower in followers]
        for future in followed:
            future.result()
    return [writer.result() for writer in writers], followers


@pytest.mark.parametrize("seed", range(SEED, SEED + 3))
def test_cuts_at_random_places_lose_and_repeat_nothing(store: Store, port: int, seed: int) -> None:
    made, followers = follow_while_writing([store], [port], seed)
    one, other = (follower.seen for follower in followers)
    assert one == other
    assert sorted(one) == sorted(name for part in made for name in part)
    for part in made:
        assert [name for name in one if name in set(part)] == part
    assert followers[0].connections > 20


@pytest.mark.parametrize("seed", range(SEED, SEED + 3))
def test_moving_between_two_processes_loses_and_repeats_nothing(streams: Streams, seed: int) -> None:
    stores = [streams.store(), streams.store()]
    made, followers = follow_while_writing(stores, [streams(store).port for store in stores], seed)
    for follower in followers:
        assert sorted(follower.seen) == sorted(name for part in made for name in part)
        for part in made:
            assert [name for name in follower.seen if name in set(part)] == part


def test_a_process_that_begins_later(streams: Streams, store: Store, port: int) -> None:
    with Client(port) as client:
        first = record(store, 3)
        cursor = client.take(3)[-1].id
    later = streams.store()
    second = streams(later).port
    ids = [*decide(later, 22), *record(later), *record(store)]
    with Client(second, cursor) as client:
        assert sorted(names(client.take(3))) == sorted(ids)
    assert not set(first) & set(ids)


def test_events_go_on_while_the_database_is_away(streams: Streams, store: Store, port: int, tmp_path: Path) -> None:
    with Client(port) as client, Client(port, query="?event_type=POLICY_UPDATED") as other:
        made = [*record(store), *decide(store, 22)]
        assert names(client.take(2)) == made
        store.database._reading.dispose()
        files = [file for file in tmp_path.glob("x.db*") if file.is_file()]
        for file in files:
            file.rename(tmp_path / f"away-{file.name}")
        (tmp_path / "x.db").mkdir()
        made += [*record(store, 2), *decide(store, 80)]
        assert names(client.take(3)) == made[2:]
        cursor = client.parser.last_id
        (tmp_path / "x.db").rmdir()
        for file in files:
            (tmp_path / f"away-{file.name}").rename(file)
        eventually(lambda: len(store.events.page().events) == 5, "all is stored", PATIENCE_SECONDS)
        made += record(store)
        assert names(client.take(1)) == made[-1:]
        assert len(other.take(4)) == 4
    with Client(streams(streams.store()).port, cursor) as client:
        assert names(client.take(1)) == made[-1:]


# Slow ones


def test_a_slow_subscriber_is_cut_off_and_can_resume(store: Store, port: int) -> None:
    with Client(port, receive_buffer=4096) as slow, Client(port) as quick:
        ids: list[str] = []
        for letter in "abcdefghijklmnopqrst":
            ids += record(store, 50, text=letter * 1000)
            quick.take(50)
        sent = names(slow.until(lambda _: False))
        assert slow.ended
        assert not slow.chunks.ended
        assert sent == ids[: len(sent)]
        assert len(sent) < len(ids)
        cursor = slow.parser.last_id
    with Client(port, cursor) as again:
        assert names(again.take(len(ids) - len(sent))) == ids[len(sent) :]


def test_one_that_catches_up_slowly_is_waited_for(store: Store, port: int) -> None:
    cursor = start_cursor(port)
    ids = [identifier for number in range(150) for identifier in record(store, 10, text=str(number % 10) * 1000)]
    with Client(port, cursor, receive_buffer=4096) as slow:
        assert names(slow.until(lambda seen: len(seen) >= len(ids))) == ids


def test_decisions_that_are_not_kept_leave_a_gap(streams: Streams) -> None:
    store = streams.store(keeps_decisions=False)
    port = streams(store).port
    cursor = start_cursor(port)
    made = [*record(store), *decide(store, *[22] * 1500), *record(store)]
    with Client(port, cursor) as client:
        gap, *events = client.take(1003)
        assert gap.type == "gap"
        assert names(events) == [made[0], *made[-1001:]]
        new = decide(store, 80)
        assert names(client.take(1)) == new
