"""A client of event streams that does what browsers do, over a plain socket."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Self

PATH = "/api/v1/events/stream"
DEADLINE_SECONDS = 30.0


class Sent(NamedTuple):
    type: str
    id: str
    data: Any


class Parser:
    """Takes a body in parts; keeps the id as the standard says: it counts when its event is whole."""

    def __init__(self, last_id: str = "") -> None:
        self.last_id = last_id
        self.comments: list[str] = []
        self._rest = b""
        self._fields: dict[str, str] = {}

    def feed(self, data: bytes) -> list[Sent]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [event for line in lines if (event := self._line(line.decode()))]

    def _line(self, line: str) -> Sent | None:
        if line:
            name, _, value = line.partition(":")
            if name:
                self._fields[name] = value.removeprefix(" ")
            else:
                self.comments.append(value.strip())
            return None
        fields, self._fields = self._fields, {}
        self.last_id = fields.get("id", self.last_id)
        if "data" not in fields:
            return None
        return Sent(fields.get("event", "message"), self.last_id, json.loads(fields["data"]))


class Chunks:
    """Takes a chunked body apart."""

    def __init__(self) -> None:
        self.ended = False
        self._rest = b""
        self._open = 0

    def feed(self, data: bytes) -> bytes:
        self._rest += data
        content = b""
        while self._rest:
            if self._open > 2:
                part = self._rest[: self._open - 2]
                content += part
                self._rest = self._rest[len(part) :]
                self._open -= len(part)
            elif self._open:
                end, self._rest = self._rest[: self._open], self._rest[self._open :]
                self._open -= len(end)
            else:
                size, found, rest = self._rest.partition(b"\r\n")
                if not found:
                    break
                self._rest = rest
                self.ended = self.ended or size == b"0"
                self._open = int(size, 16) + 2
        return content


class Client:
    """One connection to a stream."""

    def __init__(
        self,
        port: int,
        cursor: str = "",
        *,
        query: str = "",
        headers: Mapping[str, str] | None = None,
        method: str = "GET",
        version: str = "1.1",
        path: str = PATH,
        receive_buffer: int = 0,
    ) -> None:
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(DEADLINE_SECONDS)
        self.socket.connect(("127.0.0.1", port))
        sent = {"Host": "localhost", **({"Last-Event-ID": cursor} if cursor else {}), **(headers or {})}
        lines = [f"{method} {path}{query} HTTP/{version}", *(f"{name}: {value}" for name, value in sent.items())]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode())
        self.parser = Parser(cursor)
        self.chunks = Chunks()
        self.ended = False
        head, _, self._rest = self._head().partition(b"\r\n\r\n")
        status, *fields = head.decode().split("\r\n")
        self.status = int(status.split()[1])
        self.headers = {name.lower(): value for name, value in (field.split(": ", 1) for field in fields)}

    def _head(self) -> bytes:
        received = b""
        while b"\r\n\r\n" not in received:
            part = self.socket.recv(65536)
            assert part, f"the connection ended after {received!r}"
            received += part
        return received

    def read(self, size: int = 65536) -> list[Sent]:
        """Wait for a part of the stream of at most so many bytes."""
        data = self._rest[:size]
        self._rest = self._rest[size:]
        if not data:
            try:
                data = self.socket.recv(size)
            except ConnectionResetError:
                data = b""
            self.ended = not data
        is_chunked = self.headers.get("transfer-encoding") == "chunked"
        return self.parser.feed(self.chunks.feed(data) if is_chunked else data)

    def take(self, count: int) -> list[Sent]:
        """Wait for so many events; a failure when the stream ends before."""
        events = self.until(lambda seen: len(seen) >= count)
        assert len(events) == count, f"{len(events)} events in the place of {count}"
        return events

    def until(self, done: Callable[[list[Sent]], bool]) -> list[Sent]:
        """Read until something is true of what came, or the stream ends."""
        events: list[Sent] = []
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not done(events) and not self.ended:
            assert time.monotonic() < deadline, f"it did not become true: {len(events)} events came"
            events += self.read()
        return events

    def rest(self) -> bytes:
        """Everything up to the end of the connection."""
        parts = [self._rest]
        while part := self.socket.recv(65536):
            parts.append(part)
        return b"".join(parts)

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
