"""Fuzz the service over HTTP: `python -m fuzz.service 60`, by schemathesis and its own OpenAPI document.

The real service is started on a free port, with its data in a directory that is removed afterwards. No answer may be
500, none may take longer than a second when it is asked for again, nothing may go wrong beside, by the log, and the
service has to be there at the end.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

_START_SECONDS = 30.0
_HOOKS = "fuzz.checks"
_SHOWN = 4000


def main(seconds: int) -> int:
    """Fuzz for so many seconds; return 0 when nothing was found."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as directory, _running(Path(directory)) as port:
        code = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{port}/openapi.json"),
                *("--checks", "no_error_inside", "--phases", "coverage,fuzzing", "--max-time", str(seconds)),
                *("--request-timeout", "30", "--suppress-health-check", "all", "--warnings", "off"),
                *("--exclude-path", "/openapi.json", "--continue-on-failure"),
            ],
            env={**os.environ, "SCHEMATHESIS_HOOKS": _HOOKS, "PYTHONPATH": str(Path(__file__).parents[1])},
            cwd=directory,  # it leaves files
            check=False,
        ).returncode
        if not _answers(port):
            print("the service does not answer any more")
            return 1
        logged = (Path(directory) / "log").read_text(encoding="utf-8", errors="replace")
    if "Traceback" in logged:
        print("something went wrong inside:", logged[logged.index("Traceback") :][:_SHOWN])
        return 1
    return code


@contextmanager
def _running(directory: Path) -> Iterator[int]:
    """Start a service, which logs to the file `log`."""
    port = _free_port()
    config, log = directory / "config.json", directory / "log"
    rates = {f"rate_limit_{name}": "off" for name in ("writes", "logins", "anonymous_checks")}
    config.write_text(json.dumps({**rates, "max_body_bytes": 2**20}), encoding="utf-8")
    flags = ["--port", str(port), "--metrics-port", "0", "--stream-port", "0", "--data-dir", str(directory / "data")]
    command = [sys.executable, "-m", "policy_engine.cli.main", "serve", *flags, "--config", str(config)]
    with log.open("wb") as output, subprocess.Popen(command, cwd=directory, stdout=output, stderr=output) as process:
        try:
            deadline = time.monotonic() + _START_SECONDS
            while not _answers(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the service does not start: {log.read_text(errors='replace')}")
                time.sleep(0.1)
            yield port
        finally:
            process.terminate()
            process.wait(30)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/livez")
        return connection.getresponse().status == 200  # noqa: PLR2004 - it is alive
    except OSError:
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
