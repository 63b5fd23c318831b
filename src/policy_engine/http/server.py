"""Serve the app with granian: this process starts and watches the workers, and holds nothing of the service itself."""

from __future__ import annotations

import multiprocessing
import os
import signal
from functools import partial
from typing import TYPE_CHECKING

from granian import Granian
from granian.constants import Interfaces

from policy_engine.config import Settings

if TYPE_CHECKING:
    from policy_engine.http.front import Application

_SECRETS = ("POLICY_ADMIN_KEY", "POLICY_DATABASE")
_STOP_SECONDS = 10
"""How long a worker may take to end in order before it is killed."""


def serve(settings: Settings) -> None:
    """Serve until the process is told to stop."""
    for name in _SECRETS:
        os.environ.pop(name, None)  # the server copies the environment into each request
    if multiprocessing.get_start_method(allow_none=True) is None:
        multiprocessing.set_start_method("fork")
    server = Granian(
        "policy_engine",
        address=settings.host,
        port=settings.port,
        interface=Interfaces.WSGI,
        workers=settings.workers,
        runtime_threads=1,
        blocking_threads=settings.threads,
        websockets=False,
        respawn_failed_workers=True,
        workers_kill_timeout=_STOP_SECONDS,
        log_enabled=False,
        process_name=None,
    )
    server.serve(target_loader=partial(_load, settings), wrap_loader=False)


def _load(settings: Settings) -> Application:
    for number in (signal.SIGINT, signal.SIGTERM):
        # Until it serves, a worker has the handlers of its parent, with which it would not end when it is told to.
        signal.signal(number, signal.SIG_DFL)
    from policy_engine.http.worker import load  # noqa: PLC0415 - only workers need the memory for it

    return load(settings)
