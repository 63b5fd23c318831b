"""The real service with hostile functions: others are answered, and no worker is left behind."""

from __future__ import annotations

import json
import os
from pathlib import Path
from threading import Event, Thread
from typing import Any

from tests.conftest import Processes
from tests.functions.hostile import sources
from tests.processes import is_sandbox, sandboxes_below
from tests.service.running import Running, eventually

CALLERS = 4
CHECKS = 60
NAMES = (
    "loops",
    "loops in a built-in",
    "dumps what shares its parts",
    "fills a list",
    "exits by name",
    "answers itself",
)


def write(file: Path) -> None:
    policies: list[dict[str, Any]] = [
        {"id": f"h{number}", "type": f"hostile-{number}", "function_code": sources()[name][1]}
        for number, name in enumerate(NAMES)
    ]
    web = {"id": "web", "type": "network_security", "rules": [{"action": "allow", "match": {"dst_port": 8080}}]}
    file.write_text(json.dumps({"policies": [*policies, web]}))


def ask(running: Running, policy_type: str) -> dict[str, Any]:
    context = {"protocol": "tcp", "dst_port": 8080}
    answer = running.request("POST", "/api/v1/check", {"policy_type": policy_type, "context": context})
    assert answer.status == 200
    found: dict[str, Any] = answer.json
    return found


def test_others_are_answered_while_hostile_functions_loop(processes: Processes, policy_file: Path) -> None:
    write(policy_file)
    running = processes()
    assert sandboxes_below(running.process.pid) == set(), "workers start with the first call"
    over = Event()
    reasons: list[set[str]] = [set() for _ in range(CALLERS)]

    def loop(number: int) -> None:
        turn = number
        while not over.is_set():
            turn += 1
            reasons[number].add(ask(running, f"hostile-{turn % len(NAMES)}")["reason_code"])

    threads = [Thread(target=loop, args=(number,)) for number in range(CALLERS)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(CHECKS):
            assert ask(running, "network_security")["allowed"] is True
            assert running.get("/livez") == {"status": "alive"}
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert set().union(*reasons) <= {"function_error", "function_busy"}
    assert "function_error" in set().union(*reasons)
    ask(running, "hostile-0")  # the worker that was ended last is replaced when it is needed
    started = sandboxes_below(running.process.pid)
    assert started
    running.stop()
    eventually(lambda: not any(is_sandbox(pid) for pid in started), "the workers are gone")


def test_workers_end_with_a_service_that_is_killed(processes: Processes, policy_file: Path) -> None:
    write(policy_file)
    running = processes()
    ask(running, "hostile-0")
    started = sandboxes_below(running.process.pid)
    assert started
    os.killpg(running.process.pid, 9)
    eventually(lambda: not any(is_sandbox(pid) for pid in started), "the workers are gone")
