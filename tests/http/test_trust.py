"""Trust over HTTP: rounds in, advice out; who may do it; what people see and decide."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from tests.conftest import Services
from tests.http.shapes import problem
from tests.service.running import eventually
from tests.trust.rounds import ATTACK, HONEST, observed

from policy_engine.functions.runtime import MAX_TURN_TIMEOUTS
from policy_engine.http.app import create_app
from policy_engine.service import PolicyService
from policy_engine.trust.observation import RoundObservation

ELSEWHERE = {"REMOTE_ADDR": "192.0.2.7"}


def body(observation: RoundObservation) -> dict[str, Any]:
    made: dict[str, Any] = msgspec.to_builtins(observation)
    return made


def observe(client: Any, number: int, *updates: Any, **more: Any) -> Any:
    return client.post(
        "/api/v1/trust/observations", json=body(observed(number, *(updates or (*HONEST, ATTACK)))), **more
    )


@pytest.fixture
def lived(client: Any) -> Any:
    for number in range(1, 6):
        assert observe(client, number).status_code == 200
    return client


# Rounds


def test_advice_says_what_to_do_with_each_update(client: Any) -> None:
    answer = observe(client, 1).json
    assert (answer["federation"], answer["round"], answer["held"]) == ("f", 1, False)
    by_client = {each["client_id"]: each for each in answer["clients"]}
    assert [each["client_id"] for each in answer["clients"]] == [each.client_id for each in (*HONEST, ATTACK)]
    assert by_client["h0"] == {
        "client_id": "h0",
        "trust": pytest.approx(0.86, abs=0.01),
        "band": "trusted",
        "accept": True,
        "clip_norm": None,
        "weight_multiplier": 0.5,
        "quality": 1.0,
        "reason": "on probation",
        "quarantined_by": "",
    }
    assert (by_client["x"]["accept"], by_client["x"]["weight_multiplier"]) == (False, 0.0)


def test_a_resend_gets_the_first_answer(lived: Any) -> None:
    first = observe(lived, 6)
    again = observe(lived, 6)
    assert (again.status_code, again.json) == (200, first.json)


def test_other_content_is_a_conflict(lived: Any) -> None:
    answer = observe(lived, 5, *HONEST)
    assert (answer.status_code, answer.json["code"]) == (409, "conflict")


def test_a_late_round_says_so(lived: Any) -> None:
    assert observe(lived, 9).status_code == 200
    answer = observe(lived, 7)
    assert (answer.status_code, answer.json["code"]) == (409, "late")
    assert "round 9 is closed" in answer.json["detail"]


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"round": 0}, "/round"),
        ({"round": "1"}, "/round"),
        ({"federation": "a b"}, "/federation"),
        ({"clients": []}, "/clients"),
        ({"clients": [{"client_id": "a", "norm": -1, "cos_ref": 0}]}, "/clients"),
        ({"clients": [{"client_id": "a", "norm": 1, "cos_ref": 2}]}, "/clients"),
        ({"clients": [{"client_id": "a"}]}, "/clients"),
        ({"clients": [{"client_id": "a", "answered": False, "norm": 1}]}, "/clients"),
        ({"clients": [{"client_id": "a", "norm": 1, "cos_ref": 0, "loss": "x"}]}, "/clients"),
        ({"clients": [{"client_id": "a", "norm": 1, "cos_ref": 0}] * 2}, ""),
        ({"surprise": 1}, ""),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_place(lived: Any, change: dict[str, Any], pointer: str) -> None:
    before = lived.get("/api/v1/trust").json
    answer = lived.post("/api/v1/trust/observations", json={**body(observed(6, *HONEST)), **change})
    assert answer.status_code == 400
    assert answer.json["errors"][0]["pointer"].startswith(pointer)
    assert lived.get("/api/v1/trust").json == before


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_what_is_no_number_is_refused(client: Any, number: str) -> None:
    text = f'{{"federation": "f", "round": 1, "clients": [{{"client_id": "a", "norm": {number}, "cos_ref": 0.1}}]}}'
    answer = client.post("/api/v1/trust/observations", data=text, content_type="application/json")
    assert answer.status_code == 400


def test_a_selection_leaves_out_whom_nobody_trusts(lived: Any) -> None:
    asked = {"federation": "f", "round": 6, "candidates": ["h0", "x", "new"]}
    answer = lived.post("/api/v1/trust/selection", json=asked).json
    assert answer["invited"] == ["h0", "new"]
    assert set(answer["left_out"]) | set(answer["probed"]) == {"x"}


# Who may


WRITES: list[tuple[str, str, Any]] = [
    ("POST", "/api/v1/trust/observations", body(observed(6, *HONEST))),
    ("POST", "/api/v1/trust/violations", {"client_id": "h0", "policy_id": "p", "rule_index": 0}),
    ("PUT", "/api/v1/trust/clients/h0/override", {"trust_score": 0.0, "reason": "r", "federation": "f"}),
    ("DELETE", "/api/v1/trust/clients/h0/override", None),
    ("PUT", "/api/v1/trust/clients/h0/quarantine", {"reason": "r", "federation": "f"}),
    ("DELETE", "/api/v1/trust/clients/h0/quarantine", None),
    ("POST", "/api/v1/trust/recalculate", None),
]


@pytest.mark.parametrize(("method", "path", "sent"), WRITES)
def test_strangers_change_nothing(lived: Any, method: str, path: str, sent: Any) -> None:
    before = lived.get("/api/v1/trust").json
    answer = lived.open(path, method=method, json=sent, environ_overrides=ELSEWHERE)
    assert answer.status_code == 401
    assert lived.get("/api/v1/trust").json == before


@pytest.mark.parametrize("path", ["/api/v1/trust", "/api/v1/trust/clients/h0"])
def test_strangers_do_not_see_who_the_clients_are(lived: Any, path: str) -> None:
    assert lived.get(path, environ_overrides=ELSEWHERE).status_code == 401


def test_denied_checks_in_a_name_change_nothing(services: Services, document: Any, policy_file: Any) -> None:
    rule = {"action": "deny", "match": {"operation": "cheat"}, "counts_against": "client"}
    document["policies"]["cheat"] = {"type": "fl_security", "rules": [rule]}
    policy_file.write_text(msgspec.json.encode(document).decode())
    client: Any = create_app(services()).test_client()
    assert observe(client, 1).status_code == 200
    before = client.get("/api/v1/trust/clients/h0").json
    asked = {"policy_type": "fl_security", "contexts": [{"client_id": "h0", "operation": "cheat"}] * 10_000}
    answer = client.post("/api/v1/check/batch?fields=allowed", json=asked, environ_overrides=ELSEWHERE)
    assert {each["allowed"] for each in answer.json["decisions"]} == {False}
    for _ in range(50):
        one = {"policy_type": "fl_security", "context": asked["contexts"][0]}
        assert client.post("/api/v1/check", json=one, environ_overrides=ELSEWHERE).status_code == 200
    assert client.get("/api/v1/trust/clients/h0").json == before


def test_a_violation_needs_a_rule_that_counts(services: Services, document: Any, policy_file: Any) -> None:
    rule = {"action": "deny", "match": {"dst_port": 23}, "counts_against": "client"}
    document["policies"]["web"]["rules"].append(rule)
    policy_file.write_text(msgspec.json.encode(document).decode())
    client: Any = create_app(services()).test_client()

    def report(policy: str, number: int) -> Any:
        sent = {"client_id": "h0", "policy_id": policy, "rule_index": number, "federation": "f"}
        return client.post("/api/v1/trust/violations", json=sent)

    observe(client, 1)
    assert report("none", 0).status_code == 404
    assert report("web", 9).json["errors"][0]["pointer"] == "/rule_index"
    assert report("web", 0).json["errors"][0]["pointer"] == "/rule_index"
    first, again = report("web", 2).json, report("web", 2).json
    assert (first["counted"], again["counted"]) == (True, False)
    assert first["trust_score"] == again["trust_score"] < 0.85


# People


def test_a_client_is_explained(lived: Any) -> None:
    answer = lived.get("/api/v1/trust/clients/x").json
    assert (answer["known"], answer["trust_band"]) == (True, "excluded")
    assert set(answer["factors"]) == set(answer["weights"])
    assert answer["why"][0].startswith("reckoned: (0.3 x 1.00 participation + ")
    assert [each["round"] for each in answer["history"]] == [5, 4, 3, 2, 1]
    assert answer["history"][0]["reason"] == "its quality is 0.00, below 0.2"
    older = lived.get("/api/v1/trust/clients/x?before=3&limit=1").json["history"]
    assert [each["round"] for each in older] == [2]


def test_a_client_nobody_has_seen_is_not_found(lived: Any) -> None:
    assert lived.get("/api/v1/trust/clients/nobody").status_code == 404
    assert lived.delete("/api/v1/trust/clients/h0/quarantine").status_code == 404


def test_pages_go_through_all_clients(lived: Any) -> None:
    found: list[str] = []
    cursor = ""
    while True:
        page = lived.get("/api/v1/trust", query_string={"limit": 2, "cursor": cursor}).json
        found += [each["client_id"] for each in page["clients"]]
        cursor = page["next_cursor"]
        if not cursor:
            break
    assert sorted(found) == sorted(each.client_id for each in (*HONEST, ATTACK))


def test_bands_tell_clients_apart(lived: Any) -> None:
    lived.put("/api/v1/trust/clients/h1/quarantine", json={"reason": "lost", "federation": "f"})
    lived.put("/api/v1/trust/clients/h2/override", json={"reason": "odd", "federation": "f", "trust_score": 0.5})

    def in_band(band: str) -> set[str]:
        return {each["client_id"] for each in lived.get(f"/api/v1/trust?band={band}").json["clients"]}

    assert in_band("excluded") == {"x"}
    assert in_band("quarantined") == {"h1"}
    assert in_band("reduced") == {"h2"}
    assert in_band("trusted") == {"h0", "h3", "h4", "h5", "h6", "h7"}
    assert lived.get("/api/v1/trust?band=trustd").json["errors"][0]["hint"] == "did you mean `trusted`?"


def test_a_quarantine_is_decided_and_taken_back(lived: Any) -> None:
    answer = lived.put("/api/v1/trust/clients/h0/quarantine", json={"reason": "stolen", "federation": "f"})
    assert answer.json["trust_band"] == "quarantined"
    (override,) = answer.json["overrides"]
    assert (override["reason"], override["expires_at"]) == ("stolen", None)
    checked = lived.get("/api/v1/trust/clients/h0").json
    assert "put it in quarantine: stolen" in checked["why"][1]
    back = lived.delete("/api/v1/trust/clients/h0/quarantine", headers={"X-Change-Reason": "found"})
    assert back.json["trust_band"] == "trusted"
    events = [event for event in lived.get("/events").json["events"] if event["event_type"].startswith("CLIENT_")]
    assert [event["event_type"] for event in events] == ["CLIENT_QUARANTINED", "CLIENT_RELEASED"]
    assert "'h0'" not in str(events)
    again = lived.delete("/api/v1/trust/clients/h0/quarantine")
    assert problem(again, 404)["detail"] == "client `h0` is not in quarantine in federation `f`"


def test_where_there_are_several_federations_one_has_to_be_named(lived: Any) -> None:
    body = msgspec.to_builtins(observed(1, *HONEST, federation="g"))
    lived.post("/api/v1/trust/observations", json=body)
    where = "/api/v1/trust/clients/h0/quarantine"
    for answer in (
        lived.put(where, json={"reason": "stolen"}),
        lived.delete(where),
        lived.get("/api/v1/trust/clients/h0"),
        lived.get("/api/v1/trust/trends"),
        lived.put("/api/v1/trust/clients/h0/override", json={"reason": "known", "trust_score": 0.1}),
    ):
        found = problem(answer, 400)["errors"][0]
        assert found["pointer"] == "/federation"
        assert found["detail"] == "there are several federations (`f`, `g`): say which one"
    assert lived.put(where, json={"reason": "stolen", "federation": "g"}).json["federation"] == "g"


def test_a_key_that_comes_twice_is_refused(lived: Any) -> None:
    body = msgspec.json.encode(observed(7, *HONEST)).replace(b'"round":7', b'"round":7,"round":8')
    found = problem(lived.post("/api/v1/trust/observations", data=body, content_type="application/json"), 400)
    assert "round" in found["detail"]


@pytest.mark.parametrize(
    "sent",
    [
        {"federation": "f", "trust_score": 0.5},
        {"reason": "", "trust_score": 0.5},
        {"reason": "r", "trust_score": 1.5},
        {"reason": "r"},
        {"reason": "r", "trust_score": 0.5, "expires_at": "2020-01-01T00:00:00Z"},
        {"reason": "r", "trust_score": 0.5, "expires_at": "tomorrow"},
    ],
)
def test_a_decision_needs_all_its_parts(lived: Any, sent: dict[str, Any]) -> None:
    assert lived.put("/api/v1/trust/clients/h0/override", json=sent).status_code == 400


def test_the_distribution_counts_everybody(lived: Any) -> None:
    answer = lived.get("/api/v1/trust/distribution").json
    assert (answer["federation"], answer["clients"]) == ("f", 9)
    assert sum(each["clients"] for each in answer["histogram"]) == 9
    assert answer["histogram"][0] == {"from": 0.0, "to": 0.1, "clients": 1}


def test_trends_tell_of_each_round(lived: Any) -> None:
    answer = lived.get("/api/v1/trust/trends?limit=2").json
    assert [each["round"] for each in answer["rounds"]] == [5, 4]
    assert answer["next_before"] == 4
    assert answer["rounds"][0]["bands"] == {"trusted": 8, "reduced": 0, "excluded": 1, "quarantined": 0}


def test_sources_tell_what_is_missing(lived: Any) -> None:
    observe(lived, 9)
    sources = {each["kind"]: each for each in lived.get("/api/v1/trust/data-sources").json["sources"]}
    assert sources["observations"]["entries"] == 6
    assert sources["observations"]["last_round"] == 9
    assert sources["observations"]["missing_rounds"] == [6, 7, 8]
    assert sources["observations"]["missing_statistics"]["cos_prev"] == 9
    assert sources["violations"] == {
        "federation": "f",
        "kind": "violations",
        "feeds": ["compliance"],
        "entries": 0,
        "last_seen": None,
        "last_round": None,
        "missing_rounds": [],
        "missing_statistics": {},
    }


def test_a_recalculation_runs_beside(lived: Any) -> None:
    answer = lived.post("/api/v1/trust/recalculate", headers={"X-Change-Reason": "to be sure"})
    assert (answer.status_code, answer.json["reason"]) == (202, "to be sure")
    job = eventually(lambda: _done(lived.get(answer.headers["Location"]).json), "the recalculation ends")
    assert (job["state"], job["changed"], job["done"]) == ("done", 0, job["total"])
    assert lived.get("/api/v1/trust/recalculate/none").status_code == 404


def _done(job: dict[str, Any]) -> dict[str, Any] | None:
    return job if job["state"] != "running" else None


def test_unknown_parameters_are_refused(lived: Any) -> None:
    answer = lived.get("/api/v1/trust/trends?limt=2")
    assert (answer.status_code, answer.json["errors"][0]["hint"]) == (400, "did you mean `limit`?")


# Checks


@pytest.fixture
def trusting(services: Services, document: Any, policy_file: Any) -> Callable[..., PolicyService]:
    def made(*rules: dict[str, Any]) -> PolicyService:
        document["policies"]["trust"] = {"type": "trust_reputation", "rules": list(rules)}
        policy_file.write_text(msgspec.json.encode(document).decode())
        service: PolicyService = services()
        return service

    return made


def test_evaluate_trust_is_done_after_the_answer(trusting: Callable[..., PolicyService]) -> None:
    match = {"component_type": "fl-client", "metric_type": "model_contribution"}
    service = trusting({"action": "evaluate_trust", "match": match})
    service.start()
    client: Any = create_app(service).test_client()
    for number in range(1, 6):
        observe(client, number)
    rule = {"action": "quarantine", "condition": "client.trust_score < 0.3"}
    client.post("/api/v1/policies", json={"id": "late", "type": "trust_reputation", "rules": [rule]})
    asked = {"policy_type": "trust_reputation", "context": {**match, "client_id": "x", "federation": "f"}}
    simulated = client.post("/api/v1/check", json={**asked, "at": "2026-01-01T00:00:00Z"}).json
    assert simulated["simulated"]
    assert client.get("/api/v1/trust/clients/x").json["trust_band"] == "excluded"
    client.post("/api/v1/check", json=asked)
    found = eventually(lambda: client.get("/api/v1/trust/clients/x").json["overrides"], "the client is judged")
    assert (found[0]["kind"], found[0]["author"]) == ("quarantine", "policy late")


def test_bands_are_unknown_while_the_store_is_away(trusting: Callable[..., PolicyService]) -> None:
    service = trusting({"action": "deny", "condition": "client.trust_band == 'unknown'"})
    client: Any = create_app(service).test_client()
    observe(client, 1)
    asked = {"policy_type": "trust_reputation", "context": {"client_id": "h0"}}
    assert client.post("/api/v1/check", json=asked).json["allowed"]
    service.engine.trust.facts.away = True
    assert client.post("/api/v1/check", json=asked).json["rule_index"] == 0


LOOP = "def judge(context):\n    while True: pass\n"


def test_the_functions_of_a_round_have_one_turn_together(services: Services) -> None:
    service = services()
    client: Any = create_app(service).test_client()
    client.post("/api/v1/policies", json={"id": "loop", "type": "trust_reputation", "function_code": LOOP})
    advice = observe(client, 1).json["clients"]
    assert len(advice) > MAX_TURN_TIMEOUTS
    assert not any(each["accept"] for each in advice)
    assert service.runtime.counters.snapshot().failures == {"timeout": MAX_TURN_TIMEOUTS}


def test_the_functions_that_judge_a_client_have_one_turn_together(services: Services) -> None:
    service = services()
    service.start()
    client: Any = create_app(service).test_client()
    observe(client, 1)
    asking = {"id": "ask", "type": "watch", "rules": [{"action": "evaluate_trust"}]}
    assert client.post("/api/v1/policies", json=asking).status_code == 201
    for number in range(MAX_TURN_TIMEOUTS + 2):
        loop = {"id": f"loop{number}", "type": "trust_reputation", "function_code": LOOP}
        assert client.post("/api/v1/policies", json=loop).status_code == 201
    client.post("/api/v1/check", json={"policy_type": "watch", "context": {"client_id": "x", "federation": "f"}})
    eventually(lambda: service.runtime.counters.snapshot().calls, "the client is judged")
    services.end(service)
    assert service.runtime.counters.snapshot().failures == {"timeout": MAX_TURN_TIMEOUTS}
