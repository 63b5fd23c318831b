"""Functions at work: what is kept, how many run at once, what one request may take."""

from __future__ import annotations

from threading import Event, Thread
from typing import Any

import pytest

from policy_engine.functions.cache import AnswerCache, pick
from policy_engine.functions.function import read_function
from policy_engine.functions.monty import MontySandbox
from policy_engine.functions.runtime import MAX_SHADOW_TIMEOUTS, MAX_TURN_TIMEOUTS, FunctionRuntime
from policy_engine.functions.sandbox import Measured, SandboxError
from policy_engine.model.errors import FunctionBusyError
from policy_engine.model.function import StoredFunction

CODE = "def judge(context):\n    return {'allowed': context.get('n', 0) > 1, 'parameters': {'seen': sorted(context)}}\n"
SLOW = "def judge(context):\n    while True: pass\n"


def function(code: str = CODE, **metadata: Any) -> StoredFunction:
    return read_function({"id": "judge", "code": code, "metadata": metadata})


def call(runtime: FunctionRuntime, which: StoredFunction, **context: Any) -> dict[str, Any]:
    return runtime.call(which, which.digest, context)


@pytest.fixture
def runtime(sandbox: MontySandbox) -> FunctionRuntime:
    return FunctionRuntime(sandbox, at_once=1)


def test_without_inputs_every_call_runs(runtime: FunctionRuntime) -> None:
    assert [call(runtime, function(), n=2)["allowed"] for _ in range(3)] == [True] * 3
    counted = runtime.counters.snapshot()
    assert (counted.calls, counted.cache_hits, counted.cache_misses) == (3, 0, 0)


def test_with_inputs_it_runs_once_for_each(runtime: FunctionRuntime) -> None:
    declared = function(inputs=["n"])
    answers = [call(runtime, declared, n=n, timestamp=time) for time, n in enumerate((2, 2, 1, 2, 1))]
    assert [answer["allowed"] for answer in answers] == [True, True, False, True, False]
    counted = runtime.counters.snapshot()
    assert (counted.calls, counted.cache_hits, counted.cache_misses) == (2, 3, 2)


def test_what_declares_its_inputs_sees_those_alone(runtime: FunctionRuntime) -> None:
    assert call(runtime, function(inputs=["n"]), n=1, secret=2)["parameters"] == {"seen": ["n"]}


def test_one_and_true_and_another_function_are_kept_apart(runtime: FunctionRuntime) -> None:
    code = "def judge(context): return {'allowed': True, 'reason': repr(context.get('n'))}"
    declared = function(code, inputs=["n"])
    found = [call(runtime, declared, **context)["reason"] for context in ({"n": 1}, {"n": 1.0}, {"n": True}, {})]
    assert found == ["1", "1.0", "True", "None"]
    assert call(runtime, declared, n=None)["reason"] == "None"
    assert call(runtime, function(code + "\n", inputs=["n"]), n=1)["reason"] == "1"
    assert runtime.counters.snapshot().cache_hits == 0


def test_a_failure_is_not_kept(runtime: FunctionRuntime) -> None:
    failing = function("def judge(context): return 5", inputs=["n"])
    for _ in range(2):
        with pytest.raises(SandboxError):
            call(runtime, failing, n=1)
    assert runtime.counters.snapshot().failures == {"answer": 2}


def test_the_cache_is_bounded() -> None:
    cache = AnswerCache(2)
    for name in "abac":
        cache.put(("f", name.encode()), {"allowed": True, "reason": name})
    assert [cache.get(("f", name)) is not None for name in (b"a", b"b", b"c")] == [True, False, True]
    cache.put(("f", b"d"), {"reason": "x" * 5000})
    assert cache.get(("f", b"d")) is None
    assert cache.key("f", {"n": "x" * 5000}) is None


@pytest.mark.parametrize(
    ("context", "picked"),
    [
        ({"a": 1, "b": {"c": 2, "d": 3}, "e": 4}, {"a": 1, "b": {"c": 2}}),
        ({"b": {}}, {}),
        ({"b": 5}, {}),
        ({"a": None}, {"a": None}),
    ],
)
def test_a_part_of_a_context_is_picked(context: dict[str, Any], picked: dict[str, Any]) -> None:
    assert pick(context, ("a", "b.c")) == picked


class Waiting:
    """A sandbox whose calls wait until they are let go."""

    def __init__(self) -> None:
        self.entered, self.let_go = Event(), Event()

    def call(self, _code: str, _entry: str, _context: dict[str, Any]) -> Any:
        self.entered.set()
        self.let_go.wait(30)
        return {"allowed": True}

    def measure(self, code: str, entry: str, context: dict[str, Any]) -> Measured:
        return Measured(self.call(code, entry, context), None, 0.0, None, "")

    def close(self) -> None:
        self.let_go.set()


def test_one_request_too_many_is_told_at_once_that_functions_are_busy() -> None:
    waiting = Waiting()
    runtime = FunctionRuntime(waiting, at_once=1)
    inside = Thread(target=call, args=(runtime, function()))
    inside.start()
    assert waiting.entered.wait(30)
    with pytest.raises(FunctionBusyError):
        call(runtime, function())
    with pytest.raises(FunctionBusyError):
        runtime.test(CODE, "judge", {})
    waiting.let_go.set()
    inside.join(30)
    assert call(runtime, function()) == {"allowed": True}
    assert runtime.counters.snapshot().busy == 2


def test_a_request_gives_back_its_place_when_it_ends() -> None:
    waiting = Waiting()
    waiting.let_go.set()
    runtime = FunctionRuntime(waiting, at_once=1)
    outcome: list[str] = []

    def other() -> None:
        try:
            outcome.append(str(call(runtime, function())["allowed"]))
        except FunctionBusyError:
            outcome.append("busy")

    with runtime.turn():
        call(runtime, function())
        call(runtime, function())
        for _ in range(2):
            thread = Thread(target=other)
            thread.start()
            thread.join(30)
    other()
    assert outcome == ["busy", "busy", "True"]


def test_a_request_whose_functions_time_out_is_not_served_for_ever(runtime: FunctionRuntime) -> None:
    with runtime.turn():
        for _ in range(MAX_TURN_TIMEOUTS):
            with pytest.raises(SandboxError, match="it took too long"):
                call(runtime, function(SLOW))
        with pytest.raises(SandboxError, match="took too long together"):
            call(runtime, function(), n=2)
    assert call(runtime, function(), n=2)["allowed"] is True
    assert runtime.counters.snapshot().failures == {"timeout": MAX_TURN_TIMEOUTS}


def watch(runtime: FunctionRuntime, which: StoredFunction, **context: Any) -> dict[str, Any]:
    return runtime.call(which, which.digest, context, shadow=True)


def test_what_only_watches_takes_nothing_from_what_decides(runtime: FunctionRuntime) -> None:
    with runtime.turn():
        for _ in range(MAX_SHADOW_TIMEOUTS):
            with pytest.raises(SandboxError, match="it took too long"):
                watch(runtime, function(SLOW))
        with pytest.raises(SandboxError, match="took too long together"):
            watch(runtime, function(), n=2)
        for _ in range(MAX_TURN_TIMEOUTS - 1):
            with pytest.raises(SandboxError, match="it took too long"):
                call(runtime, function(SLOW))
        assert call(runtime, function(), n=2)["allowed"] is True


def test_what_only_watches_has_places_of_its_own() -> None:
    waiting = Waiting()
    runtime = FunctionRuntime(waiting, at_once=1)
    inside = Thread(target=watch, args=(runtime, function()))
    inside.start()
    assert waiting.entered.wait(30)
    with pytest.raises(FunctionBusyError):
        watch(runtime, function())
    waiting.let_go.set()
    with runtime.turn():
        assert call(runtime, function()) == {"allowed": True}
    inside.join(30)
    assert watch(runtime, function()) == {"allowed": True}
