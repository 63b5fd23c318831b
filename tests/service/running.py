"""The real service as a process: start it, talk to it, end it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from random import SystemRandom
from signal import SIGKILL
from ssl import SSLContext
from typing import Any, NamedTuple

COMMAND = (sys.executable, "-m", "policy_engine.cli.main")
DEADLINE_SECONDS = 20.0
_ATTEMPTS = 5
_ports = SystemRandom()


TRUSTED = {"POLICY_TRUSTED_NETWORKS": "127.0.0.0/8,::1", "POLICY_TRUSTED_ROLES": "admin"}
"""What lets tests change everything from this machine without a key."""


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def environment(**more: str) -> dict[str, str]:
    """An environment in which no setting of the person who runs the tests is in force."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "PYTHONPATH") if name in os.environ}
    return {**kept, **more}


def free_ports(count: int) -> list[int]:
    """Different ports, each as `free_port` finds it."""
    found: set[int] = set()
    while len(found) < count:
        found.add(free_port())
    return [*found]


def free_port() -> int:
    """A port nobody listens on, below those that the system gives to outgoing connections."""
    while True:
        port = _ports.randrange(12_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def eventually(found: Callable[[], Any], what: str, seconds: float = DEADLINE_SECONDS) -> Any:
    """The first true answer; a failure when there is none by the deadline."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = found()
        if answer:
            return answer
        time.sleep(0.01)
    raise AssertionError(f"not within {seconds} s: {what}")


class Running:
    """A service that was started."""

    def __init__(
        self, process: subprocess.Popen[bytes], port: int, metrics_port: int, stream_port: int, log: Path
    ) -> None:
        self.process = process
        self.port = port
        self.metrics_port = metrics_port
        self.stream_port = stream_port
        self.tls: SSLContext | None = None
        self._log = log

    @classmethod
    def start(cls, directory: Path, settings: Mapping[str, str], tls: SSLContext | None = None) -> Running:
        """Start on free ports and wait until it answers; another process may take a port first, so try again."""
        for attempt in range(_ATTEMPTS):
            running = cls._launch(directory, settings, attempt, tls)
            if running is not None:
                return running
        raise AssertionError("no free port was found")

    @classmethod
    def _launch(
        cls, directory: Path, settings: Mapping[str, str], attempt: int, tls: SSLContext | None
    ) -> Running | None:
        port, metrics_port, stream_port = free_ports(3)
        log = directory / f"serve-{port}-{attempt}.log"
        flags = [
            "--port",
            str(port),
            "--metrics-port",
            str(metrics_port),
            "--stream-port",
            str(stream_port),
            "--data-dir",
            str(directory / "data"),
        ]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*COMMAND, "serve", *flags],
                env=environment(**{"POLICY_WATCH_INTERVAL_SECONDS": "0.05", **TRUSTED, **settings}),
                cwd=directory,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        running = cls(process, port, metrics_port, stream_port, log)
        running.tls = tls
        try:
            eventually(lambda: running.alive() or process.poll() is not None, "the service answers")
        except AssertionError:
            running.stop()
            raise
        if process.poll() is None:
            return running
        if "cannot listen" in running.log():
            return None
        raise AssertionError(running.log())

    def alive(self) -> bool:
        try:
            return self.request("GET", "/livez").status == 200
        except OSError:
            return False

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        port: int | None = None,
    ) -> Answer:
        """One request; a body that is not bytes is sent as JSON."""
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection = self._connection(port or self.port)
        try:
            connection.request(method, path, content, {"Content-Type": "application/json", **(headers or {})})
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def _connection(self, port: int) -> HTTPConnection:
        if self.tls is not None and port != self.metrics_port:
            return HTTPSConnection("127.0.0.1", port, timeout=DEADLINE_SECONDS, context=self.tls)
        return HTTPConnection("127.0.0.1", port, timeout=DEADLINE_SECONDS)

    def get(self, path: str) -> Any:
        return self.request("GET", path).json

    def readiness(self) -> Any:
        return self.get("/readyz")

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def stop(self) -> int:
        """End it and return its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(DEADLINE_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, SIGKILL)
                self.process.wait()
                raise
        return self.process.returncode
