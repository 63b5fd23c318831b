"""Services on one PostgreSQL: the file fills an empty store, and they follow each other."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import Any

import msgspec
import pytest
from tests.conftest import Services
from tests.http.shapes import problem
from tests.postgres import Postgres
from tests.service.running import DEADLINE_SECONDS, eventually
from tests.service.states import NEW, Document, allows, codes, in_force, numbers, revisions, stored, types, with_port
from tests.trust.rounds import HONEST, observed

from policy_engine.activation import Cause
from policy_engine.http.app import create_app
from policy_engine.model.errors import StoreUnavailableError
from policy_engine.service import PolicyService

Replica = Callable[..., PolicyService]


@pytest.fixture
def replica(services: Services, postgres_url: str, tmp_path: Path) -> Iterator[Replica]:
    """Starts services as on several machines: each has a data directory, all have the database and the key."""
    made = 0

    def start(**settings: Any) -> PolicyService:
        nonlocal made
        made += 1
        own = {"data_dir": str(tmp_path / f"data-{made}"), "key_dir": str(tmp_path / "keys"), "database": postgres_url}
        service = services(**{**own, **settings})
        service.start()
        return service

    yield start
    services.stop()


def test_the_file_fills_an_empty_store_only(replica: Replica, policy_file: Path, document: Document) -> None:
    one = replica()
    assert numbers(one) == [2]
    assert revisions(one)[0].source == "file"
    policy_file.write_text(with_port(document, 8081))
    other = replica(file_wins=True)
    assert allows(other, 8080)
    assert numbers(one) == [2]
    policy_file.unlink()
    third = replica()
    assert third.revision.digest == one.revision.digest
    assert third.troubles.all() == ()
    assert types(third)[:4] == ["ENGINE_START", *["POLICY_LOADED"] * 3]


def test_the_file_is_not_watched_and_not_written(replica: Replica, policy_file: Path, document: Document) -> None:
    service = replica(file_write_back=True, file_wins=True)
    service.administration.create(NEW)
    assert "new" not in json.loads(policy_file.read_text())["policies"]
    policy_file.write_text("{")
    service.reload()
    policy_file.write_text(with_port(document, 8081))
    service.reload()
    assert allows(service, 8080)
    assert numbers(service) == [2, 3]
    assert service.troubles.all() == ()
    assert service._file is None
    assert not service._watcher._thread.is_alive()


def test_an_empty_store_and_a_bad_file_is_no_start(replica: Replica, policy_file: Path) -> None:
    policy_file.write_text("{")
    with pytest.raises(ValueError, match="JSON"):
        replica()
    policy_file.write_text('{"policies": {}}')
    assert replica().revision.version == 1


def same(services: list[PolicyService], number: int) -> bool:
    return all(service.revision.version == number for service in services)


def test_replicas_follow_each_other(replica: Replica) -> None:
    replicas = [replica() for _ in range(3)]
    changes: list[Callable[[PolicyService], object]] = [
        lambda service: service.administration.create(NEW),
        lambda service: service.administration.merge("web", {"priority": 7}),
        lambda service: service.administration.delete("night"),
        lambda service: service.administration.roll_back(2, cause=Cause(author="me", source="rollback")),
    ]
    for number, change in enumerate(changes, 3):
        change(replicas[number % 3])
        eventually(partial(same, replicas, number), f"all are at {number}")
        assert in_force(replicas[0]) == in_force(replicas[1]) == in_force(replicas[2]) == stored(replicas[0])
    assert len({service.revision.digest for service in replicas}) == 1
    clients = [create_app(service).test_client() for service in replicas]
    for path in ("/policies", "/policies/web", "/api/v1/revisions/6"):
        assert len({client.get(path).headers["ETag"] for client in clients}) == 1


def test_a_notice_is_enough(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    """They look again and again besides; here far too seldom to matter."""
    monkeypatch.setattr("policy_engine.service._FOLLOW_SECONDS", 3 * DEADLINE_SECONDS)
    replicas = [replica(), replica()]
    eventually(lambda: all(service._follower._listening for service in replicas), "both listen")
    for number in range(3, 8):
        replicas[number % 2].administration.merge("web", {"priority": number})
        eventually(partial(same, replicas, number), f"both are at {number}")
    for service in replicas:  # they wait for a notice: one more lets them end
        service._follower._stop.set()
    replicas[0].administration.delete("web")


def test_a_demand_for_a_version_is_met_or_refused_at_once(replica: Replica) -> None:
    one, other = replica(), replica()
    one.administration.create(NEW)
    client = create_app(other).test_client()
    body = {"policy_type": "network_security", "context": {}}

    def ask(version: int) -> Any:
        return client.post("/api/v1/check", json=body, headers={"X-Min-Policy-Version": str(version)})

    problem(ask(4), 503)
    eventually(lambda: ask(3).status_code == 200, "it has followed")
    assert ask(3).get_json()["policy_version"] == 3


def test_replicas_that_start_at_once_import_once(replica: Replica) -> None:
    ready = Barrier(3)

    def begin(_: int) -> PolicyService:
        ready.wait()
        return replica()

    with ThreadPoolExecutor(3) as pool:
        started = list(pool.map(begin, range(3)))
    assert numbers(started[0]) == [2]
    assert len({service.revision.digest for service in started}) == 1
    eventually(lambda: types(started[0]).count("ENGINE_START") == 3, "each told that it started")
    assert types(started[0]).count("POLICY_LOADED") == 3


def test_changes_of_many_at_once_lose_nothing(replica: Replica) -> None:
    replicas = [replica(), replica()]
    clients = [create_app(service).test_client() for service in replicas]

    def create(number: int) -> None:
        body = {**NEW, "id": f"new-{number}"}
        eventually(lambda: clients[number % 2].post("/policies", json=body).status_code in {201, 409}, "it is taken")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(create, range(20)))
    eventually(partial(same, replicas, 22), "both are at the last one")
    assert numbers(replicas[0]) == list(range(2, 23))
    assert in_force(replicas[0]) == in_force(replicas[1])


def test_what_postgres_does_not_take_is_the_callers_fault(replica: Replica) -> None:
    client = create_app(replica()).test_client()
    assert client.get("/api/v1/decisions?client=%00").get_json() == {"decisions": [], "next_cursor": None}
    problem(client.get("/api/v1/policies/%00/history"), 404)
    problem(client.get(f"/api/v1/revisions/{2**63}"), 404)
    problem(client.post(f"/api/v1/revisions/{2**52}/rollback"), 404)
    problem(client.get("/api/v1/trust/clients/%00"), 400)
    problem(client.get("/api/v1/trust/recalculate/%00"), 404)
    for path in ("/api/v1/trust", "/api/v1/trust/trends", "/api/v1/trust/distribution", "/api/v1/trust/clients/c"):
        problem(client.get(f"{path}?federation=%00"), 400)
    problem(client.get("/api/v1/trust?cursor=WyJmIiwiXHUwMDAwIl0="), 400)
    for end in ("1", "9999-12-31"):
        assert client.get(f"/api/v1/decisions?end_time={end}&start_time={end}").status_code == 200


def test_they_follow_again_after_the_database_was_cut_off(
    replica: Replica, postgres: Postgres, postgres_url: str
) -> None:
    replicas = [replica(), replica()]
    name = postgres_url.rpartition("/")[2].partition("?")[0]
    postgres.cut(name)

    def changed() -> bool:
        try:
            replicas[0].administration.merge("web", {"priority": 7})
        except StoreUnavailableError:
            return False
        return True

    eventually(changed, "changes are taken again")
    eventually(partial(same, replicas, 3), "both are at it")
    eventually(lambda: [codes(service) for service in replicas] == [[], []], "nothing is wrong any more")


@pytest.mark.filterwarnings("ignore:<psycopg.ServerCursor:ResourceWarning")  # cannot be closed once the server is gone
def test_trust_while_the_database_is_away(
    replica: Replica, postgres: Postgres, policy_file: Path, document: Document
) -> None:
    rules = [{"action": "deny", "condition": "client.trust_band == 'unknown'"}]
    document["policies"]["trust"] = {"type": "trust_reputation", "rules": rules}
    policy_file.write_text(json.dumps(document))
    services = [replica(), replica()]
    client = create_app(services[0]).test_client()
    client.post("/api/v1/trust/observations", json=body_of(1))

    def answers() -> set[int | None]:
        return {service.check("trust_reputation", {"client_id": "h0"}).rule_index for service in services}

    assert answers() == {None}
    postgres.stop()
    try:
        eventually(lambda: answers() == {0}, "nobody can tell the band")
        problem(client.post("/api/v1/trust/observations", json=body_of(2)), 503)
        problem(client.get("/api/v1/trust"), 503)
    finally:
        postgres.start()
    eventually(lambda: answers() == {None}, "the band is known again")
    eventually(lambda: client.post("/api/v1/trust/observations", json=body_of(2)).status_code == 200, "rounds go on")
    eventually(lambda: services[1].engine.trust.known("h0").record.answered == 2, "the other one hears of it")


def body_of(number: int) -> Any:
    return msgspec.to_builtins(observed(number, *HONEST))
