"""What one worker process does besides answering: load, watch, stream, answer probes, and end in order."""

from __future__ import annotations

import gc
import logging
import os
import time
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.util import Finalize
from threading import Thread
from typing import Any, cast

import msgspec

from policy_engine.config import Settings
from policy_engine.cores import Gathering
from policy_engine.http.access import Access
from policy_engine.http.app import create_app
from policy_engine.http.front import PLAIN, Application
from policy_engine.http.health import liveness, readiness
from policy_engine.http.problem import JSON, problem
from policy_engine.http.stream import EventStream
from policy_engine.logs import configure_logging
from policy_engine.service import PolicyService
from policy_engine.store.writer import THREAD as WRITER
from policy_engine.tls import Tls, read_tls

log = logging.getLogger(__name__)

_PROBE_TIMEOUT_SECONDS = 5
_PARENT_CHECK_SECONDS = 1
_FIRST, _LAST = 20, 10
"""When something ends that is to end in order: the higher, the sooner."""


def load(settings: Settings) -> Application:
    """Build the app in the process that serves it."""
    configure_logging(settings)
    service = PolicyService(settings)
    Finalize(None, service.stop, exitpriority=_LAST)
    Thread(target=_follow_parent, args=(os.getppid(), service), name="follow-parent", daemon=True).start()
    service.start()
    if settings.metrics_port:
        start_probes(service, settings.host, settings.metrics_port)
    access = Access(service)
    access.start()
    tls = read_tls(settings)
    if settings.stream_port:
        _start_stream(service, settings, access, tls)
    gc.collect()
    gc.freeze()  # programs live as long as the process: the collector need not look at them again
    log.info(
        "serving %d policies as version %d on %s://%s:%d",
        len(service.policies),
        service.revision.version,
        "https" if tls else "http",
        settings.host,
        settings.port,
    )
    application = cast("Application", create_app(service, access).wsgi_app)
    return _gathered(application) if settings.gather_threads else application


def _gathered(application: Application) -> Application:
    gathering = Gathering([WRITER])
    gathering.start()
    Finalize(None, gathering.stop, exitpriority=_FIRST)
    return gathering.around(application)


def _start_stream(service: PolicyService, settings: Settings, access: Access, tls: Tls | None) -> None:
    stream = EventStream(
        service.events,
        settings.host,
        settings.stream_port,
        authorise=access.authorise_stream,
        max_subscribers=settings.max_subscribers,
        tls=tls.context() if tls else None,
        origins=settings.cors_origins,
    )
    stream.start()
    Finalize(None, stream.stop, exitpriority=_FIRST)


def _follow_parent(parent: int, service: PolicyService) -> None:
    """End this process when the one that started it is gone: an orphan would keep the port."""
    while os.getppid() == parent:
        time.sleep(_PARENT_CHECK_SECONDS)
    service.stop()
    os._exit(1)


class _SharedPort(ThreadingHTTPServer):
    """A listener whose port several worker processes share: each answers for itself."""

    daemon_threads = True
    allow_reuse_port = True


def start_probes(service: PolicyService, host: str, port: int) -> ThreadingHTTPServer:
    """Answer `/livez` and `/readyz` on a port and threads of their own, whatever the workers are busy with.

    Raises:
        OSError: The port cannot be had.
    """
    answers: dict[str, Callable[[], dict[str, Any]]] = {"/livez": liveness, "/readyz": partial(readiness, service)}

    class Probe(BaseHTTPRequestHandler):
        timeout = _PROBE_TIMEOUT_SECONDS

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            answer = answers.get(path)
            if answer is None:
                self.send_error(HTTPStatus.NOT_FOUND, "there is nothing at this path")
            else:
                self._send(HTTPStatus.OK, JSON, msgspec.json.encode(answer()))

        def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
            """Answer an error as a problem document; the base class calls this too."""
            reply = problem(code, message or explain or HTTPStatus(code).phrase, getattr(self, "path", "/"))
            self._send(reply.status, reply.content_type, reply.body)

        def _send(self, status: int, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.send_header(*PLAIN)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Keep probes out of the log."""

    listener = _SharedPort((host, port), Probe)
    Thread(target=listener.serve_forever, name="probes", daemon=True).start()
    return listener
