"""How much of what anonymous callers ask is logged."""

from __future__ import annotations

import random
from typing import Any

import pytest
from flask.testing import FlaskClient
from tests.conftest import Services
from tests.service.states import types
from tests.store.stores import all_decisions, flush

from policy_engine.http.app import create_app
from policy_engine.quota import SAMPLE, LogQuota
from policy_engine.service import PolicyService

ELSEWHERE = "10.0.0.7"
CONTEXT: dict[str, Any] = {"protocol": "tcp", "dst_port": 8080}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Told(list[str]):
    """The sources that were told of."""


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def quota(clock: Clock, told: Told) -> LogQuota:
    return LogQuota(10, told.append, clock=clock)


def test_everything_up_to_the_rate(quota: LogQuota, clock: Clock, told: Told) -> None:
    for _ in range(5):
        assert [quota.represents("a") for _ in range(10)] == [1] * 10
        clock.now += 1
    assert (told, quota.unlogged) == ([], 0)


def test_one_in_a_hundred_beyond_it_stands_for_all(quota: LogQuota) -> None:
    found = [quota.represents("a") for _ in range(10 + 3 * SAMPLE)]
    assert found[:10] == [1] * 10
    assert found[10:] == ([0] * (SAMPLE - 1) + [SAMPLE]) * 3
    assert sum(found) == len(found)
    assert quota.unlogged == found.count(0)


def test_room_comes_back_with_time(quota: LogQuota, clock: Clock) -> None:
    assert [quota.represents("a") for _ in range(11)] == [1] * 10 + [0]
    clock.now += 0.35
    assert [quota.represents("a") for _ in range(4)] == [1, 1, 1, 0]
    clock.now += 3600
    assert [quota.represents("a") for _ in range(11)] == [1] * 10 + [0], "no more than a second's worth is saved up"


def test_each_source_has_its_own(quota: LogQuota, told: Told) -> None:
    for source in ("a", "b", "c"):
        assert [quota.represents(source) for _ in range(11)] == [1] * 10 + [0]
    assert told == ["a", "b", "c"]


def test_it_is_told_once_a_minute(quota: LogQuota, clock: Clock, told: Told) -> None:
    for second in range(180):
        clock.now += 1
        for _ in range(30):
            quota.represents("a")
        assert len(told) == second // 60 + 1


def test_a_batch_counts_all_its_items(quota: LogQuota, clock: Clock) -> None:
    assert quota.represents("a", 10) == 1
    assert quota.represents("a", 1) == 0
    clock.now += 1
    assert quota.represents("a", 50) == 1, "a batch goes in whole, and what comes after it waits for longer"
    clock.now += 3
    assert quota.represents("a", 1) == 0
    clock.now += 2
    assert quota.represents("a", 1) == 1


@pytest.mark.parametrize("count", [1, 7, 99, 100, 101, 150, 1000, 10_000])
def test_no_size_of_batch_goes_round_it(quota: LogQuota, count: int) -> None:
    """One batch in a hundred is logged, and it stands for all of them, whatever their size."""
    quota.represents("a", 10)
    found = [quota.represents("a", count) for _ in range(5 * SAMPLE)]
    assert [stands for stands in found if stands] == [SAMPLE] * 5
    assert quota.unlogged == found.count(0) * count


def test_nothing_is_lost_from_the_count(quota: LogQuota, clock: Clock) -> None:
    """What the logged ones stand for comes to what was asked, but for the last of it that still waits."""
    source = random.Random(5)
    asked = counted = 0
    largest = 300
    for _ in range(20_000):
        count = source.choice((1, 1, 1, 3, 50, largest))
        clock.now += source.random() / 50
        asked += count
        counted += quota.represents("a", count) * count
    assert asked - SAMPLE * largest <= counted <= asked


def test_without_a_rate_everything_is_logged(told: Told, clock: Clock) -> None:
    quota = LogQuota(0, told.append, clock=clock)
    assert {quota.represents("a") for _ in range(10_000)} == {1}
    assert (told, quota.unlogged) == ([], 0)


def test_many_sources_take_bounded_memory(quota: LogQuota) -> None:
    for number in range(30_000):
        assert quota.represents(str(number)) == 1
    assert len(quota._buckets) == 10_000


# Over HTTP


def ask(client: FlaskClient, times: int, address: str = ELSEWHERE, **headers: str) -> None:
    body = {"policy_type": "network_security", "context": CONTEXT}
    for _ in range(times):
        answer = client.post("/api/v1/check", json=body, headers=headers, environ_base={"REMOTE_ADDR": address})
        assert answer.get_json()["allowed"] is True, "it is answered as ever"


def represented(service: PolicyService, address: str = ELSEWHERE) -> list[int]:
    flush(service.store)
    return [item.entry.represents for item in all_decisions(service.store) if item.entry.source == address]


def test_an_anonymous_source_is_sampled(services: Services) -> None:
    service = services(anonymous_log_quota=1)
    client = create_app(service).test_client()
    ask(client, 450)
    found = represented(service)
    assert set(found) == {1, SAMPLE}
    assert len(found) < 450
    assert 450 - SAMPLE < sum(found) <= 450
    (event,) = service.events.page(event_types=["LOG_QUOTA_EXCEEDED"]).events
    assert event.details == {"source": ELSEWHERE, "per_second": 1, "unlogged": 1}
    logged = client.get("/api/v1/decisions?limit=1000").get_json()["decisions"]
    assert sorted(item["represents"] for item in logged) == sorted(found)
    ask(client, 5, "10.0.0.8")
    assert represented(service, "10.0.0.8")[-1] == 1, "another source has room"


def test_the_batches_of_an_anonymous_source_are_sampled(services: Services) -> None:
    service = services(anonymous_log_quota=1)
    client = create_app(service).test_client()
    body = {"policy_type": "network_security", "contexts": [CONTEXT] * 200}
    for _ in range(110):
        client.post("/api/v1/check/batch", json=body, environ_base={"REMOTE_ADDR": ELSEWHERE})
    assert represented(service) == [SAMPLE] * 200 + [1] * 200


@pytest.mark.parametrize(
    ("address", "headers"),
    [
        ("127.0.0.1", {}),
        ("::1", {}),
        (ELSEWHERE, {"X-API-Key": "secret"}),
        (ELSEWHERE, {"Authorization": "Bearer secret"}),
    ],
)
def test_everything_of_a_known_source_is_logged(services: Services, address: str, headers: dict[str, str]) -> None:
    service = services(anonymous_log_quota=1, admin_key="secret")
    ask(create_app(service).test_client(), 300, address, **headers)
    assert represented(service, address) == [1] * 300
    assert "LOG_QUOTA_EXCEEDED" not in types(service)


def test_nothing_is_logged_of_who_shows_a_wrong_key(services: Services) -> None:
    service = services(admin_key="secret")
    client = create_app(service).test_client()
    asked = {"policy_type": "network_security", "context": {"protocol": "tcp"}}
    for _ in range(3):
        assert client.post("/api/v1/check", json=asked, headers={"X-API-Key": "wrong"}).status_code == 401
    assert represented(service) == []


def test_the_quota_can_be_switched_off(services: Services) -> None:
    service = services(anonymous_log_quota=0)
    ask(create_app(service).test_client(), 300)
    assert represented(service) == [1] * 300
