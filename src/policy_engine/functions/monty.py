"""The sandbox: Monty, a Python interpreter without a way out, in worker processes with limits of their own."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any, Final

from pydantic_monty import (
    CollectString,
    Monty,
    MontyCrashedError,
    MontyError,
    MontyRuntimeError,
    MontySession,
    MontySyntaxError,
    OSPolicy,
    ResourceLimits,
)

from policy_engine.cores import anywhere
from policy_engine.functions.check import is_entry
from policy_engine.functions.sandbox import Measured, SandboxError
from policy_engine.model.errors import FunctionBusyError

MAX_SECONDS = 0.1
"""How long a call may take by the interpreter's own clock."""

GRACE_SECONDS = 0.2
"""How much longer this process waits before it ends the worker: single long operations ignore that clock."""

MAX_WAIT_SECONDS = 0.25
"""How long a call waits for a worker, which somebody else may just be replacing."""

MAX_MEMORY_BYTES = 32 << 20
MAX_OUTPUT_BYTES = 4096
MAX_RECURSION = 100
MAX_MESSAGE = 1000

_LIMITS: Final[ResourceLimits] = {
    "max_feed_duration_secs": MAX_SECONDS,
    "max_turn_duration_secs": MAX_SECONDS,
    "max_memory": MAX_MEMORY_BYTES,
    "max_recursion_depth": MAX_RECURSION,
    "max_suspensions": 1,
    "max_total_sleep_secs": 0.0,
}
_OS_POLICY: Final[OSPolicy] = {"sleep": "zero", "timezone": "utc"}

_WORKER = """#!/bin/sh
ulimit -v 1048576 && ulimit -n 16 && ulimit -f 0 && ulimit -c 0 && exec env -i {binary} "$@" 2>/dev/null
exit 70
"""
"""What starts a worker: no more than 1 GB of addresses, 16 open files, nothing written, no core, no environment.

What a worker says on its standard error is about users' code and would stand in the log of the service.
"""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,63}")


class MontySandbox:
    """Runs each call in a session of its own, in one of a few worker processes.

    The workers are started by the first call, in the process that makes it. A process that was forked from there cannot
    use them: what serves has to fork first and call then.
    """

    def __init__(self, processes: int) -> None:
        """Prepare a sandbox.

        Args:
            processes: How many calls can run at once.
        """
        self._processes = processes
        self._pool: Monty | None = None
        self._owner = 0
        self._script = -1
        self._lock = Lock()

    def call(self, code: str, entry: str, context: dict[str, Any]) -> Any:
        """Return what a function answers.

        Raises:
            SandboxError, FunctionBusyError: As `Sandbox.call`.
        """
        program = _program(code, entry)
        try:
            with self._session() as session:
                return session.feed_run(program, inputs={"context": context}, print_callback=_output())
        except MontyError as error:
            raise _explain(error) from None
        except TimeoutError:
            raise FunctionBusyError("no worker is free to run a policy function") from None
        except OSError as error:
            raise SandboxError("crashed", "the sandbox cannot be started") from error

    def measure(self, code: str, entry: str, context: dict[str, Any]) -> Measured:
        """Call a function and tell what that took.

        Raises:
            FunctionBusyError: As `Sandbox.call`.
        """
        program = _program(code, entry)
        output = _output()
        value: Any = None
        failed: SandboxError | None = None
        memory: int | None = None
        began = time.perf_counter()
        try:
            with self._session() as session:
                before = _mark(session)
                began = time.perf_counter()
                try:
                    value = session.feed_run(program, inputs={"context": context}, print_callback=output)
                finally:
                    seconds = time.perf_counter() - began
                    memory = _grown(session, before)
        except MontyError as error:
            seconds = time.perf_counter() - began
            failed = _explain(error)
        except TimeoutError:
            raise FunctionBusyError("no worker is free to run a policy function") from None
        except OSError as error:
            raise SandboxError("crashed", "the sandbox cannot be started") from error
        return Measured(value, failed, seconds, memory, output.output)

    def close(self) -> None:
        """End the workers."""
        with self._lock:
            pool, self._pool = self._pool, None
            if pool is not None and self._owner == os.getpid():
                pool.__exit__(None, None, None)
                os.close(self._script)

    @contextmanager
    def _session(self) -> Iterator[MontySession]:
        with anywhere(), self._started().checkout(limits=_LIMITS, os_policy=_OS_POLICY) as session:
            yield session

    def _started(self) -> Monty:
        if self._pool is None:
            with self._lock:
                if self._pool is None:
                    self._pool = self._start()
                    self._owner = os.getpid()
        if self._owner != os.getpid():  # its threads did not come along: a call would never return
            raise SandboxError("crashed", "the sandbox belongs to the process that this one was forked from")
        return self._pool

    def _start(self) -> Monty:
        # The script lives in memory: nothing is left of it, however this process ends.
        self._script = os.memfd_create("policy-function-worker")
        os.write(self._script, _WORKER.format(binary=shlex.quote(_binary())).encode())
        pool = Monty(
            binary_path=f"/proc/{os.getpid()}/fd/{self._script}",
            min_processes=1,
            max_processes=self._processes,
            checkout_timeout=MAX_WAIT_SECONDS,
            request_timeout=1.0,
            feed_duration_limit_grace=GRACE_SECONDS,
            turn_duration_limit_grace=GRACE_SECONDS,
            max_checkouts_per_worker=5000,
        )
        return pool.__enter__()


def _binary() -> str:
    """Return where the interpreter is: beside this one, where its package puts it, or on the path."""
    beside = Path(sysconfig.get_path("scripts")) / "monty"
    found = str(beside) if beside.is_file() else shutil.which("monty")
    if found is None:
        raise FileNotFoundError("there is no `monty`")
    return found


def _program(code: str, entry: str) -> str:
    if not is_entry(entry):
        raise SandboxError("source", "there is no function to call")
    return f"{code}\n{entry}(context)\n"


def _output() -> CollectString:
    return CollectString(MAX_OUTPUT_BYTES)


def _explain(error: MontyError) -> SandboxError:
    """Return why there is no answer, in words that any caller may read: what the code itself says is kept apart."""
    if isinstance(error, MontyCrashedError):
        if error.timed_out:
            return SandboxError("timeout", "it took too long and was ended", killed=True)
        return SandboxError("crashed", "it broke off", killed=True)
    if not isinstance(error, (MontyRuntimeError, MontySyntaxError)):
        return SandboxError("crashed", "it cannot be run")
    shown = error.display("type-msg")[:MAX_MESSAGE]
    frames = error.traceback()
    line = frames[-1].line if frames else 0
    if isinstance(error, MontySyntaxError):
        return SandboxError("source", "its source cannot be run", line=line, message=shown)
    name = _NAME.match(shown)
    raised = name[0] if name else "an error"
    if not frames and raised == "TimeoutError":  # raised by the code itself, it would have a place in the code
        return SandboxError("timeout", "it took too long")
    if raised == "MemoryError":
        killed = not frames and "terminated" in shown
        return SandboxError("memory", "it needs too much memory", line=line, killed=killed, message=shown)
    return SandboxError("raised", f"it raised {raised}", line=line, message=shown)


# Memory: what the kernel knows of the worker


def _mark(session: MontySession) -> int | None:
    """Let the peak of the worker's memory begin anew; return what it has, in bytes."""
    with suppress(OSError):
        Path(f"/proc/{session.worker_pid}/clear_refs").write_text("5", encoding="ascii")
        return _status(session, "VmRSS")
    return None


def _grown(session: MontySession, before: int | None) -> int | None:
    peak = None if before is None else _status(session, "VmHWM")
    return None if peak is None or before is None else max(0, peak - before)


def _status(session: MontySession, field: str) -> int | None:
    with suppress(OSError):
        text = Path(f"/proc/{session.worker_pid}/status").read_text(encoding="ascii")
        found = re.search(rf"^{field}:\s*(\d+) kB$", text, re.MULTILINE)
        return int(found[1]) * 1024 if found else None
    return None
