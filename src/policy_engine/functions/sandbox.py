"""What runs users' code: one small protocol, so that the rest need not know which sandbox it is."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from policy_engine.model.errors import FunctionFailedError


class SandboxError(FunctionFailedError):
    """Users' code gave no answer.

    Attributes:
        kind: "timeout", "memory", "crashed", "raised" or "source".
        line: Where in the source, counted from 1; 0 when that is not known.
        killed: Whether the process that ran it had to be ended.
        message: What the code itself said, for its author alone; "" when it said nothing.
    """

    def __init__(self, kind: str, detail: str, *, line: int = 0, killed: bool = False, message: str = "") -> None:
        super().__init__(detail)
        self.kind = kind
        self.line = line
        self.killed = killed
        self.message = message


class Measured(NamedTuple):
    """One call and what it took.

    Attributes:
        value: What the code answered, as it is: not checked yet.
        error: Why there is no answer.
        seconds: How long it took.
        memory_bytes: By how much the memory of the process that ran it grew at most; None when that is not known.
        output: What it printed.
    """

    value: Any
    error: SandboxError | None
    seconds: float
    memory_bytes: int | None
    output: str


class Sandbox(Protocol):
    """Runs one function at a time per thread, and keeps nothing of it.

    Whatever the code does, a call ends within a second or so. It sees its context and nothing else: no file, no
    network, no process, no other call.
    """

    def call(self, code: str, entry: str, context: dict[str, Any]) -> Any:
        """Return what a function answers; it is whatever users' code made: walk it with a bound before using it.

        Raises:
            SandboxError: It gave no answer.
            FunctionBusyError: There is nothing free to run it.
        """

    def measure(self, code: str, entry: str, context: dict[str, Any]) -> Measured:
        """Call a function and tell what that took.

        Raises:
            FunctionBusyError: As `call`.
        """

    def close(self) -> None:
        """End what runs code; a call after that begins anew."""
