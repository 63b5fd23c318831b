"""The sandbox: it contains what is hostile, and answers what is not as Python does."""

from __future__ import annotations

import copy
import os
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from pydantic_monty import Monty, MontyError
from tests.functions.hostile import HOSTILE, sources
from tests.functions.realistic import REALISTIC
from tests.processes import sandboxes_below

from policy_engine.functions.answer import read_answer
from policy_engine.functions.check import check_code
from policy_engine.functions.monty import MAX_WAIT_SECONDS, MontySandbox
from policy_engine.functions.sandbox import SandboxError
from policy_engine.functions.supported import BUILTINS, MODULES
from policy_engine.model.errors import FunctionBusyError

HIDDEN = "s3cret-of-the-request"
FINE = "def judge(context):\n    return {'allowed': context['n'] > 1}\n"


def outcome(sandbox: MontySandbox, source: str, context: dict[str, Any]) -> str:
    try:
        read_answer(sandbox.call(source, "judge", context))
    except SandboxError as error:
        failed = error
    else:
        return ""
    assert HIDDEN not in str(failed)
    assert len(failed.message) <= 1000
    return failed.kind


def workers() -> set[int]:
    return sandboxes_below(os.getpid())


@pytest.mark.parametrize("name", sources())
def test_what_is_hostile_is_contained(sandbox: MontySandbox, tmp_path: Path, name: str) -> None:
    expected, source = sources()[name]
    canary = tmp_path / "canary"
    found = outcome(sandbox, source.replace("{canary}", str(canary)), {"secret": HIDDEN})
    assert found in ({expected, "timeout"} if expected else {""})
    assert not canary.exists()
    assert read_answer(sandbox.call(FINE, "judge", {"n": 2})) == {"allowed": True}


def test_there_are_enough_of_them() -> None:
    assert len(HOSTILE) >= 40
    assert len(REALISTIC) >= 20


@pytest.mark.parametrize("name", REALISTIC)
def test_what_is_realistic_is_answered_as_python_does(sandbox: MontySandbox, name: str) -> None:
    source, contexts = REALISTIC[name]
    assert check_code(source, "judge") == ("judge", ())
    for context in contexts:
        module: dict[str, Any] = {"__name__": __name__}
        exec(compile(source, name, "exec", dont_inherit=True), module)  # noqa: S102 - the text is this test's own
        expected = module["judge"](copy.deepcopy(context))
        found = read_answer(sandbox.call(source, "judge", context))
        assert found == {key: value for key, value in expected.items() if value is not None}
        assert repr(found) == repr({key: expected[key] for key in found})


def test_nothing_survives_a_call(sandbox: MontySandbox) -> None:
    source = "seen = []\ndef judge(context):\n    seen.append(1)\n    return {'allowed': len(seen) == 1}\n"
    assert all(sandbox.call(source, "judge", {}) == {"allowed": True} for _ in range(3))
    with pytest.raises(SandboxError, match="NameError"):
        sandbox.call("def other(context): return seen", "other", {})


def test_a_context_is_not_changed_by_a_call(sandbox: MontySandbox) -> None:
    context = {"client": {"rank": 1}}
    sandbox.call("def judge(context):\n    context['client']['rank'] = 2\n", "judge", context)
    assert context == {"client": {"rank": 1}}


def test_what_took_part_is_measured(sandbox: MontySandbox) -> None:
    source = "def judge(context):\n    x = ['y' * 99 + str(n) for n in range(9000)]\n    print('hi')\n    return len(x)"
    found = sandbox.measure(source, "judge", {})
    assert (found.value, found.error, found.output) == (9000, None, "hi\n")
    assert found.seconds > 0
    assert found.memory_bytes is not None
    assert 500_000 < found.memory_bytes < 64_000_000


def test_a_failure_is_measured_too(sandbox: MontySandbox) -> None:
    found = sandbox.measure("def judge(context):\n    raise ValueError('why')\n", "judge", {})
    assert found.error is not None
    assert (found.error.kind, found.error.line, found.error.message) == ("raised", 2, "ValueError: why")
    ended = sandbox.measure(sources()["dumps what shares its parts"][1], "judge", {}).error
    assert ended is not None
    assert (ended.kind, ended.killed) == ("timeout", True)


@pytest.mark.parametrize("entry", ["", "a b", "class", "judge()", "x\nimport os"])
def test_only_a_name_can_be_called(sandbox: MontySandbox, entry: str) -> None:
    with pytest.raises(SandboxError, match="no function to call"):
        sandbox.call(FINE, entry, {})


def test_calls_at_once_do_not_meet(sandbox: MontySandbox) -> None:
    def call(number: int) -> bool:
        return bool(sandbox.call("def judge(context): return context['n']", "judge", {"n": number}) == number)

    with ThreadPoolExecutor(2) as threads:
        assert all(threads.map(call, range(100)))


def test_no_worker_and_no_file_is_left_behind() -> None:
    own = MontySandbox(1)
    own.call(FINE, "judge", {"n": 1})
    own.close()  # what the first one opens stays open for those to come
    before, files = workers(), list(Path("/proc/self/fd").iterdir())
    own.close()
    assert workers() <= before, "a worker was there before the first call"
    own.call(FINE, "judge", {"n": 1})
    assert len(workers() - before) == 1
    outcome(own, sources()["dumps what shares its parts"][1], {})
    own.close()
    own.close()
    assert workers() <= before
    assert len(list(Path("/proc/self/fd").iterdir())) <= len(files)
    assert own.call(FINE, "judge", {"n": 2}) == {"allowed": True}, "it begins anew"
    own.close()


def test_a_worker_has_limits_of_its_own_and_no_environment() -> None:
    before = workers()
    own = MontySandbox(1)
    own.call(FINE, "judge", {"n": 1})
    (pid,) = workers() - before
    limits = Path(f"/proc/{pid}/limits").read_text(encoding="ascii")
    rows = {line[:26].strip(): line[26:].split()[:2] for line in limits.splitlines()}
    assert rows["Max open files"] == ["16", "16"]
    assert rows["Max file size"] == ["0", "0"]
    assert rows["Max core file size"] == ["0", "0"]
    assert rows["Max address space"] == [str(1 << 30)] * 2
    assert Path(f"/proc/{pid}/environ").read_bytes() == b""
    own.close()


def _in_child(own: MontySandbox) -> None:
    with pytest.raises(SandboxError, match="forked"):
        own.call(FINE, "judge", {"n": 2})
    own.close()


def test_a_process_that_was_forked_is_refused_and_ends_nothing() -> None:
    own = MontySandbox(1)
    own.call(FINE, "judge", {"n": 1})
    child = get_context("fork").Process(target=_in_child, args=(own,))
    child.start()
    child.join(30)
    assert child.exitcode == 0
    assert own.call(FINE, "judge", {"n": 2}) == {"allowed": True}
    own.close()


def _runs(source: str) -> bool:
    with Monty() as pool, pool.checkout() as session:
        try:
            session.feed_run(source)
        except MontyError:
            return False
    return True


def test_the_tables_say_what_the_sandbox_has() -> None:
    assert [name for name in sorted(MODULES) if not _runs(f"import {name}\n0\n")] == []
    assert [name for name in sorted(BUILTINS) if not _runs(f"{name}\n0\n")] == []
    absent = ["statistics", "logging", "ipaddress", "fnmatch", "uuid", "enum", "subprocess", "socket"]
    assert [name for name in absent if _runs(f"import {name}\n")] == []
    assert not MODULES & set(absent)


def test_a_call_for_which_no_worker_is_free_is_told_soon_that_functions_are_busy() -> None:
    own = MontySandbox(1)
    own.call(FINE, "judge", {"n": 1})
    told: list[str] = []

    def wait_in_vain() -> None:
        try:
            own.call(FINE, "judge", {"n": 1})
        except FunctionBusyError as error:
            told.append(str(error))

    with own._session():
        thread = Thread(target=wait_in_vain)
        thread.start()
        thread.join(30)
    own.close()
    assert told == ["no worker is free to run a policy function"]
    assert MAX_WAIT_SECONDS <= 0.25, "nothing on a thread that serves waits longer"


def test_what_holds_itself_is_cut_off_as_documented(sandbox: MontySandbox) -> None:
    source = "def judge(context):\n    x = []\n    x.append({'x': x})\n    return {'allowed': True, 'parameters': x[0]}"
    assert read_answer(sandbox.call(source, "judge", {}))["parameters"] == {"x": ["{...}"]}
