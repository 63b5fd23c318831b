"""Serve the app with granian: this process starts and watches the workers, and holds nothing of the service itself."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from granian import Granian
from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings

from policy_engine.config import Settings, is_loopback
from policy_engine.tls import Tls, read_tls

if TYPE_CHECKING:
    from policy_engine.http.front import Application

log = logging.getLogger(__name__)

_SECRETS = ("POLICY_ADMIN_KEY", "POLICY_DATABASE")
MAX_HEAD_BYTES = 64 * 1024
"""How long the line and the headers of a request may be; more than a hundred headers are not taken either."""

_HEAD_SECONDS = 10
_STOP_SECONDS = 10
"""How long a worker may take to end in order before it is killed."""


def serve(settings: Settings) -> None:
    """Serve until the process is told to stop.

    Raises:
        SettingsError: What is needed for TLS cannot be used.
    """
    tls = read_tls(settings)
    _warn(settings, tls)
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
        http=HTTPModes.http1,  # headers of HTTP/2 have no bound of use
        http1_settings=HTTP1Settings(header_read_timeout=_HEAD_SECONDS * 1000, max_buffer_size=MAX_HEAD_BYTES),
        websockets=False,
        respawn_failed_workers=True,
        workers_kill_timeout=_STOP_SECONDS,
        log_enabled=False,
        process_name=None,
        **_listening(tls),
    )
    server.serve(target_loader=partial(_load, settings), wrap_loader=False)


def _warn(settings: Settings, tls: Tls | None) -> None:
    if tls is None:
        if not is_loopback(settings.host):
            log.warning(
                "listening on %s without TLS: keys and answers can be read and altered on the way; set tls_certificate"
                " and tls_key, or put a proxy with TLS in front and listen on 127.0.0.1",
                settings.host,
            )
    elif tls.expires_soon(datetime.now(UTC)):
        log.warning("the certificate `%s` expires at %s", tls.certificate, tls.expires.isoformat())


_TLS_VERSIONS = {"1.2": SSLProtocols.tls12, "1.3": SSLProtocols.tls13}


def _listening(tls: Tls | None) -> dict[str, Any]:
    """Return what the server has to know of TLS; it verifies nobody without an authority, which `read_tls` refuses."""
    if tls is None:
        return {}
    return {
        "ssl_cert": tls.certificate,
        "ssl_key": tls.key,
        "ssl_ca": tls.client_ca,
        "ssl_client_verify": tls.verify == "required",
        "ssl_protocol_min": _TLS_VERSIONS[tls.min_version],
    }


def _load(settings: Settings) -> Application:
    for number in (signal.SIGINT, signal.SIGTERM):
        # Until it serves, a worker has the handlers of its parent, with which it would not end when it is told to.
        signal.signal(number, signal.SIG_DFL)
    from policy_engine.http.worker import load  # noqa: PLC0415 - only workers need the memory for it

    return load(settings)
