"""Rate limits: what is counted, for whom, and that it stays bounded."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from flask.testing import FlaskClient
from tests.conftest import Services
from tests.http.shapes import problem

from policy_engine import rate
from policy_engine.config import load_settings
from policy_engine.http.app import create_app
from policy_engine.model.errors import RateLimitedError, SettingsError
from policy_engine.rate import RateLimit, address_key

WEB = {"policy_type": "network_security", "context": {"protocol": "tcp", "dst_port": 8080}}
ELSEWHERE = {"REMOTE_ADDR": "10.0.0.7"}
KEY = "the-admin-key"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def allowed(limit: RateLimit, key: str, tries: int) -> int:
    passed = 0
    for _ in range(tries):
        try:
            limit.take(key)
        except RateLimitedError:
            continue
        passed += 1
    return passed


def test_windows() -> None:
    clock = Clock()
    limit = RateLimit("3/minute;4/hour", "tries", clock=clock)
    assert allowed(limit, "a", 10) == 3
    assert allowed(limit, "b", 2) == 2, "each key for itself"
    with pytest.raises(RateLimitedError, match="too many tries: 3 per 1 minute are allowed") as refused:
        limit.take("a")
    assert refused.value.retry_after_seconds == 60
    clock.now += 59.5
    with pytest.raises(RateLimitedError) as refused:
        limit.check("a")
    assert refused.value.retry_after_seconds == 1
    clock.now += 0.5
    limit.check("b")
    assert allowed(limit, "b", 10) == 2, "the longer limit holds too"


def test_a_cost() -> None:
    limit = RateLimit("10/minute", "checks", clock=Clock())
    limit.take("a", 10)
    with pytest.raises(RateLimitedError):
        limit.take("a")


def test_what_is_counted_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate, "MAX_KEYS", 100)
    limit = RateLimit("1/hour", "tries", clock=Clock())
    for number in range(5000):
        limit.take(str(number))
    assert limit.counted == 100
    with pytest.raises(RateLimitedError):
        limit.take("4999")


def test_threads_count_together() -> None:
    limit = RateLimit("500/hour", "tries", clock=Clock())
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda _: allowed(limit, "a", 200), range(8))) == 500


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("10.0.0.7", "10.0.0.7"),
        ("::ffff:10.0.0.7", "10.0.0.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("", ""),
        ("unix:", "unix:"),
    ],
)
def test_addresses(address: str, key: str) -> None:
    assert address_key(address) == key


def test_writes(services: Services) -> None:
    client = create_app(services(rate_limit_writes="2/hour", admin_key=KEY)).test_client()
    for _ in range(2):
        assert client.post("/api/v1/policies/web/enable").status_code == 200
    answer = client.post("/api/v1/policies/web/disable")
    assert "too many changes" in problem(answer, 429)["detail"]
    assert 3500 < int(answer.headers["Retry-After"]) <= 3600
    assert client.get("/api/v1/policies/web").get_json()["enabled"], "nothing was changed"
    keyed = client.post("/api/v1/policies/web/enable", headers={"X-API-Key": KEY}, environ_base=ELSEWHERE)
    assert keyed.status_code == 200, "somebody else"
    assert client.get("/api/v1/policies").status_code == 200
    assert client.post("/api/v1/check", json=WEB).status_code == 200
    assert client.post("/api/v1/freeze", json={"scope": "f", "reason": "r"}).status_code == 201, "an emergency"


def test_a_refused_change_is_not_counted(services: Services) -> None:
    client = create_app(services(rate_limit_writes="1/hour", rate_limit_logins="")).test_client()
    for _ in range(5):
        problem(client.post("/api/v1/policies/web/enable", environ_base=ELSEWHERE), 401)
    assert client.post("/api/v1/policies/web/enable").status_code == 200


GUESSED = [
    ("POST", "/api/v1/policies/web/enable"),
    ("GET", "/api/v1/decisions"),
    ("GET", "/api/v1/whoami"),
    ("GET", "/events"),
]


def guess(client: FlaskClient, method: str, path: str, key: str, address: str = "10.0.0.7") -> int:
    answer = client.open(path, method=method, headers={"X-API-Key": key}, environ_base={"REMOTE_ADDR": address})
    return answer.status_code


@pytest.mark.parametrize(("method", "path"), GUESSED)
def test_failed_logins(services: Services, method: str, path: str) -> None:
    client = create_app(services(rate_limit_logins="3/hour", admin_key=KEY)).test_client()
    assert [guess(client, method, path, f"guess {number}") for number in range(4)] == [401] * 3 + [429]
    assert guess(client, method, path, "guess again", "10.0.0.8") == 401
    assert guess(client, method, path, KEY) == 200, "nobody can keep the admin key out who shares an address"
    assert client.get("/api/v1/decisions", environ_base=ELSEWHERE).status_code == 200, "without a key"


def test_right_keys_are_not_counted(services: Services) -> None:
    client = create_app(services(rate_limit_logins="1/hour", admin_key=KEY)).test_client()
    assert {guess(client, "POST", "/api/v1/policies/web/enable", KEY) for _ in range(5)} == {200}


def test_failed_logins_of_checks(services: Services) -> None:
    client = create_app(services(rate_limit_logins="3/hour")).test_client()

    def check(number: int) -> int:
        headers = {"Authorization": f"Bearer guess {number}"}
        return client.post("/api/v1/check", json=WEB, headers=headers, environ_base=ELSEWHERE).status_code

    assert [check(number) for number in range(5)] == [401] * 3 + [429] * 2
    assert client.post("/api/v1/check", json=WEB, environ_base=ELSEWHERE).status_code == 200, "without a key"


def test_who_was_let_in_before_stays_so_while_others_guess(services: Services) -> None:
    service = services(rate_limit_logins="3/hour")
    client = create_app(service).test_client()
    keys = [service.keys.create(name, ("viewer",), author="ann")[1] for name in ("known", "new")]
    assert guess(client, "GET", "/api/v1/whoami", keys[0]) == 200
    assert [guess(client, "GET", "/api/v1/whoami", f"guess {number}") for number in range(4)] == [401] * 3 + [429]
    assert [guess(client, "GET", "/api/v1/whoami", key) for key in keys] == [200, 429], "none is verified at length"
    assert guess(client, "GET", "/api/v1/whoami", keys[1], "10.0.0.8") == 200
    assert guess(client, "GET", "/api/v1/whoami", keys[1]) == 200, "by now it was let in"


def test_writes_of_one_network_count_together(services: Services) -> None:
    client = create_app(services(rate_limit_writes="2/hour", trusted_networks=("2001:db8::/32",))).test_client()
    asked = [
        client.post("/api/v1/policies/web/enable", environ_base={"REMOTE_ADDR": f"2001:db8::{number}"}).status_code
        for number in range(1, 5)
    ]
    assert asked == [200, 200, 429, 429]


def test_each_use_of_the_admin_key_of_the_settings_is_told(services: Services) -> None:
    service = services(admin_key=KEY)
    client = create_app(service).test_client()
    assert guess(client, "POST", "/api/v1/policies/web/disable", KEY) == 200
    assert guess(client, "GET", "/api/v1/policies", KEY) == 200
    assert guess(client, "GET", "/livez", KEY) == 200
    assert guess(client, "GET", "/api/v1/keys", KEY) == 200
    event, looked = service.events.page(event_types={"BREAK_GLASS_USED"}).events
    assert looked.details["action"] == "GET /api/v1/policies", "once a minute"
    assert event.details == {
        "author": "admin key (10.0.0.7)",
        "source": "10.0.0.7",
        "action": "POST /api/v1/policies/web/disable",
    }


def test_anonymous_checks(services: Services) -> None:
    service = services(rate_limit_anonymous_checks="5/hour", admin_key=KEY)
    client = create_app(service).test_client()
    batch = {"policy_type": "network_security", "contexts": [WEB["context"]] * 3}
    paths = [("/api/v1/check", WEB), ("/api/check_policy", WEB), ("/api/v1/check/batch", batch)]
    assert [client.post(path, json=body, environ_base=ELSEWHERE).status_code for path, body in paths] == [200] * 3
    for path, body in paths:
        answer = client.post(path, json=body, environ_base=ELSEWHERE)
        assert "too many checks" in problem(answer, 429)["detail"]
        assert int(answer.headers["Retry-After"]) > 3500
        assert client.post(path, json=body, environ_base={"REMOTE_ADDR": "10.0.0.8"}).status_code == 200
        assert client.post(path, json=body).status_code == 200, "this machine is not anonymous"
        keyed = client.post(path, json=body, headers={"X-API-Key": KEY}, environ_base=ELSEWHERE)
        assert keyed.status_code == 200


def test_limits_that_are_off(services: Services) -> None:
    client = create_app(services(rate_limit_writes="", rate_limit_logins="off", admin_key=KEY)).test_client()
    assert {client.post("/api/v1/policies/web/enable").status_code for _ in range(20)} == {200}
    assert {guess(client, "POST", "/api/v1/policies/web/enable", "wrong") for _ in range(20)} == {401}


@pytest.mark.parametrize("name", ["WRITES", "LOGINS", "ANONYMOUS_CHECKS"])
@pytest.mark.parametrize("text", ["many", "5", "5/fortnight", "-1/minute", "0x5/minute"])
def test_rates_that_are_none(name: str, text: str) -> None:
    with pytest.raises(SettingsError, match="is not a rate"):
        load_settings({f"POLICY_RATE_LIMIT_{name}": text})
