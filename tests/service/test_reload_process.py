"""The policy file changes while the real service runs."""

from __future__ import annotations

import json
from contextlib import closing
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from threading import Event, Thread
from typing import Any

from tests.conftest import Processes
from tests.service.running import DEADLINE_SECONDS, Running, eventually

from policy_engine.language.canonical import digest
from policy_engine.language.document import parse_document

REWRITES = 200
BROKEN_EVERY = 10


def allow(port: int, **parameters: int) -> dict[str, Any]:
    rule = {"action": "allow", "match": {"protocol": "tcp", "dst_port": port}, "parameters": parameters}
    return {"version": 1, "policies": [{"id": "web", "type": "network_security", "rules": [rule]}]}


def allowed(running: Running, port: int) -> bool:
    body = {"policy_type": "network_security", "context": {"protocol": "tcp", "dst_port": port}}
    return bool(running.request("POST", "/api/v1/check", body).json["allowed"])


def degraded(running: Running, said: str) -> Any:
    """What the service says once it is degraded for this reason."""

    def found() -> Any:
        ready = running.readiness()
        return ready if any(said in reason["detail"] for reason in ready["reasons"]) else None

    return eventually(found, f"degraded: {said}")


BROKEN = {
    "": "empty",
    "{": "not valid JSON",
    '{"policies": [{"id": "a", "type": "b", "rules": [{"action": "denny"}]}]}': "did you mean `deny`",
    None: "No such file",
}


def test_broken_files_and_recovery(processes: Processes, policy_file: Path) -> None:
    running = processes()
    before = running.readiness()
    assert before["status"] == "ready"
    for number, (broken, said) in enumerate(BROKEN.items()):
        if broken is None:
            policy_file.unlink()
        else:
            policy_file.write_text(broken)
        ready = degraded(running, said)
        assert ready["status"] == "degraded"
        assert ready["policy_version"] == before["policy_version"] + number
        (reason,) = ready["reasons"]
        assert reason["code"] == "reload_failed"
        assert bool(reason.get("errors")) is (broken is not None)
        probe = running.request("GET", "/readyz", port=running.metrics_port)
        assert (probe.status, probe.json["status"]) == (200, "degraded")
        events = running.get("/events?event_type=RELOAD_FAILED")["events"]
        assert events[-1]["details"]["reason"] == reason["detail"]
        assert reason["detail"] in running.log()
        assert allowed(running, 8080 if number == 0 else 9000 + number - 1)
        policy_file.write_text(json.dumps(allow(9000 + number)))
        eventually(partial(allowed, running, 9000 + number), "the file is in force")
        assert running.readiness()["status"] == "ready"
    assert "Traceback" not in running.log()


def test_versions_over_restarts(processes: Processes, policy_file: Path) -> None:
    first = processes()
    start = first.readiness()
    policy_file.write_text(json.dumps(allow(9000)))
    eventually(lambda: allowed(first, 9000), "the file is in force")
    changed = first.readiness()
    assert changed["policy_version"] == start["policy_version"] + 1
    assert first.stop() == 0
    second = processes()
    again = second.readiness()
    assert again["policy_version"] == changed["policy_version"]
    assert again["revision_digest"] == changed["revision_digest"]
    policy = {"id": "new", "type": "network_security", "rules": []}
    eventually(lambda: second.request("POST", "/policies", policy).status in {201, 409}, "it is created")
    own = second.readiness()
    assert own["policy_version"] == again["policy_version"] + 1
    assert second.stop() == 0
    third = processes()
    assert third.readiness() == own
    assert third.get("/api/v1/policies/new")["version"] == own["policy_version"]


class Caller(Thread):
    """Checks without a pause over one connection, and keeps what it was told."""

    def __init__(self, port: int, *, batch: bool) -> None:
        super().__init__()
        self._port = port
        self._batch = batch
        self.ended = Event()
        self.failure: BaseException | None = None
        self.seen: list[tuple[int, str, bool, int]] = []

    def run(self) -> None:
        try:
            self._check_until_told()
        except BaseException as error:  # noqa: BLE001 - handed to the test
            self.failure = error

    def _check_until_told(self) -> None:
        context = {"protocol": "tcp", "dst_port": 8080}
        path = "/api/v1/check"
        body: dict[str, Any] = {"policy_type": "network_security", "context": context}
        if self._batch:
            path, body = "/api/v1/check/batch", {"policy_type": "network_security", "contexts": [context] * 5}
        with closing(HTTPConnection("127.0.0.1", self._port, timeout=DEADLINE_SECONDS)) as connection:
            self._repeat(connection, path, json.dumps(body))

    def _repeat(self, connection: HTTPConnection, path: str, body: str) -> None:
        while not self.ended.is_set():
            connection.request("POST", path, body)
            response = connection.getresponse()
            answer = json.loads(response.read())
            assert response.status == 200, answer
            decisions = answer["decisions"] if self._batch else [answer]
            said = {
                (one["policy_version"], one["revision_digest"], one["allowed"], one["parameters"]["n"])
                for one in decisions
            }
            assert len(said) == 1, "one revision decides a batch"
            self.seen.append(said.pop())


def numbered(number: int) -> str:
    """A file that says which one it is in every answer, and allows when the number is even."""
    document = allow(8080, n=number)
    rule = document["policies"][0]["rules"][0]
    rule["action"] = "deny" if number % 2 else "allow"
    rule["description"] = f"file {number}"
    return json.dumps(document)


def replace(path: Path, text: str, *, in_place: bool) -> None:
    draft = path if in_place else path.with_suffix(".draft")
    draft.write_text(text)
    draft.rename(path)


def test_every_answer_belongs_to_its_revision(processes: Processes, policy_file: Path) -> None:
    numbers = {digest(parse_document(numbered(number)).policy_set): number for number in range(REWRITES + 1)}
    policy_file.write_text(numbered(0))
    running = processes()

    def in_force(number: int) -> bool:
        return numbers[running.readiness()["revision_digest"]] == number

    callers = [Caller(running.port, batch=number % 2 == 1) for number in range(4)]
    for caller in callers:
        caller.start()
    try:
        for number in range(1, REWRITES + 1):
            if number % BROKEN_EVERY == 0:
                replace(policy_file, numbered(number)[:-3], in_place=False)
                eventually(lambda: running.readiness()["status"] == "degraded", "the broken file is seen")
            replace(policy_file, numbered(number), in_place=number % 3 == 0)
            callers[0].ended.wait(0.03)
            if number % BROKEN_EVERY == 0:
                eventually(partial(in_force, number), "it recovers")
                assert running.readiness()["status"] == "ready"
    finally:
        for caller in callers:
            caller.ended.set()
        for caller in callers:
            caller.join()
    for caller in callers:
        assert caller.failure is None, caller.failure
        assert len(caller.seen) > REWRITES
        versions = [version for version, _, _, _ in caller.seen]
        assert versions == sorted(versions), "no answer is older than the one before"
    seen = {entry for caller in callers for entry in caller.seen}
    assert len({version for version, _, _, _ in seen}) == len(seen) > REWRITES // BROKEN_EVERY
    for _, revision, allowed_, number in seen:
        assert numbers[revision] == number
        assert allowed_ is (number % 2 == 0)
    assert len(running.get("/events?event_type=RELOAD_FAILED")["events"]) >= REWRITES // BROKEN_EVERY
    assert "Traceback" not in running.log()
