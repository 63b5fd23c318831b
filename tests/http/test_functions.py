"""Functions over HTTP: read, write, validate, test; and policies that name them."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient
from tests.conftest import Services
from tests.http.shapes import problem

from policy_engine.http.app import create_app
from policy_engine.service import PolicyService

CODE = "def judge(context):\n    return {'allowed': context.get('n', 0) > 1, 'reason': 'n', 'violations': ['small']}\n"
NEW = {"id": "judge", "name": "The Judge", "description": "d", "code": CODE, "metadata": {"tags": ["x"]}}
POLICY = {"id": "fun", "type": "door", "function_id": "judge"}


def check(client: FlaskClient, **context: Any) -> dict[str, Any]:
    found: dict[str, Any] = client.post("/api/v1/check", json={"policy_type": "door", "context": context}).get_json()
    return found


def test_a_function_is_created_read_changed_and_deleted(client: FlaskClient, service: PolicyService) -> None:
    made = client.post("/api/v1/functions", json=NEW, headers={"X-Change-Reason": "why"})
    assert (made.status_code, made.headers["Location"]) == (201, "/api/v1/functions/judge")
    shown = client.get("/api/v1/functions/judge")
    assert shown.headers["ETag"] == made.headers["ETag"]
    assert shown.get_json()["created_at"] == shown.get_json()["updated_at"]
    assert client.get("/api/v1/functions").get_json() == [shown.get_json()]
    changed = client.put(
        "/api/v1/functions/judge", json={"description": "e"}, headers={"If-Match": made.headers["ETag"]}
    )
    assert changed.get_json()["function"]["description"] == "e"
    assert changed.get_json()["function"]["code"] == CODE
    assert client.delete("/api/v1/functions/judge").status_code == 200
    problem(client.get("/api/v1/functions/judge"), 404)
    told = [(event.event_type, event.details) for event in service.events.page().events][-3:]
    assert [kind for kind, _ in told] == ["FUNCTION_CREATED", "FUNCTION_UPDATED", "FUNCTION_DELETED"]
    assert told[0][1]["function_id"] == "judge"
    assert told[0][1]["reason"] == "why"


def test_entity_tags_guard_changes(client: FlaskClient) -> None:
    tag = client.post("/api/v1/functions", json=NEW).headers["ETag"]
    assert client.get("/api/v1/functions/judge", headers={"If-None-Match": tag}).status_code == 304
    assert client.put("/api/v1/functions/judge", json={"description": "e"}).headers["ETag"] != tag
    problem(client.put("/api/v1/functions/judge", json={}, headers={"If-Match": tag}), 412)
    problem(client.delete("/api/v1/functions/judge", headers={"If-Match": tag}), 412)
    again = client.put("/api/v1/functions/judge", json={"description": "e"}).get_json()
    assert again["policy_version"] == client.get("/health").get_json()["version"]


def test_a_name_alone_becomes_the_id(client: FlaskClient) -> None:
    made = client.post("/api/v1/functions", json={"name": "model size check", "code": CODE}).get_json()
    assert made["id"] == "model_size_check"
    problem(client.post("/api/v1/functions", json={"name": "model size check", "code": CODE}), 409)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"id": "a"}, ""),
        ({"id": "a", "code": "def f(context): return x"}, "/code"),
        ({"id": "a", "code": CODE, "more": 1}, "/more"),
        ({"id": "a b", "code": CODE}, "/id"),
        ({"id": "a", "code": CODE, "metadata": {"entry": 5}}, "/metadata/entry"),
    ],
)
def test_what_is_no_function_is_refused(client: FlaskClient, body: dict[str, Any], pointer: str) -> None:
    errors = problem(client.post("/api/v1/functions", json=body), 400)["errors"]
    assert [error["pointer"] for error in errors] == [pointer]
    assert client.get("/api/v1/functions").get_json() == []


def test_a_policy_names_a_function(client: FlaskClient) -> None:
    client.post("/api/v1/functions", json=NEW)
    assert client.post("/api/v1/policies", json=POLICY).status_code == 201
    allowed, denied = check(client, n=2), check(client, n=1)
    assert (allowed["allowed"], allowed["reason_code"]) == (True, "function_allow")
    assert (denied["allowed"], denied["reason_code"]) == (False, "function_deny")
    assert denied["violations"][0]["reason"] == "policy `fun`: n [small]"
    client.put("/api/v1/functions/judge", json={"code": CODE.replace("> 1", "> 5")})
    assert check(client, n=2)["allowed"] is False
    problem(client.delete("/api/v1/functions/judge"), 409)
    assert client.get("/readyz").get_json()["status"] == "ready"


def test_a_policy_brings_its_own_code(client: FlaskClient) -> None:
    assert client.post("/api/v1/policies", json={"id": "fun", "type": "door", "function_code": CODE}).status_code == 201
    assert check(client, n=2)["allowed"] is True


@pytest.mark.parametrize(
    ("field", "detail"),
    [
        ({"function_id": "jugde"}, "no function `jugde`"),
        ({"function_code": "def f(context): return x"}, "line 1 column 24: name `x` is not defined"),
    ],
)
def test_a_policy_without_a_function_to_run_is_refused(client: FlaskClient, field: dict[str, str], detail: str) -> None:
    client.post("/api/v1/functions", json=NEW)
    for path in ("/api/v1/policies", "/policies"):
        (error,) = problem(client.post(path, json={"id": "fun", "type": "door", **field}), 400)["errors"]
        assert error["pointer"] == f"/{next(iter(field))}"
        assert detail in error["detail"]


def test_a_failure_denies_and_says_why_without_what_the_code_says(client: FlaskClient) -> None:
    code = "def judge(context):\n    raise ValueError(context['hidden'])\n"
    client.post("/api/v1/policies", json={"id": "fun", "type": "door", "function_code": code})
    decision = check(client, hidden="s3cret")
    assert (decision["allowed"], decision["reason_code"]) == (False, "function_error")
    assert decision["reason"] == "policy `fun`: it raised ValueError (function_error)"
    counted = client.get("/health").get_json()["functions"]
    assert (counted["calls"], counted["failures"]) == (1, {"raised": 1})


def test_functions_are_part_of_the_revision(client: FlaskClient, service: PolicyService) -> None:
    first, digest = service.revision.version, service.revision.digest
    client.post("/api/v1/functions", json=NEW)
    assert service.revision.digest != digest
    client.post("/api/v1/policies", json=POLICY)
    shown = client.get(f"/api/v1/revisions/{service.revision.version}").get_json()
    assert shown["functions"]["judge"]["code"] == CODE
    changes = client.get(f"/api/v1/revisions/{first}/diff/{first + 1}").get_json()["changes"]
    assert [(item["kind"], item["name"], item["action"]) for item in changes] == [("function", "judge", "created")]
    client.put("/api/v1/functions/judge", json={"code": CODE.replace("> 1", "> 5")})
    assert client.post(f"/api/v1/revisions/{first + 2}/rollback").status_code == 200
    assert check(client, n=2)["allowed"] is True
    client.post(f"/api/v1/revisions/{first}/rollback")
    assert service.revision.digest == digest
    assert client.get("/api/v1/functions").get_json() == []


def test_functions_are_there_after_a_restart_and_in_other_processes(services: Any) -> None:
    one, other = services(), services()
    create_app(one).test_client().post("/api/v1/functions", json=NEW)
    create_app(one).test_client().post("/api/v1/policies", json=POLICY)
    other._activation.catch_up()
    assert check(create_app(other).test_client(), n=2)["allowed"] is True
    services.end(one)
    assert check(create_app(services()).test_client(), n=2)["allowed"] is True


def test_validation_never_runs_the_code(client: FlaskClient) -> None:
    body = {"code": "while True: pass\ndef judge(context):\n    return contxt\n"}
    found = client.post("/api/v1/functions/validate", json=body).get_json()
    assert (found["valid"], found["entry"]) == (False, "judge")
    assert found["errors"] == [
        {"line": 3, "column": 12, "detail": "name `contxt` is not defined", "hint": "did you mean `context`?"}
    ]
    assert found["message"].startswith("line 3 column 12: ")
    assert client.post("/api/v1/functions/validate", json={"code": CODE}).get_json()["valid"] is True
    assert client.get("/health").get_json()["functions"]["calls"] == 0


def test_a_function_is_tried_out(client: FlaskClient) -> None:
    client.post("/api/v1/functions", json=NEW)
    for which in ({"code": CODE}, {"function_id": "judge"}):
        found = client.post("/api/v1/functions/test", json={**which, "context": {"n": 2}}).get_json()
        assert found["success"] is True
        assert found["result"]["allowed"] is True
        assert found["time_ms"] > 0
    other = {"code": CODE + "def other(c):\n    print('hi')\n    return {'allowed': False}\n", "entry": "other"}
    found = client.post("/api/v1/functions/test", json=other).get_json()
    assert (found["result"], found["output"]) == ({"allowed": False}, "hi\n")


SEEN = """
def judge(context):
    return {'allowed': True, 'parameters': {name: context[name] for name in context if name[-2:] in ('ip', 'nt')}}
"""


def test_what_is_tried_out_sees_what_a_check_shows_it(client: FlaskClient) -> None:
    whole = {"id": "whole", "code": SEEN}
    part = {"id": "part", "code": SEEN, "metadata": {"inputs": ["src_ip", "client.region"]}}
    for body in (whole, part):
        assert client.post("/api/v1/functions", json=body).status_code == 201
        policy = {"id": body["id"], "type": body["id"], "function_id": body["id"]}
        assert client.post("/api/v1/policies", json=policy).status_code == 201
    context = {"source_ip": "6.6.6.6", "client": {"region": "eu", "rank": 1}}
    expected = {"whole": {"src_ip": "6.6.6.6", "client": {"region": "eu", "rank": 1}}}
    expected["part"] = {"src_ip": "6.6.6.6", "client": {"region": "eu"}}
    for name, seen in expected.items():
        asked = {"policy_type": name, "context": context}
        checked = client.post("/api/v1/check", json=asked).get_json()["parameters"]
        tried = client.post("/api/v1/functions/test", json={"function_id": name, "context": context}).get_json()
        assert tried["result"]["parameters"] == checked == seen


@pytest.mark.parametrize("context", [{"a.b": 1}, {"source_ip": "1.1.1.1", "src_ip": "2.2.2.2"}, [], 5])
def test_a_context_that_no_check_takes_is_not_tried_out(client: FlaskClient, context: Any) -> None:
    problem(client.post("/api/v1/functions/test", json={"code": SEEN, "context": context}), 400)


@pytest.mark.parametrize(
    ("code", "kind", "error"),
    [
        ("def f(context):\n    return x", "source", "line 2 column 12: name `x` is not defined"),
        ("def f(context):\n    raise ValueError('why')", "raised", "ValueError: why"),
        ("def f(context):\n    while True: pass", "timeout", "it took too long"),
        ("def f(context):\n    return 5", "answer", "it answered something that is not an object with `allowed`"),
    ],
)
def test_what_fails_when_it_is_tried_out_says_why(client: FlaskClient, code: str, kind: str, error: str) -> None:
    response = client.post("/api/v1/functions/test", json={"code": code, "context": {}})
    found = response.get_json()
    assert (response.status_code, found["success"], found["kind"], found["error"]) == (200, False, kind, error)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"code": CODE, "function_id": "judge"}, "/code"),
        ({"context": {}}, "/code"),
        ({"code": CODE, "context": []}, "/context"),
        ({"code": CODE, "contxt": {}}, "/contxt"),
        ({"code": CODE, "entry": 5}, "/entry"),
        ({"function_id": ""}, "/function_id"),
    ],
)
def test_a_trial_that_cannot_be_understood_is_refused(client: FlaskClient, body: dict[str, Any], pointer: str) -> None:
    (error,) = problem(client.post("/api/v1/functions/test", json=body), 400)["errors"]
    assert error["pointer"] == pointer


def test_a_function_that_is_not_there_cannot_be_tried_out(client: FlaskClient) -> None:
    problem(client.post("/api/v1/functions/test", json={"function_id": "nope", "context": {}}), 404)


LOOP = "def judge(context):\n    while True: pass\n"


def test_shadow_policies_that_take_too_long_change_no_answer(client: FlaskClient) -> None:
    for number in range(3):
        body = {"id": f"loop{number}", "type": "gate", "mode": "shadow", "function_code": LOOP}
        assert client.post("/api/v1/policies", json=body).status_code == 201
    good = {"id": "good", "type": "gate", "function_code": CODE}
    assert client.post("/api/v1/policies", json=good).status_code == 201
    asked = {"policy_type": "gate", "contexts": [{"n": 2}] * 4}
    decisions = client.post("/api/v1/check/batch", json=asked).get_json()["decisions"]
    assert [each["reason_code"] for each in decisions] == ["function_allow"] * 4
    assert [each["shadow"]["allowed"] for each in decisions] == [False] * 4


def test_a_function_that_decides_is_asked_for_its_shadow_at_the_expense_of_that(client: FlaskClient) -> None:
    code = "def judge(context):\n    while context.get('slow'): pass\n    return {'allowed': True}"
    watching = {"id": "watching", "type": "gate", "mode": "shadow", "rules": [{"action": "allow"}]}
    for body in ({"id": "some", "type": "gate", "function_code": code}, watching):
        assert client.post("/api/v1/policies", json=body).status_code == 201
    asked = {"policy_type": "gate", "contexts": [{"slow": True}, {"slow": True}, {}]}
    decisions = client.post("/api/v1/check/batch", json=asked).get_json()["decisions"]
    assert [each["allowed"] for each in decisions] == [False, False, True]


def test_the_time_of_a_simulated_check_reaches_a_function_by_its_context(client: FlaskClient) -> None:
    code = """
def judge(context):
    when = context["now"]
    same = (when.hour, when.minute) == (context["current_hour"], context["current_minute"])
    return {"allowed": same and when.weekday() == context["current_day_of_week"], "reason": str(when)}
"""
    assert client.post("/api/v1/policies", json={"id": "t", "type": "time", "function_code": code}).status_code == 201
    asked = {"policy_type": "time", "context": {}, "at": "2020-02-29T23:30:00Z"}
    found = client.post("/api/v1/check", json=asked).get_json()
    assert (found["allowed"], found["reason"]) == (True, "policy `t`: 2020-02-29 23:30:00+00:00")


@pytest.mark.parametrize("mode", ["enforce", "shadow"])
def test_what_a_function_quotes_of_a_secret_is_not_logged(services: Services, mode: str) -> None:
    client = create_app(services(decision_log="sync")).test_client()
    code = """
def judge(context):
    said, secret = str(context["login"]), context["login"]["password"]
    return {"allowed": False, "reason": said, "violations": [secret], "parameters": {said: [said]}}
"""
    policy = {"id": "t", "type": "gate", "mode": mode, "function_code": code}
    assert client.post("/api/v1/policies", json=policy).status_code == 201
    asked = {"policy_type": "gate", "context": {"login": {"password": "hunter'é2", "user": "alice"}}}
    decision_id = client.post("/api/v1/check", json=asked).get_json()["decision_id"]
    logged = client.get(f"/api/v1/decisions/{decision_id}")
    assert logged.status_code == 200
    assert "alice" in logged.text
    assert "hunter" not in logged.text
    assert "hunter" not in client.get("/events").text
