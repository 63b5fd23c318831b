"""Servers to measure: started on free loopback ports, stopped by their own process ids."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from urllib.error import URLError
from urllib.request import urlopen

from policy_engine.config import Settings

START_SECONDS = 90
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    pid: int
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def service(policy_file: Path, data: Path, **settings: str) -> Iterator[Server]:
    """Run the service as a user would; settings are environment variables."""
    port = free_port()
    command = [sys.executable, "-m", "policy_engine.cli.main", "serve", "--port", str(port), "--metrics-port", "0"]
    more = ["--stream-port", "0"] if "POLICY_STREAM_PORT" not in settings else []
    where = ["--data-dir", str(data), "--policy-file", str(policy_file)]
    trusted = {"POLICY_TRUSTED_NETWORKS": "127.0.0.0/8", "POLICY_TRUSTED_ROLES": "admin"}
    with _running([*command, *more, *where], port, "/livez", {**trusted, **settings}) as server:
        yield server


@contextmanager
def granian(target: str) -> Iterator[Server]:
    """Run a WSGI callable on the same server with the same settings as the service."""
    port = free_port()
    flags = ["--interface", "wsgi", "--workers", "1", "--runtime-threads", "1", "--no-ws", "--no-log"]
    threads = ["--blocking-threads", str(Settings().threads)]
    command = [sys.executable, "-m", "granian", *flags, *threads, "--port", str(port), target]
    with _running(command, port, "/") as server:
        yield server


@contextmanager
def _running(
    command: list[str], port: int, path: str, settings: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Server]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("POLICY_", "NODE_IP_"))}
    environment = {**kept, **settings}
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=quiet, stderr=quiet) as process:
        try:
            _wait(f"http://127.0.0.1:{port}{path}", process)
            yield Server(process.pid, port)
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a server; if it does not listen, its workers too, which would keep the port."""
    if process.poll() is not None:
        return
    tree = _tree(process.pid)
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        for pid in tree:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urlopen(url, timeout=1):  # noqa: S310 - loopback
                return
        except URLError as error:
            if getattr(error, "code", None) is not None:  # it answers, if only that there is nothing there
                return
            time.sleep(0.05)
    raise RuntimeError(f"{url} does not answer")


def proportional_memory(pid: int) -> float:
    """Return the PSS of a process and its descendants in MB (Linux)."""
    kilobytes = 0
    for one in _tree(pid):
        rollup = Path(f"/proc/{one}/smaps_rollup").read_text(encoding="ascii")
        kilobytes += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return kilobytes / 1024


def _tree(pid: int) -> list[int]:
    """Return a process and its descendants, whichever of their threads started them."""
    found = [pid]
    for one in found:
        for children in Path(f"/proc/{one}/task").glob("*/children"):
            with suppress(OSError):  # the thread has ended meanwhile
                found.extend(int(child) for child in children.read_text(encoding="ascii").split())
    return found
