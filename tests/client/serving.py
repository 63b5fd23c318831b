"""A small HTTP server of our own around an engine in this process: real sockets, and it can be made to misbehave."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import msgspec

from policy_engine import PolicyEngine
from policy_engine.model.errors import ConflictError
from policy_engine.trust.observation import RoundObservation

Answer = tuple[int, bytes]
Answering = Callable[[str, bytes], Answer]


class Serving:
    """A server that runs.

    Attributes:
        connections: How many were opened.
        headers: Of each request.
    """

    def __init__(self) -> None:
        self.url = ""
        self.connections = 0
        self.headers: list[Any] = []


@contextmanager
def serving(answer: Answering, *, closes: bool = False) -> Iterator[Serving]:
    """Serve until the block ends; `closes` hangs up after each answer without saying so."""
    state = Serving()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            state.connections += 1

        def do_POST(self) -> None:
            state.headers.append(self.headers)
            status, body = answer(self.path, self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = closes

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def engine_behind(engine: PolicyEngine, prefix: str = "") -> Answering:
    """Answer the routes that a client knows from an engine."""

    def answered(path: str, body: bytes) -> Any:
        asked = msgspec.json.decode(body)
        match path.removeprefix(prefix):
            case "/api/v1/check":
                return engine.check(asked["policy_type"], asked["context"], explain=asked["explain"])
            case "/api/v1/check/batch":
                return {"decisions": engine.check_many(asked["policy_type"], asked["contexts"])}
            case "/api/v1/trust/observations":
                return engine.observe(msgspec.json.decode(body, type=RoundObservation))
            case "/api/v1/trust/selection":
                return engine.select(asked["federation"], asked["round"], asked["candidates"])
        raise LookupError(path)

    def answer(path: str, body: bytes) -> Answer:
        try:
            return 200, msgspec.json.encode(answered(path, body))
        except ConflictError as error:
            return 409, msgspec.json.encode({"detail": str(error), "code": getattr(error, "code", None)})
        except LookupError:
            return 404, b'{"detail": "there is no such route"}'

    return answer


def saying(*answers: Answer) -> Answering:
    """Give these answers, one after another."""
    left: Iterable[Answer] = iter(answers)
    return lambda _path, _body: next(iter(left))
