"""What is too old, or too much, is removed; what is left can be read and still verifies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from tests.conftest import Services
from tests.service.databases import locked, path_of
from tests.service.running import eventually
from tests.service.states import NEW, numbers, types
from tests.store.stores import all_decisions, flush

from policy_engine.http.app import create_app
from policy_engine.service import PolicyService
from policy_engine.store.options import DEFAULT_TENANT
from policy_engine.store.verify import verify

DAY_SECONDS = 86_400
AT_ONCE = 1e-6 / DAY_SECONDS
"""So many days that everything is too old."""


def fill(service: PolicyService, count: int) -> list[str]:
    """Make some decisions, one row each, and return their ids."""
    made = []
    for number in range(count):
        context = {"protocol": "tcp", "dst_port": (22, 8080)[number % 2], "client_id": f"c{number % 7}", "x": "y" * 400}
        made.append(service.check("network_security", context).decision_id)
        if number % 500 == 0:
            flush(service.store)
    flush(service.store)
    return made


def clean(service: PolicyService) -> int:
    """Clean up, again while the store is busy, and return how many entries went."""
    return int(eventually(service.clean_up, "something is removed"))


def left(service: PolicyService) -> list[str]:
    return [item.entry.decision.decision_id for item in all_decisions(service.store, limit=1000)]


def check_chains(service: PolicyService) -> None:
    flush(service.store)
    roots = [service.store.keys.current().public]
    with service.store.database.read() as connection:
        report = verify(connection, DEFAULT_TENANT, roots)
    assert report.ok, report.faults


def file_bytes(service: PolicyService) -> int:
    """The size of the database on the disk, after everything was written to its file."""
    with service.store.database.write() as connection:
        pages, size = (
            int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()) for name in ("page_count", "page_size")
        )
    return pages * size


@pytest.fixture
def old(services: Services) -> PolicyService:
    """A service that takes everything that it logged for too old."""
    return services(retention_days=AT_ONCE)


def test_old_decisions_go(old: PolicyService) -> None:
    made = fill(old, 2500)
    total = old.events.page().total
    removed = clean(old)
    assert 1000 <= removed <= len(made)
    assert left(old) == made[removed:][::-1], "the oldest went, and nothing else"
    flush(old.store)
    assert old.events.page().total == total - removed + 1
    (event,) = old.events.page(event_types=["LOG_PRUNED"]).events
    assert event.details == {"entries": removed}
    check_chains(old)
    more = fill(old, 300)
    assert left(old) == (made[removed:] + more)[::-1], "it goes on"
    check_chains(old)


def test_young_decisions_stay(services: Services) -> None:
    service = services(retention_days=1.0, retention_max_bytes=2**40, event_retention_days=1.0)
    made = fill(service, 2500)
    assert service.clean_up() == 0
    assert left(service) == made[::-1]
    assert "LOG_PRUNED" not in types(service)


def test_without_bounds_everything_stays(services: Services) -> None:
    service = services(retention_days=0.0, retention_max_bytes=0, event_retention_days=0.0)
    made = fill(service, 1500)
    assert service.clean_up() == 0
    assert left(service) == made[::-1]


def test_a_busy_store_is_cleaned_up_later(old: PolicyService) -> None:
    made = fill(old, 2500)
    with locked(old):
        assert old.clean_up() == 0
    assert clean(old) > 0
    assert set(left(old)) < set(made)
    check_chains(old)


def test_too_many_bytes(services: Services) -> None:
    service = services(retention_days=0.0)
    made = fill(service, 6000)
    used = service.store.database.bytes_used()
    services.end(service)
    again = services(retention_days=0.0, retention_max_bytes=used // 2)
    removed = clean(again)
    assert 0 < removed < len(made)
    assert left(again) == made[removed:][::-1]
    assert again.store.database.bytes_used() < used

    def fits() -> bool:
        again.clean_up()
        return again.store.database.bytes_used() <= used // 2 + used // 4

    eventually(fits, "it comes down to about the bound, block by block")
    check_chains(again)


def test_space_is_given_back(services: Services) -> None:
    service = services(retention_days=0.0)
    fill(service, 12_000)
    before = file_bytes(service)
    services.end(service)
    again = services(retention_days=AT_ONCE)
    clean(again)
    assert file_bytes(again) < before // 2
    check_chains(again)
    path = Path(path_of(again))
    services.end(again)
    assert path.stat().st_size < before // 2


def test_old_events_go(services: Services) -> None:
    service = services(event_retention_days=AT_ONCE, retention_days=0.0)
    made = fill(service, 50)
    service.administration.create(NEW)
    assert clean(service) > 0
    assert types(service)[-1] == "LOG_PRUNED"
    assert {"ENGINE_START", "POLICY_LOADED", "POLICY_CREATED"}.isdisjoint(stored_types(service))
    assert left(service) == made[::-1], "the events of checks go with their decisions"
    assert numbers(service) == [2, 3], "revisions are never removed"
    check_chains(service)


def stored_types(service: PolicyService) -> set[str]:
    flush(service.store)
    with service.store.database.read() as connection:
        return set(connection.exec_driver_sql("SELECT type FROM event").scalars())


def follow(client: FlaskClient, cursor: str) -> tuple[list[dict[str, Any]], bool]:
    """The events behind a cursor, and whether any page said that there is a gap."""
    seen: list[dict[str, Any]] = []
    gap = False
    while True:
        page = client.get("/events", query_string={"since_event_id": cursor}).get_json()
        seen += page["events"]
        gap = gap or page["gap"]
        cursor = page["last_event_id"]
        if not page["events"]:
            return seen, gap


def test_cursors_go_on_with_a_gap(old: PolicyService) -> None:
    client = create_app(old).test_client()
    first = client.get("/events?limit=1").get_json()["last_event_id"]
    made = fill(old, 2500)
    page = client.get("/api/v1/decisions?limit=1000").get_json()
    middle = page["decisions"][-1]["event_id"]
    rest_of = made.index(page["decisions"][-1]["decision_id"])  # a page ends early on a busy machine
    removed = clean(old)
    kept = made[removed:]
    assert client.get("/events", query_string={"since_event_id": first, "limit": 1}).get_json()["gap"] is True
    events, gap = follow(client, first)
    decided = [event["details"]["decision_id"] for event in events if "decision_id" in event["details"]]
    assert decided == made[-len(decided) :], "what is left comes whole, once, in order"
    assert len(kept) <= len(decided) < len(made), "some that went are still in memory"
    assert gap is True
    last = client.get("/events?limit=2000").get_json()["last_event_id"]
    assert follow(client, last) == ([], False)
    rest = client.get("/api/v1/decisions", query_string={"cursor": page["next_cursor"], "limit": 1000})
    assert rest.status_code == 200
    ids = [item["decision_id"] for item in rest.get_json()["decisions"]]
    assert ids == [decision_id for decision_id in made[:rest_of][::-1] if decision_id in set(kept)]
    events, gap = follow(client, middle)
    decided = [event["details"]["decision_id"] for event in events if "decision_id" in event["details"]]
    assert gap or decided == made[rest_of + 1 :], "where nothing is missing there is no gap"


def test_a_removed_decision_is_not_found(old: PolicyService) -> None:
    client = create_app(old).test_client()
    made = fill(old, 2100)
    assert client.get(f"/api/v1/decisions/{made[0]}").status_code == 200
    clean(old)
    assert client.get(f"/api/v1/decisions/{made[0]}").status_code == 404
    assert client.get(f"/api/v1/decisions/{made[-1]}").status_code == 200
