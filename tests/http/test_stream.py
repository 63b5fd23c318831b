"""The event stream: what is sent and what is refused; real sockets, a real store."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.http.sse import PATH, Client
from tests.http.streams import Streams, decide, names, record
from tests.service.running import eventually

from policy_engine.http.stream import EventStream
from policy_engine.store.opened import Store

PATIENCE_SECONDS = 30.0


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


# What is sent


def test_events_from_now_on(store: Store, port: int) -> None:
    record(store, 3)
    with Client(port) as client:
        assert client.status == 200
        new = record(store, 5)
        assert names(client.take(5)) == new


def test_an_event_is_what_a_page_holds(store: Store, port: int) -> None:
    with Client(port) as client:
        record(store, 1, text='two\nlines, "quotes"\r\n\n: and \u2028 umlauts äöü')
        decide(store, 22)
        sent = client.take(2)
    page = json.loads(json.dumps([event.data for event in sent]))
    shown = store.events.page(since_event_id="all").events
    assert [event["event_id"] for event in page] == [event.event_id for event in shown]
    assert [event.type for event in sent] == ["POLICY_UPDATED", "POLICY_VIOLATION"]
    assert [event["event_type"] for event in page] == [event.type for event in sent]
    assert page[0]["details"] == shown[0].details
    for event in page:
        assert event.keys() == {"event_id", "timestamp", "source_component", "event_type", "details"}


def test_headers(port: int) -> None:
    with Client(port, headers={"X-Request-ID": "mine"}) as client:
        assert client.headers["content-type"] == "text/event-stream"
        assert client.headers["cache-control"] == "no-store"
        assert client.headers["x-request-id"] == "mine"
    with Client(port) as client:
        assert client.headers["x-request-id"]


def test_decisions_and_batches(store: Store, port: int) -> None:
    with Client(port) as client:
        made = [*decide(store, 80), *decide(store, *[22, 80, 22] * 500), *record(store)]
        sent = client.take(1502)
    assert [event.type for event in sent[:4]] == [
        "POLICY_APPLIED",
        "POLICY_VIOLATION",
        "POLICY_APPLIED",
        "POLICY_VIOLATION",
    ]
    assert names(sent) == made


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_both_versions_of_http(store: Store, port: int, version: str) -> None:
    with Client(port, version=version) as client:
        assert ("transfer-encoding" in client.headers) is (version == "1.1")
        ids = record(store, 3)
        assert names(client.take(3)) == ids


def test_comments_keep_it_alive_and_move_the_cursor(streams: Streams, store: Store) -> None:
    stream = streams(store, keep_alive_seconds=0.05)
    with Client(stream.port, query="?event_type=POLICY_DELETED") as client:
        first = client.parser.last_id
        record(store, 3)
        client.until(lambda _: client.parser.last_id > first and len(client.parser.comments) > 2)
        assert set(client.parser.comments) == {"keep-alive"}
        cursor = client.parser.last_id
    page = store.events.page(since_event_id=first)
    later = store.events.page(since_event_id=cursor)
    assert len(page.events) == 3
    assert len(later.events) < 3


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?event_type=POLICY_UPDATED", "ee"),
        ("?event_type=POLICY_VIOLATION", "v"),
        ("?event_type=POLICY_UPDATED,POLICY_APPLIED", "eaae"),
        ("?event_type=POLICY_VIOLATION&event_type=POLICY_APPLIED", "ava"),
        ("?type=POLICY_VIOLATION%2CPOLICY_UPDATED", "eve"),
        ("?event_type=", "eavae"),
    ],
)
def test_filters(store: Store, port: int, query: str, expected: str) -> None:
    with Client(port, query=query) as client:
        record(store)
        decide(store, 80, 22, 80)
        record(store)
        letters = {"POLICY_UPDATED": "e", "POLICY_VIOLATION": "v", "POLICY_APPLIED": "a"}
        sent = client.take(len(expected))
        assert "".join(letters[event.type] for event in sent) == expected
        if "e" in expected:
            new = record(store)
            assert names(client.take(1)) == new


def test_subscribers_with_different_filters_beside_each_other(store: Store, port: int) -> None:
    queries = ["", "?event_type=POLICY_UPDATED", "?event_type=POLICY_APPLIED", "?event_type=POLICY_VIOLATION"]
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(port, query=query)) for query in queries]
        made = [name for _ in range(10) for name in (*record(store), *decide(store, 22, 80))]
        sent = [client.take(count) for client, count in zip(clients, (30, 10, 10, 10), strict=True)]
    assert names(sent[0]) == made
    assert names(sent[1]) == made[::3]
    assert names(sent[2]) == made[2::3]
    assert names(sent[3]) == made[1::3]


def test_two_hundred_subscribers_get_every_event(store: Store, port: int) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(port)) for _ in range(200)]
        ids = record(store, 20)
        for client in clients:
            assert names(client.take(20)) == ids
        ids = record(store, 5)
        for client in clients:
            assert names(client.take(5)) == ids


# What is refused


@pytest.mark.parametrize(
    ("method", "path", "query", "status"),
    [
        ("GET", "/", "", 404),
        ("GET", "/api/v1/events", "", 404),
        ("GET", PATH + "/", "", 404),
        ("POST", "/nope", "", 404),
        ("POST", PATH, "", 405),
        ("HEAD", PATH, "", 405),
        ("OPTIONS", PATH, "", 405),
        ("GET", PATH, "?event_type=POLICY_UPDATE", 400),
        ("GET", PATH, "?type=nope", 400),
    ],
)
def test_errors_are_problems(port: int, method: str, path: str, query: str, status: int) -> None:
    with Client(port, method=method, path=path, query=query, headers={"X-Request-ID": "mine"}) as client:
        body = client.rest()
        assert client.status == status
        assert client.headers["content-type"] == "application/problem+json"
        assert client.headers["x-request-id"] == "mine"
        assert client.headers.get("allow") == ("GET" if status == 405 else None)
        if method == "HEAD":
            assert body == b""
            return
        assert len(body) == int(client.headers["content-length"])
    document = json.loads(body)
    assert (document["status"], document["instance"]) == (status, path)
    assert document["error"] == document["detail"]


def test_an_unknown_type_gets_a_hint(port: int) -> None:
    with Client(port, query="?event_type=POLICY_VIOLATIONS") as client:
        (fault,) = json.loads(client.rest())["errors"]
    assert fault["pointer"] == "/event_type"
    assert fault["hint"] == "did you mean `POLICY_VIOLATION`?"


def test_there_are_only_so_many_streams(streams: Streams, store: Store) -> None:
    stream = streams(store, max_subscribers=2)
    with Client(stream.port) as one, Client(stream.port):
        with Client(stream.port) as third:
            assert third.status == 503
            assert third.headers["retry-after"]
            assert json.loads(third.rest())["status"] == 503
        one.close()
        eventually(lambda: status_of(stream.port) == 200, "there is room again")


def status_of(port: int) -> int:
    with Client(port) as client:
        return client.status


def send(port: int, content: bytes) -> bytes:
    """Send something and return everything that comes back until the connection ends."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as connection:
        parts = []
        try:
            connection.sendall(content)
            while part := connection.recv(65536):
                parts.append(part)
        except (ConnectionResetError, BrokenPipeError):
            pass
    return b"".join(parts)


def test_a_request_that_does_not_end_is_dropped(streams: Streams, store: Store) -> None:
    stream = streams(store, request_seconds=0.1)
    line = f"GET {PATH} HTTP/1.1\r\n".encode()
    assert send(stream.port, b"") == b""
    assert send(stream.port, line + b"Host: local") == b""
    assert send(stream.port, line + b"Host: localhost\r\nContent-Length: 10\r\n\r\nabc") == b""
    eventually(lambda: not stream.connections, "all are dropped")
    with Client(stream.port) as client:
        eventually(lambda: len(stream.feed) == 1, "one follows")
        ids = record(store)
        assert names(client.take(1)) == ids


def test_a_large_request_is_dropped(store: Store, port: int) -> None:
    line = f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\n".encode()
    for content in (
        line + b"X-Large: " + b"x" * 20_000 + b"\r\n\r\n",
        line + b"X-Large: " + b"x" * 2_000_000,
        line + b"Content-Length: 20000\r\n\r\n" + b"x" * 20_000,
        line + b"Transfer-Encoding: chunked\r\n\r\n" + b"8\r\n12345678\r\n" * 2_000,
    ):
        assert not send(port, content).startswith(b"HTTP/1.1 200")
    with Client(port, "x" * 15_000) as client:
        assert client.status == 200
    assert store.events.page().events == []


@pytest.mark.parametrize("content", [b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n", b"\r\n" * 9000])
def test_what_is_not_http_is_refused(streams: Streams, store: Store, content: bytes) -> None:
    stream = streams(store, request_seconds=0.2)
    answer = send(stream.port, content + b"\r\n\r\n")
    assert answer == b"" or answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 431"))


def test_a_body_is_passed_over(store: Store, port: int) -> None:
    with Client(port, headers={"Content-Length": "0"}) as client:
        client.socket.sendall(b"more, and more" * 5000)
        ids = record(store, 2)
        assert names(client.take(2)) == ids


@pytest.mark.parametrize(
    ("origin", "is_let_in"),
    [
        ("http://localhost:5000", True),
        ("http://LOCALHOST", True),
        ("http://127.0.0.1:5000", False),
        ("https://evil.example", False),
        ("http://localhost.evil.example", False),
        ("null", False),
        ("http://[", False),
        ("", False),
    ],
)
def test_pages_of_the_same_host_may_read_it(port: int, origin: str, is_let_in: bool) -> None:  # noqa: FBT001
    with Client(port, headers={"Host": "localhost:5001", **({"Origin": origin} if origin else {})}) as client:
        assert client.headers.get("access-control-allow-origin") == (origin if is_let_in else None)


# Beginning and end


def test_streams_end_when_the_service_does(streams: Streams, store: Store) -> None:
    stream = streams(store)
    with Client(stream.port) as client, Client(stream.port, "nope") as other:
        client.until(lambda _: bool(client.parser.last_id))
        stream.stop()
        for one in (client, other):
            one.until(lambda _: False)
            assert one.chunks.ended
    with pytest.raises(ConnectionRefusedError):
        send(stream.port, b"")
    stream.stop()


def test_it_ends_though_a_subscriber_does_not_read(streams: Streams, store: Store) -> None:
    stream = streams(store)
    with Client(stream.port, receive_buffer=4096):
        record(store, 150, text="x" * 1500)
        eventually(lambda: any(connection.waiting for connection in stream.connections), "it is slow")
        stream.stop()
        assert not stream.connections


def test_processes_share_a_port(streams: Streams, store: Store) -> None:
    first = streams(store)
    second = streams(store, port=first.port)
    assert second.port == first.port
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(first.port)) for _ in range(30)]
        ids = record(store, 2)
        assert all(names(client.take(2)) == ids for client in clients)


def test_a_port_that_is_taken(store: Store) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        stream = EventStream(store.events, "127.0.0.1", taken.getsockname()[1])
        with pytest.raises(OSError, match="address already in use"):
            stream.start()
        stream.stop()


def test_a_stream_that_was_not_started_can_be_stopped(store: Store) -> None:
    EventStream(store.events, "127.0.0.1", 0).stop()
