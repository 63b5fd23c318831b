"""Functions at work: which code a policy means, how many run at once, what is kept of their answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from threading import BoundedSemaphore, local
from typing import Any, TypeAlias

from policy_engine.functions.answer import read_answer
from policy_engine.functions.cache import AnswerCache, pick
from policy_engine.functions.check import check_code
from policy_engine.functions.counters import Counters
from policy_engine.functions.sandbox import Measured, Sandbox, SandboxError
from policy_engine.language.suggest import did_you_mean
from policy_engine.model.diagnostic import Diagnostic
from policy_engine.model.errors import FunctionBusyError, InvalidPolicyError
from policy_engine.model.function import StoredFunction
from policy_engine.model.policy import Policy, PolicySet

Call: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]

MAX_TURN_SECONDS = 5.0
"""How much time the functions of one request may take together: a batch has many items, a type many policies."""

MAX_TURN_TIMEOUTS = 3
"""How many of them may take too long before the rest of the request is denied unasked."""

MAX_SHADOW_SECONDS = 1.0
MAX_SHADOW_TIMEOUTS = 1
"""The same for what shadow policies are asked for: less, since the request goes on for as long."""


class _Share:
    """What some functions of one request may take, and what they have taken."""

    def __init__(self, free: BoundedSemaphore, seconds: float, timeouts: int) -> None:
        self._free = free
        self._holds = False
        self._seconds = seconds
        self._timeouts = timeouts

    def enter(self) -> bool:
        """Let the request into functions, once; return whether it may.

        Raises:
            SandboxError: It has had its share.
        """
        if self._seconds < 0 or self._timeouts <= 0:
            raise SandboxError("timeout", "the functions of this request took too long together")
        self._holds = self._holds or self._free.acquire(blocking=False)
        return self._holds

    def spend(self, seconds: float, error: SandboxError | None) -> None:
        """Note what a call has taken."""
        self._seconds -= seconds
        self._timeouts -= error is not None and error.kind == "timeout"

    def leave(self) -> None:
        """Let another request in."""
        if self._holds:
            self._free.release()


class _Turn:
    """The shares of one request: what decides cannot be held up by what only watches."""

    def __init__(self, free: BoundedSemaphore, shadow_free: BoundedSemaphore) -> None:
        self.depth = 0
        self.deciding = _Share(free, MAX_TURN_SECONDS, MAX_TURN_TIMEOUTS)
        self.shadow = _Share(shadow_free, MAX_SHADOW_SECONDS, MAX_SHADOW_TIMEOUTS)


class FunctionRuntime:
    """Runs the functions of policies in a sandbox; what gives no clear answer raises, so that it denies."""

    def __init__(self, sandbox: Sandbox, *, at_once: int, shadow_at_once: int = 1) -> None:
        """Prepare to run functions.

        Args:
            sandbox: What runs them: `at_once + shadow_at_once` at a time.
            at_once: How many requests may be inside functions at a time; for the rest they are busy.
            shadow_at_once: How many more may be inside functions for shadow policies alone.
        """
        self._sandbox = sandbox
        self._free = BoundedSemaphore(at_once)
        self._shadow_free = BoundedSemaphore(shadow_at_once)
        self._cache = AnswerCache()
        self._local = local()
        self.counters = Counters()

    def close(self) -> None:
        """End what runs functions."""
        self._sandbox.close()

    def resolve(self, policy_set: PolicySet, policy: Policy) -> Call | None:
        """Return what calls the function of a policy; None when there is no such function.

        Of a policy in shadow the calls have a share of their own.
        """
        function = function_of(policy_set.functions, policy)
        return None if function is None else partial(self.call, function, function.digest, shadow=policy.shadow)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Take all calls of this thread until the end for those of one request."""
        turn = self._turn
        turn.depth += 1
        try:
            yield
        finally:
            turn.depth -= 1
            if not turn.depth:
                self._local.turn = None
                turn.deciding.leave()
                turn.shadow.leave()

    @property
    def _turn(self) -> _Turn:
        turn = getattr(self._local, "turn", None)
        if turn is None:
            turn = self._local.turn = _Turn(self._free, self._shadow_free)
        return turn

    def call(
        self, function: StoredFunction, digest: str, context: dict[str, Any], *, shadow: bool = False
    ) -> dict[str, Any]:
        """Return what a function answers to a context; from the cache where it declares its inputs.

        A function that declares its inputs sees those and nothing else of the context.

        Raises:
            SandboxError: It gives no answer, or none of the shape that is asked for.
            FunctionBusyError: Too many requests are inside functions.
        """
        if function.inputs is None:
            return self._run(function, context, shadow=shadow)
        inputs = pick(context, function.inputs)
        key = self._cache.key(digest, inputs)
        kept = None if key is None else self._cache.get(key)
        self.counters.looked_up(found=kept is not None)
        if kept is not None:
            return kept
        answer = self._run(function, inputs, shadow=shadow)
        if key is not None:
            self._cache.put(key, answer)
        return answer

    def _run(self, function: StoredFunction, context: dict[str, Any], *, shadow: bool) -> dict[str, Any]:
        with self._entered(shadow=shadow) as share:
            began = time.perf_counter()
            try:
                answer = read_answer(self._sandbox.call(function.code, function.entry, context))
            except SandboxError as error:
                self._count(share, error, time.perf_counter() - began)
                raise
            self._count(share, None, time.perf_counter() - began)
            return answer

    def test(
        self, code: str, entry: str, context: dict[str, Any], *, inputs: tuple[str, ...] | None = None
    ) -> Measured:
        """Call a function for its author, and tell what that took; the value is checked as an answer.

        Args:
            code: Its source.
            entry: What is called in it.
            context: As a check has it.
            inputs: What it declares: it sees those alone, as in a check.

        Raises:
            FunctionBusyError: Too many requests are inside functions.
        """
        with self._entered() as share:
            measured = self._sandbox.measure(code, entry, context if inputs is None else pick(context, inputs))
            if measured.error is None:
                try:
                    measured = measured._replace(value=read_answer(measured.value))
                except SandboxError as error:
                    measured = measured._replace(value=None, error=error)
            self._count(share, measured.error, measured.seconds)
            return measured

    @contextmanager
    def _entered(self, *, shadow: bool = False) -> Iterator[_Share]:
        """Let a request into functions, and give the share that the call is taken from.

        Raises:
            SandboxError, FunctionBusyError: It may not.
        """
        with self.turn():
            share = self._turn.shadow if shadow else self._turn.deciding
            if not share.enter():
                self.counters.busy()
                raise FunctionBusyError("too many policy functions are running; try again")
            yield share

    def _count(self, share: _Share, error: SandboxError | None, seconds: float) -> None:
        share.spend(seconds, error)
        if error is None:
            self.counters.answered(seconds)
        else:
            self.counters.failed(error.kind, seconds, killed=error.killed)


def check_function(policy: Policy, functions: Mapping[str, StoredFunction]) -> None:
    """Refuse a policy that names a function that is not there, or brings one that cannot run.

    Raises:
        InvalidPolicyError: With every fault and its place in the policy.
    """
    faults: list[Diagnostic] = []
    if policy.function_id is not None and policy.function_id not in functions:
        hint = did_you_mean(policy.function_id, functions)
        faults.append(Diagnostic(pointer="/function_id", detail=f"no function `{policy.function_id}`", hint=hint))
    if policy.function_code is not None:
        found = check_code(policy.function_code).faults
        faults += [Diagnostic(pointer="/function_code", detail=fault.placed, hint=fault.hint) for fault in found]
    if faults:
        raise InvalidPolicyError(faults)


def function_of(functions: Mapping[str, StoredFunction], policy: Policy) -> StoredFunction | None:
    """Return the function that a policy names, or the one that its own code is; None when there is none to run."""
    if policy.function_id is not None:
        return functions.get(policy.function_id)
    checked = check_code(policy.function_code or "")
    if checked.faults:
        return None
    return StoredFunction(id=policy.id, name=policy.name, code=policy.function_code or "", entry=checked.entry)
