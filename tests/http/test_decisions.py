"""The decision log over HTTP: who finds what in it, and who may see what the request said."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from tests.conftest import Services
from tests.http.logged import post
from tests.http.shapes import pointers, problem
from tests.service.databases import locked
from tests.service.running import eventually

from policy_engine.http.app import create_app
from policy_engine.http.check import MAX_SYNC_BATCH
from policy_engine.model.mask import MASK
from policy_engine.service import PolicyService

TCP: dict[str, Any] = {"protocol": "tcp", "dst_port": 8080}
SYNC = {"X-Decision-Log": "sync"}
ELSEWHERE = {"REMOTE_ADDR": "10.0.0.7"}
UNKNOWN = "01a20dab-f439-7c92-a3d0-2ad804b041af"
PRIVATE = {"context", "facts", "client", "source"}


def check(client: FlaskClient, policy_type: str = "network_security", /, **context: Any) -> dict[str, Any]:
    decision: dict[str, Any] = post(client, "/api/v1/check", {"policy_type": policy_type, "context": context})
    return decision


def found(client: FlaskClient, /, **query: Any) -> list[dict[str, Any]]:
    """All decisions that match, page by page."""
    seen: list[dict[str, Any]] = []
    while True:
        response = client.get("/api/v1/decisions", query_string=query)
        assert response.status_code == 200, response.text
        seen += response.get_json()["decisions"]
        query["cursor"] = response.get_json()["next_cursor"]
        if query["cursor"] is None:
            return seen


def names(decisions: list[dict[str, Any]]) -> set[Any]:
    return {decision["context"]["n"] for decision in decisions}


@pytest.fixture
def filled(client: FlaskClient) -> FlaskClient:
    """A log of decisions; each request has a name."""
    check(client, n="server", client_id="a", **TCP)
    check(client, n="ssh", client_id="a", protocol="tcp", dst_port=22)
    check(client, n="other", client_id="b", **TCP)
    check(client, n="by name", component="sdn-controller", **TCP)
    check(client, n="by type", src_type="collector", **TCP)
    check(client, n="by server", server_id="s", **TCP)
    check(client, "fl_client_training", n="train", client_id="b", current_hour=3)
    check(client, "nope", n="undeclared")
    return client


FILTERS: list[tuple[dict[str, str], set[str]]] = [
    ({"policy_type": "fl_client_training"}, {"train"}),
    ({"policy_type": "nope"}, {"undeclared"}),
    ({"policy_type": "network"}, set()),
    ({"client": "a"}, {"server", "ssh"}),
    ({"client": "b"}, {"other", "train"}),
    ({"client": "nobody"}, set()),
    ({"client": "\0"}, set()),
    ({"component": "fl-client"}, {"server", "ssh", "other", "train"}),
    ({"component": "sdn-controller"}, {"by name"}),
    ({"component": "collector"}, {"by type"}),
    ({"component": "fl-server"}, {"by server"}),
    ({"policy_id": "web", "result": "deny"}, {"ssh"}),
    ({"policy_id": "web", "result": "allow", "client": "a"}, {"server"}),
    ({"policy_id": "web", "client": "a", "component": "fl-client"}, {"server", "ssh"}),
    ({"policy_id": "nobody"}, set()),
    ({"client": "a", "policy_type": "fl_client_training"}, set()),
    ({"policy_type": "", "client": "", "component": "", "result": "", "policy_id": "web", "start_time": ""},
     {"server", "ssh", "other", "by name", "by type", "by server"}),
]  # fmt: skip


@pytest.mark.parametrize(("query", "expected"), FILTERS)
@pytest.mark.parametrize("limit", [1, 100])
def test_filters(filled: FlaskClient, query: dict[str, str], expected: set[str], limit: int) -> None:
    assert names(found(filled, limit=limit, **query)) == expected


@pytest.mark.parametrize("allow", ["allow", "allowed", "true", "1", "ALLOW", "True"])
@pytest.mark.parametrize("deny", ["deny", "denied", "false", "0", "Deny"])
def test_result(client: FlaskClient, allow: str, deny: str) -> None:
    check(client, n="yes", **TCP)
    check(client, n="no", protocol="tcp", dst_port=22)
    assert names(found(client, result=allow)) == {"yes"}
    assert names(found(client, result=deny)) == {"no"}


def test_times(client: FlaskClient) -> None:
    moments = [check(client, n=str(number), **TCP)["timestamp"] for number in range(3)]
    one, two = (datetime.fromisoformat(moment) for moment in moments[1:])
    later = timedelta(seconds=5)
    for moment in (one.isoformat(), one.isoformat().replace("+00:00", "Z"), f"{one.timestamp():.6f}"):
        assert names(found(client, start_time=moment)) >= {"1", "2"}
        assert "2" not in names(found(client, end_time=moment))
    assert names(found(client, start_time=two.isoformat(), end_time=(two + later).isoformat())) == {"2"}
    assert found(client, start_time=(two + later).isoformat()) == []
    assert found(client, end_time="2020-01-01T00:00:00Z") == found(client, end_time="0001-01-01T00:00:00Z") == []
    assert len(found(client, start_time="2020-01-01", end_time="9999-12-31", limit=1)) == 3
    assert found(client, start_time="9999-12-31T23:59:59+00:00") == []


def test_a_time_without_a_zone_is_in_the_zone_of_the_service(services: Services) -> None:
    client = create_app(services(timezone="Asia/Tokyo")).test_client()
    decided = datetime.fromisoformat(check(client, n="x", **TCP)["timestamp"])
    here = (decided + timedelta(hours=9)).replace(tzinfo=None)
    assert len(found(client, start_time=here.isoformat(), end_time=(here + timedelta(seconds=5)).isoformat())) == 1
    assert found(client, start_time=(here + timedelta(seconds=5)).isoformat()) == []


BAD: list[tuple[str, str]] = [
    *(("result", value) for value in ("maybe", "2", "x" * 5000)),
    *((name, value) for name in ("start_time", "end_time") for value in ("x", "nan", "inf", "-1", "\u00b2", "9" * 400)),
    *(("start_time", value) for value in ("1.2.3", "253402300800", "2026-13-01", "12:00", ".", "2026-01-01T12:00 02")),
    *(("limit", value) for value in ("0", "-1", "1.5", "x", "\u0663", "9" * 30)),
    *(("cursor", value) for value in ("x", "nope", "AAAA", "%", "c", "A" * 32, "A" * 64, "\u00e9", "x" * 5000)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_bad_value_names_its_place(client: FlaskClient, name: str, value: str) -> None:
    response = client.get("/api/v1/decisions", query_string={name: value})
    assert pointers(response) == [f"/{name}"]
    assert len(response.text) < 1000


def test_a_cursor_of_another_store(services: Services, client: FlaskClient) -> None:
    other = create_app(services(data_dir=services().settings.data_dir + "-other")).test_client()
    for app in (client, other):
        for _ in range(3):
            check(app, **TCP)
    cursor = client.get("/api/v1/decisions?limit=1").get_json()["next_cursor"]
    assert client.get("/api/v1/decisions", query_string={"cursor": cursor}).status_code == 200
    assert pointers(other.get("/api/v1/decisions", query_string={"cursor": cursor})) == ["/cursor"]


def test_pages_are_newest_first_and_stay_put(client: FlaskClient) -> None:
    decided = [check(client, n=str(number), **TCP)["decision_id"] for number in range(7)]
    seen: list[str] = []
    cursor = None
    while True:
        query = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        page = client.get("/api/v1/decisions", query_string=query).get_json()
        assert len(page["decisions"]) <= 2
        seen += [decision["decision_id"] for decision in page["decisions"]]
        cursor = page["next_cursor"]
        check(client, n="meanwhile", **TCP)
        if cursor is None:
            break
    assert seen == decided[::-1]


def test_the_items_of_a_batch_are_found_one_by_one(client: FlaskClient) -> None:
    contexts = [{"protocol": "tcp", "dst_port": (22, 8080)[n % 2], "client_id": f"c{n % 5}", "n": n} for n in range(50)]
    body = {"policy_type": "network_security", "contexts": contexts}
    decisions = post(client, "/api/v1/check/batch", body)["decisions"]
    everything = found(client, limit=7)
    assert [item["decision_id"] for item in everything] == [item["decision_id"] for item in decisions][::-1]
    assert names(found(client, client="c3", result="deny", limit=3)) == {
        n for n in range(50) if n % 5 == 3 and n % 2 == 0
    }
    one = client.get(f"/api/v1/decisions/{decisions[17]['decision_id']}").get_json()
    assert one["context"]["n"] == 17


# One decision


def test_a_logged_decision_is_what_was_answered(client: FlaskClient) -> None:
    answered = check(client, client_id="a", **TCP)
    logged = client.get(f"/api/v1/decisions/{answered['decision_id']}").get_json()
    own = {"event_id", "component", "represents", *PRIVATE}
    assert {key: value for key, value in logged.items() if key not in own} == {
        key: value for key, value in answered.items() if key != "explanation"
    }
    assert logged["client"] == "a"
    assert logged["component"] == "fl-client"
    assert logged["source"] == "127.0.0.1"
    assert logged["represents"] == 1
    assert logged["context"] == {"client_id": "a", **TCP}
    assert [logged] == found(client)
    events = client.get("/events?event_type=POLICY_APPLIED").get_json()["events"]
    assert [event["event_id"] for event in events] == [logged["event_id"]]


def test_facts_are_logged_and_an_explanation_is_not(client: FlaskClient) -> None:
    body = {"policy_type": "fl_client_training", "context": {"client_id": "a"}, "explain": True}
    answered = post(client, "/api/v1/check", body)
    assert answered["explanation"]
    logged = client.get(f"/api/v1/decisions/{answered['decision_id']}").get_json()
    assert "explanation" not in logged
    assert logged["facts"] == {"current_hour": datetime.fromisoformat(answered["timestamp"]).hour}


@pytest.mark.parametrize(
    "decision_id", ["nope", "0", UNKNOWN, "00000000-0000-0000-0000-000000000000", "%ff", "x" * 5000]
)
def test_a_decision_that_is_not_there(filled: FlaskClient, decision_id: str) -> None:
    problem(filled.get(f"/api/v1/decisions/{decision_id}"), 404)


def test_secrets_are_not_logged(services: Services) -> None:
    service = services(masked_fields=("properties.diagnosis", "note"))
    client = create_app(service).test_client()
    context = {
        "password": "hunter2", "api_key": "hunter2", "note": ["hunter2"], "empty_password": None,
        "properties": {"diagnosis": "hunter2", "token": "hunter2", "diagnosis2": "seen", "list": [{"secret": 5}]},
    }  # fmt: skip
    answered = check(client, **TCP, **context)
    logged = client.get(f"/api/v1/decisions/{answered['decision_id']}").get_json()["context"]
    assert {logged["password"], logged["api_key"], logged["note"], logged["properties"]["diagnosis"]} == {MASK}
    assert logged["properties"]["list"] == [{"secret": MASK}]
    assert logged["properties"]["diagnosis2"] == "seen"
    assert logged["empty_password"] is None
    assert "hunter2" not in client.get("/api/v1/decisions").text + client.get("/events").text
    services.end(service)
    for content in service.settings.data_path.rglob("*"):
        assert content.is_dir() or b"hunter2" not in content.read_bytes()


# Who may see what


@pytest.mark.parametrize(
    ("headers", "environ", "trusted"),
    [
        ({}, {}, True),
        ({}, ELSEWHERE, False),
        ({"X-API-Key": "secret"}, ELSEWHERE, True),
        ({"Authorization": "Bearer secret"}, ELSEWHERE, True),
        ({"X-Forwarded-For": "10.0.0.7"}, {}, False),
        ({"Origin": "https://evil.example"}, {}, False),
        ({"Host": "evil.example"}, {}, False),
    ],
)
def test_what_the_request_said_is_for_trusted_callers(
    services: Services,
    headers: dict[str, str],
    environ: dict[str, str],
    trusted: bool,  # noqa: FBT001
) -> None:
    client = create_app(services(admin_key="secret")).test_client()
    decided = check(client, n="somebody", client_id="a", client_ip="192.0.2.9", **TCP)
    for path in ("/api/v1/decisions", f"/api/v1/decisions/{decided['decision_id']}"):
        response = client.get(path, headers=headers, environ_base=environ)
        answer = response.get_json()
        (shown,) = answer.get("decisions", [answer])
        assert shown["decision_id"] == decided["decision_id"]
        assert (shown.keys() >= PRIVATE) is trusted
        assert shown.keys().isdisjoint(PRIVATE) is not trusted
        assert ("192.0.2.9" in response.text) is trusted
        assert ("somebody" in response.text) is trusted
    response = client.get("/api/v1/decisions?client=a", headers=headers, environ_base=environ)
    if trusted:
        assert len(response.get_json()["decisions"]) == 1
    else:
        problem(response, 403 if headers.keys() & {"Origin", "Host"} else 401)


# When it is on the disk


def rows(service: PolicyService) -> int:
    with service.store.database.read() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM decision").scalar_one())


@pytest.mark.parametrize("settings", [{}, {"decision_log": "sync"}])
def test_sync_is_on_the_disk_before_the_answer(services: Services, settings: dict[str, str]) -> None:
    service = services(**settings)
    client = create_app(service).test_client()
    headers = {} if settings else SYNC
    single, batch = {"policy_type": "a", "context": {}}, {"policy_type": "a", "contexts": [{}] * 10}
    requests = [("/api/v1/check", single)] * 5 + [("/api/check_policy", single), ("/api/v1/check/batch", batch)]
    for number, (path, body) in enumerate(requests, 1):
        eventually(lambda: client.post(path, json=body, headers=headers).status_code == 200, "it answers")  # noqa: B023
        assert rows(service) >= number
    assert len(found(client)) >= 16


@pytest.mark.parametrize("wanted", ["batched", "Batched", None])
def test_batched_is_on_the_disk_soon(client: FlaskClient, service: PolicyService, wanted: str | None) -> None:
    headers = {"X-Decision-Log": wanted} if wanted else {}
    client.post("/api/v1/check", json={"policy_type": "a", "context": {}}, headers=headers)
    eventually(lambda: rows(service) == 1, "it is stored")


@pytest.mark.parametrize("wanted", ["", "x", "off", "sync, batched", "1"])
def test_a_mode_that_is_none(client: FlaskClient, wanted: str) -> None:
    for path, body in (("/api/v1/check", {"context": {}}), ("/api/v1/check/batch", {"contexts": []})):
        response = client.post(path, json={"policy_type": "a", **body}, headers={"X-Decision-Log": wanted})
        assert "X-Decision-Log" in problem(response, 400)["detail"]


def test_off_keeps_nothing(services: Services) -> None:
    service = services(decision_log="off")
    client = create_app(service).test_client()
    assert check(client, **TCP)["allowed"] is True
    service.administration.delete("web")
    assert rows(service) == 0
    assert found(client) == []


def test_what_is_not_on_the_disk_in_time_is_no_answer(services: Services) -> None:
    service = services(spool_max_bytes=0)  # it cannot go there either
    client = create_app(service).test_client()
    body = {"policy_type": "network_security", "context": TCP}
    with locked(service):
        response = client.post("/api/v1/check", json=body, headers=SYNC)
        assert "disk" in problem(response, 503)["detail"]
        assert response.headers["Retry-After"] == "1"
        assert client.post("/api/v1/check", json=body).status_code == 200, "others go on"
    eventually(lambda: len(found(client)) == 2, "it is recorded, a little later")


def test_an_unknown_parameter_is_refused_with_a_hint(client: FlaskClient) -> None:
    answer = problem(client.get("/api/v1/decisions?cleint=a"), 400)
    assert "there is no parameter `cleint`" in answer["detail"]
    assert "client" in str(answer["errors"])


def test_a_batch_that_waits_for_the_disk_is_not_too_large(client: FlaskClient) -> None:
    body = {"policy_type": "network_security", "contexts": [TCP] * (MAX_SYNC_BATCH + 1)}
    response = client.post("/api/v1/check/batch", json=body, headers=SYNC)
    assert pointers(response, 413) == ["/contexts"]
    assert found(client) == [], "nothing was decided"
    assert client.post("/api/v1/check/batch", json=body).status_code == 200
