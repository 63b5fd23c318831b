"""The listener for event streams: Server-Sent Events on a port, a thread and an event loop of its own.

A stream may last for days, so it never takes one of the threads that answer checks.
"""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from http import HTTPStatus
from ssl import SSLContext
from threading import Thread
from typing import Any, NamedTuple, cast
from urllib.parse import parse_qs, urlsplit

import h11

from policy_engine.http.authentication import credential
from policy_engine.http.cors import VARY, allowed
from policy_engine.http.event_types import read_event_types, visible
from policy_engine.http.feed import KEEP_ALIVE_SECONDS, Feed, Frame
from policy_engine.http.front import CHALLENGE, PLAIN, REQUEST_ID, RETRY, guarded, request_id
from policy_engine.http.problem import ProblemError, Reply, problem
from policy_engine.identity.certificate import variable
from policy_engine.ids import uuid7
from policy_engine.model.errors import BusyError
from policy_engine.store.events import EventLog
from policy_engine.store.following import Place

STREAM_PATH = "/api/v1/events/stream"
MAX_SUBSCRIBERS = 5000
MAX_REQUEST_BYTES = 16 * 1024
REQUEST_SECONDS = 5.0
AUTHORISE_SECONDS = 2.0

_BACKLOG = 1024
_SPARE_CONNECTIONS = 500
"""How many connections may be without a stream: those that have not asked yet, or are about to be refused."""

_SEND_BUFFER_BYTES = 64 * 1024
"""What the system may hold for a subscriber: left to itself it takes megabytes, and a slow one is noticed late."""

_END_SECONDS = 1.0

Headers = list[tuple[str, str]]
Authorise = Callable[[dict[str, Any]], frozenset[str]]


class EventStream:
    """Serves the events of a log to any number of subscribers from one thread."""

    def __init__(
        self,
        events: EventLog,
        host: str,
        port: int,
        *,
        authorise: Authorise = lambda _environ: frozenset(),
        authorise_seconds: float = AUTHORISE_SECONDS,
        max_subscribers: int = MAX_SUBSCRIBERS,
        keep_alive_seconds: float = KEEP_ALIVE_SECONDS,
        request_seconds: float = REQUEST_SECONDS,
        tls: SSLContext | None = None,
        origins: Iterable[str] = (),
    ) -> None:
        """Prepare; nothing is opened yet.

        Args:
            events: What is served.
            host: The address to listen on.
            port: The port, which other processes may listen on too; 0 for any that is free.
            authorise: Called with each request as WSGI would show it; returns the types of events that are hidden from
                whoever asks, and raises ProblemError for who may not follow.
            authorise_seconds: How often that is asked again of those who showed a credential.
            max_subscribers: How many streams there may be at a time.
            keep_alive_seconds: How often each gets a comment.
            request_seconds: How long a request may take to arrive.
            origins: Pages of which origins may read it, besides those of the same host.
            tls: With which to listen; None for plain HTTP.
        """
        self.authorise = authorise
        self.authorise_seconds = authorise_seconds
        self.max_subscribers = max_subscribers
        self.request_seconds = request_seconds
        self.connections: set[Connection] = set()
        self._keep_alive_seconds = keep_alive_seconds
        self._events = events
        self._host = host
        self._port = port
        self.origins = frozenset(origins)
        self._tls = tls
        self._thread: Thread | None = None

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._port

    def start(self) -> None:
        """Listen.

        Raises:
            OSError: The port cannot be had.
        """
        _allow_files(self.max_subscribers + _SPARE_CONNECTIONS)
        started: Future[int] = Future()
        self._thread = Thread(target=lambda: asyncio.run(self._serve(started)), name="stream", daemon=True)
        self._thread.start()
        self._port = started.result()

    def stop(self) -> None:
        """End all streams and wait for that."""
        if self._thread is not None and self._thread.is_alive():
            with suppress(RuntimeError):  # the loop has ended by itself since
                self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()

    async def _serve(self, started: Future[int]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        with ThreadPoolExecutor(1, "stream-reader") as executor:
            self.feed = Feed(self._events, executor, keep_alive_seconds=self._keep_alive_seconds)
            try:
                server = await self._loop.create_server(
                    lambda: Connection(self),
                    self._host,
                    self._port,
                    reuse_port=True,
                    backlog=_BACKLOG,
                    ssl=self._tls,
                    ssl_handshake_timeout=self.request_seconds if self._tls else None,
                    ssl_shutdown_timeout=_END_SECONDS if self._tls else None,
                )
            except OSError as error:
                started.set_exception(error)
                return
            started.set_result(server.sockets[0].getsockname()[1])
            tasks = [asyncio.create_task(self.feed.run()), asyncio.create_task(self._look_again())]
            await self._stopping.wait()
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await self._end()

    async def _look_again(self) -> None:
        """End the streams of those whose credentials are not valid any more."""
        while True:
            await asyncio.sleep(self.authorise_seconds)
            for connection in list(self.connections):
                if connection.shown is not None:
                    try:
                        self.authorise(dict(connection.shown))
                    except ProblemError as error:
                        if error.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
                            connection.end()
                    except BusyError:
                        continue

    async def _end(self) -> None:
        """End every stream: what it was sent is still delivered, unless that takes long."""
        for connection in list(self.connections):
            connection.end()
        deadline = self._loop.time() + _END_SECONDS
        while self.connections:
            if self._loop.time() > deadline:
                for connection in list(self.connections):
                    connection.cut()
            await asyncio.sleep(0.01)


class _Asked(NamedTuple):
    """What was asked for."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    chunked: bool

    @property
    def request_id(self) -> str:
        """The id that the caller gave, or a new one."""
        return request_id({"HTTP_X_REQUEST_ID": self.headers.get(REQUEST_ID.lower())}) or uuid7()

    def environ(self, peer: Any) -> dict[str, Any]:
        """Return the request as WSGI would show it, as far as who asks depends on it."""
        address = peer[0] if isinstance(peer, tuple) and peer else ""
        headers = {variable(name): value for name, value in self.headers.items() if "_" not in name}
        return {**headers, "REMOTE_ADDR": address}


def _asked(request: h11.Request) -> _Asked:
    path, _, query = request.target.decode("ascii").partition("?")
    headers: dict[str, str] = {}
    for raw_name, raw_value in request.headers:
        name, value = raw_name.decode("ascii"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return _Asked(
        request.method.decode("ascii"),
        path,
        parse_qs(query),
        headers,
        request.http_version >= b"1.1",
    )


class Connection(asyncio.Protocol):
    """One connection: a request, then a problem or a stream; one that streams is a subscriber of the feed.

    Attributes:
        shown: The request, when it showed a credential.
    """

    def __init__(self, stream: EventStream) -> None:
        self._stream = stream
        self._parser: h11.Connection | None = h11.Connection(h11.SERVER, MAX_REQUEST_BYTES)
        self._request: h11.Request | None = None
        self._received = 0
        self._head = b""
        self._chunked = False
        self.shown: dict[str, Any] | None = None

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for a request, not for long."""
        self._transport = cast("asyncio.Transport", transport)
        self._stream.connections.add(self)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        loop = asyncio.get_running_loop()
        self._timeout = loop.call_later(self._stream.request_seconds, self.cut)
        if len(self._stream.connections) > self._stream.max_subscribers + _SPARE_CONNECTIONS:
            self.cut()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the reason does not matter
        """Forget it."""
        self._timeout.cancel()
        self._stream.connections.discard(self)
        self._stream.feed.leave(self)

    def data_received(self, data: bytes) -> None:
        """Take a part of the request; what comes after it is passed over."""
        if self._parser is None:
            return
        self._received += len(data)
        try:
            self._parser.receive_data(data)
            self._read(self._parser)
        except h11.RemoteProtocolError as error:
            self._refuse(problem(error.error_status_hint, "the request is not valid HTTP", "/"), uuid7())

    # The request

    def _read(self, parser: h11.Connection) -> None:
        if self._received > MAX_REQUEST_BYTES:
            self.cut()
            return
        event = parser.next_event()
        while isinstance(event, h11.Request | h11.Data):
            if isinstance(event, h11.Request):
                self._request = event
            event = parser.next_event()
        if isinstance(event, h11.EndOfMessage) and self._request is not None:
            self._answer(_asked(self._request))

    def _answer(self, asked: _Asked) -> None:
        reply = guarded(asked.path, self._serve, asked)
        if reply.status != HTTPStatus.OK:
            self._refuse(reply, asked.request_id, with_body=asked.method != "HEAD")

    def _serve(self, asked: _Asked) -> Reply:
        """Begin a stream.

        Raises:
            ProblemError: There is none at this path, of this kind, or for one more.
        """
        if asked.path != STREAM_PATH:
            raise ProblemError(HTTPStatus.NOT_FOUND, "there is nothing at this path")
        if asked.method != "GET":
            raise ProblemError(HTTPStatus.METHOD_NOT_ALLOWED, "this path does not take this method")
        environ = asked.environ(self._transport.get_extra_info("peername"))
        hidden = self._stream.authorise(dict(environ))
        self.shown = environ if credential(environ) is not None else None
        types = visible(read_event_types([*asked.query.get("event_type", ()), *asked.query.get("type", ())]), hidden)
        if len(self._stream.feed) >= self._stream.max_subscribers:
            raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, "as many streams as there may be are open")
        since = asked.headers.get("last-event-id") or asked.query.get("since_event_id", [""])[0]
        self._begin(asked, Place(since or None, types))
        return Reply(HTTPStatus.OK, b"")

    def _begin(self, asked: _Asked, place: Place) -> None:
        self._chunked = asked.chunked
        framing = [("Transfer-Encoding", "chunked")] if asked.chunked else []
        headers = [("Content-Type", "text/event-stream"), ("Cache-Control", "no-store"), *framing]
        self._head = self._finish(
            HTTPStatus.OK, [*headers, (REQUEST_ID, asked.request_id), PLAIN, *self._origin(asked.headers)]
        )
        if place.cursor is not None:
            self._send_head()  # else it says that everything from now on will come, and waits until that is true
        self._stream.feed.join(self, place)

    def _origin(self, headers: dict[str, str]) -> Headers:
        return [VARY, *(allowed(headers.get("origin"), self._stream.origins) or _of_this_host(headers))]

    def _refuse(self, reply: Reply, labelled: str, *, with_body: bool = True) -> None:
        headers = [("Content-Type", reply.content_type), ("Content-Length", str(len(reply.body))), PLAIN]
        head = self._finish(reply.status, [*headers, *_MORE.get(reply.status, ()), (REQUEST_ID, labelled)])
        self._transport.write(head + reply.body if with_body else head)
        self._transport.close()

    def _finish(self, status: int, headers: Headers) -> bytes:
        """Be done with the request; return the head of the answer."""
        self._timeout.cancel()
        self._parser = self._request = None
        lines = [f"{name}: {value}\r\n" for name, value in [*headers, ("Connection", "close")]]
        return f"HTTP/1.1 {status:d} {HTTPStatus(status).phrase}\r\n{''.join(lines)}\r\n".encode("latin-1")

    # The stream

    @property
    def waiting(self) -> int:
        """How many bytes were sent and have not been taken yet."""
        return self._transport.get_write_buffer_size()

    def send(self, frame: Frame) -> None:
        """Send a part of the stream."""
        self._send_head()
        self._transport.write(frame.chunked if self._chunked else frame.plain)

    def cut(self) -> None:
        """End it at once."""
        self._transport.abort()

    def end(self) -> None:
        """End it when everything that was sent has been taken."""
        if self._parser is None:
            self._send_head()
            if self._chunked:
                self._transport.write(b"0\r\n\r\n")
        self._transport.close()

    def _send_head(self) -> None:
        if self._head:
            self._transport.write(self._head)
            self._head = b""


_MORE: dict[int, tuple[tuple[str, str], ...]] = {
    HTTPStatus.METHOD_NOT_ALLOWED: (("Allow", "GET"),),
    HTTPStatus.SERVICE_UNAVAILABLE: RETRY,
    HTTPStatus.UNAUTHORIZED: CHALLENGE,
}


def _of_this_host(headers: dict[str, str]) -> Headers:
    """Return the header that lets pages of the same host read the stream: those of the service have another port."""
    origin = headers.get("origin", "")
    try:
        host = urlsplit(origin).hostname
        is_same = host is not None and host == urlsplit(f"//{headers.get('host', '')}").hostname
    except ValueError:
        is_same = False
    return [("Access-Control-Allow-Origin", origin)] if is_same else []


def _allow_files(count: int) -> None:
    """Let this process hold so many connections, as far as that is allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + _SPARE_CONNECTIONS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
