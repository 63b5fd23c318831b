"""Freezes of a running service: durable, told of, lifted, followed by other processes, kept by a restore."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from tests.conftest import Processes, Services
from tests.databases import KINDS, empty_database, running_postgres
from tests.http.shapes import pointers, problem
from tests.postgres import Postgres
from tests.service.running import Running, eventually
from tests.store.stores import patiently

from policy_engine.http.app import AT_ONCE, create_app
from policy_engine.http.permissions import WRITES
from policy_engine.model.errors import InvalidRequestError, TooManyFreezesError, UnknownFreezeError
from policy_engine.service import PolicyService
from policy_engine.store.backup import back_up, restore
from policy_engine.store.database import Database
from policy_engine.store.keys import KeyDirectory
from policy_engine.store.options import DEFAULT_TENANT

WEB = {"protocol": "tcp", "dst_port": 8080}
WHY = {"X-Change-Reason": "it is over"}


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with empty_database(request.param, tmp_path, request) as url:
        yield url


def code(service: PolicyService, **context: Any) -> str:
    return service.check("network_security", {**WEB, **context}).reason_code


def told(service: PolicyService, *types: str) -> list[dict[str, Any]]:
    return [{"event_type": each.event_type, **each.details} for each in service.events.page(event_types=types).events]


def test_set_and_lifted(client: FlaskClient, service: PolicyService) -> None:
    made = client.post("/api/v1/freeze", json={"scope": "f", "reason": "poisoned updates"}).get_json()
    assert client.get("/api/v1/freeze").get_json() == {"frozen": True, "freezes": [made]}
    answer = client.post(
        "/api/v1/check", json={"policy_type": "network_security", "context": {**WEB, "federation": "f"}}
    )
    assert answer.get_json()["reason"] == "federation `f` is frozen: poisoned updates"
    (trouble,) = client.get("/readyz").get_json()["reasons"]
    assert trouble["code"] == "frozen"
    path = f"/api/v1/freeze/{made['freeze_id']}"
    assert "X-Change-Reason" in problem(client.delete(path), 400)["detail"]
    assert code(service, federation="f") == "frozen"
    assert client.delete(path, headers=WHY).get_json() == made
    assert client.get("/api/v1/freeze").get_json() == {"frozen": False, "freezes": []}
    assert client.get("/readyz").get_json()["status"] == "ready"
    assert code(service, federation="f") == "rule_allow"
    problem(client.delete(path, headers=WHY), 404)
    events = told(service, "FREEZE_SET", "FREEZE_LIFTED")
    assert [(each["event_type"], each["scope"], each["reason"]) for each in events] == [
        ("FREEZE_SET", "f", "poisoned updates"),
        ("FREEZE_LIFTED", "f", "it is over"),
    ]
    assert all(each["author"] == "local (127.0.0.1)" for each in events)


BAD = [
    ({"scope": "all"}, ""),
    ({"reason": "r"}, ""),
    ({"scope": "", "reason": "r"}, "/scope"),
    ({"scope": "a b", "reason": "r"}, "/scope"),
    ({"scope": 7, "reason": "r"}, "/scope"),
    ({"scope": "f", "reason": ""}, "/reason"),
    ({"scope": "f", "reason": "r" * 501}, "/reason"),
    ({"scope": "f", "reason": "r", "ttl_seconds": 0}, "/ttl_seconds"),
    ({"scope": "f", "reason": "r", "ttl_seconds": 1e9}, "/ttl_seconds"),
    ({"scope": "f", "reason": "r", "expires_at": "2020-01-01T00:00:00Z"}, "/expires_at"),
    ({"scope": "f", "reason": "r", "expires_at": "2050-01-01T00:00:00"}, "/expires_at"),
    ({"scope": "f", "reason": "r", "expires_at": "2050-01-01T00:00:00Z", "ttl_seconds": 5}, ""),
    ({"scope": "f", "reason": "r", "policies": ["web", "nope"]}, "/policies/1"),
    ({"scope": "f", "reason": "r", "policies": "web"}, "/policies"),
    ({"scope": "f", "reason": "r", "until": 5}, ""),
]


@pytest.mark.parametrize(("body", "place"), BAD)
def test_what_is_refused(client: FlaskClient, body: Any, place: str) -> None:
    assert pointers(client.post("/api/v1/freeze", json=body)) == [place]
    assert client.get("/api/v1/freeze").get_json()["freezes"] == []


def test_a_body_of_another_kind(client: FlaskClient) -> None:
    problem(client.post("/api/v1/freeze", data="{}", content_type="text/plain"), 415)


def test_times(client: FlaskClient) -> None:
    later = datetime.now(UTC) + timedelta(hours=2)
    made = client.post("/api/v1/freeze", json={"scope": "f", "reason": "r", "ttl_seconds": 7200}).get_json()
    assert abs(datetime.fromisoformat(made["expires_at"]) - later) < timedelta(minutes=1)
    made = client.post("/api/v1/freeze", json={"scope": "f", "reason": "r", "expires_at": later.isoformat()}).get_json()
    assert abs(datetime.fromisoformat(made["expires_at"]) - later) < timedelta(milliseconds=1)


def test_an_emergency_waits_for_no_other_change() -> None:
    assert AT_ONCE <= WRITES


def test_it_outlives_the_process_and_ends_at_its_time(services: Services, database: str) -> None:
    service = services(database=database)
    service.emergency.freeze("all", reason="for good", author="ann", policies=("start",))
    service.emergency.freeze("f", reason="for a moment", author="ann", expires=time.time() + 0.5)
    services.end(service)
    again = services(database=database)
    assert code(again) == "frozen"
    again.start()
    eventually(lambda: told(again, "FREEZE_EXPIRED"), "the end is noted")
    assert [each["frozen_because"] for each in told(again, "FREEZE_EXPIRED")] == ["for a moment"]
    assert [each.reason for each in again.emergency.all()] == ["for good"]
    assert code(again, federation="f") == "frozen"


def test_other_processes_follow(services: Services, database: str, tmp_path: Path) -> None:
    shared = {"database": database, "key_dir": str(tmp_path / "keys")}
    one, other = services(**shared), services(**shared)
    one.start()
    other.start()
    made = one.emergency.freeze("all", reason="stop", author="ann")
    assert code(one) == "frozen"
    eventually(lambda: code(other) == "frozen", "the other process follows", seconds=10)
    other.emergency.lift(made.freeze_id, author="bob", reason="done")
    assert code(other) == "rule_allow"
    eventually(lambda: code(one) == "rule_allow", "the first one follows", seconds=10)
    with pytest.raises(UnknownFreezeError):
        one.emergency.lift(made.freeze_id, author="ann", reason="again")
    one.emergency.freeze("all", reason="short", author="ann", expires=time.time() + 0.3)
    for service in (one, other):
        eventually(partial(told, service, "FREEZE_EXPIRED"), "the end is noted")
        time.sleep(0.3)
        assert len(told(service, "FREEZE_EXPIRED")) == 1, "by one process alone"


def test_a_restore_lifts_nothing(services: Services, database: str, tmp_path: Path) -> None:
    service = services(database=database)
    before = service.emergency.freeze("f", reason="before", author="ann")
    target = tmp_path / "backup.db"
    source = Database(database)
    back_up(source, target, lambda _done, _total: None)
    service.emergency.lift(before.freeze_id, author="ann", reason="lifted since")
    service.emergency.freeze("g", reason="since", author="ann")
    keys = KeyDirectory(tmp_path / "data" / "keys")
    patiently(
        lambda: restore(
            source, DEFAULT_TENANT, target, keys, author="ann", replace=False, progress=lambda _done, _total: None
        )
    )
    source.close()
    assert [each.reason for each in service.emergency.all()] == ["before", "since"]


def test_there_is_a_bound(service: PolicyService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("policy_engine.store.freezes.MAX_FREEZES", 2)
    for number in range(2):
        service.emergency.freeze(f"f{number}", reason="r", author="ann")
    with pytest.raises(TooManyFreezesError):
        service.emergency.freeze("f3", reason="r", author="ann")
    problem(create_app(service).test_client().post("/api/v1/freeze", json={"scope": "f", "reason": "r"}), 409)
    assert len(service.emergency.all()) == 2


def test_unknown_policies_leave_nothing(service: PolicyService) -> None:
    with pytest.raises(InvalidRequestError):
        service.emergency.freeze("all", reason="r", author="ann", policies=("nope",))
    assert service.emergency.all() == []


def test_break_glass(service: PolicyService) -> None:
    def use(action: str, *, is_change: bool, source: str = "10.0.0.7") -> None:
        service.emergency.note_break_glass(author="admin key", source=source, action=action, is_change=is_change)

    for _ in range(3):
        use("GET /api/v1/keys", is_change=False)
    use("DELETE /api/v1/policies/web", is_change=True)
    use("DELETE /api/v1/policies/dns", is_change=True)
    use("GET /api/v1/keys", is_change=False, source="10.0.0.8")
    assert [(event["source"], event["action"]) for event in told(service, "BREAK_GLASS_USED")] == [
        ("10.0.0.7", "GET /api/v1/keys"),
        ("10.0.0.7", "DELETE /api/v1/policies/web"),
        ("10.0.0.7", "DELETE /api/v1/policies/dns"),
        ("10.0.0.8", "GET /api/v1/keys"),
    ]


def test_selections_of_what_is_frozen_invite_nobody(service: PolicyService) -> None:
    made = service.emergency.freeze("f", reason="poisoned", author="ann")
    found = service.select("f", 1, ["a", "b"])
    assert (found.invited, found.probed) == ([], [])
    assert set(found.left_out) == {"a", "b"}
    assert found.left_out["a"] == "federation `f` is frozen: poisoned"
    assert service.select("g", 1, ["a", "b"]).invited == ["a", "b"]
    service.emergency.lift(made.freeze_id, author="ann", reason="")
    assert service.select("f", 1, ["a", "b"]).invited == ["a", "b"]


@pytest.mark.parametrize("end", ["9999-12-31T23:59:59-23:00", "2100-01-01T00:00:00Z"])
def test_a_freeze_for_ever_is_one_without_an_end(service: PolicyService, end: str) -> None:
    client = create_app(service).test_client()
    answer = client.post("/api/v1/freeze", json={"scope": "all", "reason": "x", "expires_at": end})
    assert problem(answer, 400)["errors"][0]["pointer"] == "/expires_at"
    assert client.get("/api/v1/freeze").get_json() == {"frozen": False, "freezes": []}


def test_all_workers_deny_within_a_second(processes: Processes) -> None:
    running = processes(POLICY_WORKERS="3")
    answers(running)
    began = time.monotonic()
    made = running.request("POST", "/api/v1/freeze", {"scope": "all", "reason": "stop"})
    assert made.status == 201
    eventually(lambda: answers(running) == {"frozen"}, "every worker denies")
    assert time.monotonic() - began < 10
    assert running.request("DELETE", f"/api/v1/freeze/{made.json['freeze_id']}", headers=WHY).status == 200
    eventually(lambda: answers(running) == {"rule_allow"}, "every worker goes on")


def answers(running: Running) -> set[str]:
    """What several workers say: each request has a connection of its own."""
    body = {"policy_type": "network_security", "context": WEB}
    return {running.request("POST", "/api/v1/check", body).json["reason_code"] for _ in range(24)}
