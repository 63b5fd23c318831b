"""Privacy budgets over HTTP, and the facts that follow from them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tests.conftest import Services

from policy_engine.http.app import create_app
from policy_engine.privacy.budget import Budget

ELSEWHERE = {"REMOTE_ADDR": "192.0.2.7"}
ASKED = {"noise_multiplier": 1.0, "sampling_rate": 0.1, "steps": 10, "noise": "server"}


@pytest.fixture
def client(services: Services, document: Any, policy_file: Any) -> Any:
    rules = [{"action": "deny", "condition": "client.epsilon_remaining < 0.5 || client.epsilon_spent > 100.0"}]
    document["policies"]["budget"] = {"type": "fl_client_selection", "rules": rules}
    policy_file.write_text(msgspec.json.encode(document).decode())
    budgets = {"default": Budget(epsilon=8.0, delta=1e-5)}
    return create_app(services(privacy=budgets)).test_client()


def reserve(client: Any, number: int, *names: str, **more: Any) -> Any:
    sent = {**ASKED, "round": number, "client_ids": list(names or ("c",)), **more}
    return client.post("/api/v1/privacy/reserve", json=sent)


def allowed(service: Any, **context: Any) -> bool:
    asked = {"policy_type": "fl_client_selection", "context": context}
    return bool(service.post("/api/v1/check", json=asked).json["allowed"])


def test_a_round_is_reserved_and_committed(client: Any) -> None:
    answer = reserve(client, 1, "a", "b").json
    assert (answer["granted"], answer["refused"], answer["epsilon_budget"]) == (2, 0, 8.0)
    ids = [each["reservation_id"] for each in answer["reservations"]]
    assert reserve(client, 1, "a", "b").json == answer
    done = client.post("/api/v1/privacy/commit", json={"reservation_ids": ids}).json
    assert [each["state"] for each in done["reservations"]] == ["committed", "committed"]
    report = client.get("/api/v1/privacy/clients/a").json
    assert report["epsilon_spent"] == pytest.approx(answer["reservations"][0]["epsilon"])
    assert report["epsilon_remaining"] == pytest.approx(8.0 - report["epsilon_spent"])
    assert [each["client_id"] for each in client.get("/api/v1/privacy").json["clients"]].count("b") == 1


def test_what_exceeds_the_budget_is_refused(client: Any) -> None:
    asked = {**ASKED, "steps": 100_000, "client_id": "c"}
    would = client.post("/api/v1/privacy/would_exceed", json=asked).json["clients"][0]
    assert (would["would_exceed"], would["reason"]) == (True, "exceeded")
    (refused,) = reserve(client, 1, steps=100_000).json["reservations"]
    assert (refused["granted"], refused["reason"], refused["epsilon"]) == (False, "exceeded", would["epsilon"])


def test_conditions_know_what_is_left(client: Any) -> None:
    assert allowed(client, client_id="c")
    assert not allowed(client)
    assert not allowed(client, client={"epsilon_remaining": 9.0, "epsilon_spent": 0.0})
    number = 0
    while reserve(client, number).json["granted"]:
        number += 1
    assert 0 < number < 100
    assert not allowed(client, client_id="c", client={"epsilon_remaining": 9.0})
    assert allowed(client, client_id="other")


def test_the_wrong_order_is_a_conflict(client: Any) -> None:
    made = reserve(client, 1).json["reservations"][0]["reservation_id"]
    assert client.post("/api/v1/privacy/release", json={"reservation_id": made}).status_code == 200
    answer = client.post("/api/v1/privacy/commit", json={"reservation_id": made})
    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (409, "/reservation_ids/0")
    assert client.post("/api/v1/privacy/commit", json={"reservation_id": "none"}).status_code == 404


@pytest.mark.parametrize(
    "change",
    [
        {"noise_multiplier": 0},
        {"sampling_rate": 1.5},
        {"steps": 0},
        {"noise": "none"},
        {"client_ids": []},
        {"client_ids": ["a", "a"]},
        {"client_id": "a"},
        {"round": -1},
        {"surprise": 1},
    ],
)
def test_nonsense_is_refused(client: Any, change: dict[str, Any]) -> None:
    assert reserve(client, 1, **change).status_code == 400
    assert client.get("/api/v1/privacy").json["clients"] == []


@pytest.mark.parametrize("path", ["/api/v1/privacy", "/api/v1/privacy/clients/c"])
def test_strangers_do_not_look(client: Any, path: str) -> None:
    assert client.get(path, environ_overrides=ELSEWHERE).status_code == 401
    asked = client.post("/api/v1/privacy/would_exceed", json={**ASKED, "client_id": "c"}, environ_overrides=ELSEWHERE)
    assert asked.status_code == 401
