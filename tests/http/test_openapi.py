"""The OpenAPI document says what the routes are, and takes what they take."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from tests.http.shapes import routes
from tests.http.test_routes import PLACEHOLDER

from policy_engine.http.app import create_app
from policy_engine.http.openapi import ANSWERS, BODIES, NO_BODY, QUERIES
from policy_engine.service import PolicyService


@pytest.fixture
def app(service: PolicyService) -> Flask:
    return create_app(service)


@pytest.fixture
def described(client: FlaskClient) -> Any:
    return client.get("/openapi.json").get_json()


def test_routes_and_document_are_equal(app: Flask, described: Any) -> None:
    there = {(method, PLACEHOLDER.sub("{}", rule.rule)) for method, rule in routes(app)}
    bare = {
        path: "/".join("{}" if part.startswith("{") else part for part in path.split("/"))
        for path in described["paths"]
    }
    listed = {(method.upper(), bare[path]) for path, operations in described["paths"].items() for method in operations}
    assert listed == there


def test_operations(described: Any) -> None:
    operations = [each for path in described["paths"].values() for each in path.values()]
    assert len({each["operationId"] for each in operations}) == len(operations)
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"], (method, path)
            in_path = {each["name"] for each in operation["parameters"] if each["in"] == "path"}
            assert in_path == {part[1:-1] for part in path.split("/") if part.startswith("{")}


def test_what_is_said_of_endpoints_is_of_endpoints_that_are_there(app: Flask) -> None:
    assert {*BODIES, *ANSWERS, *NO_BODY, *QUERIES} <= app.view_functions.keys()


def test_references_lead_somewhere(described: Any) -> None:
    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            return own + [found for item in value.values() for found in references(item)]
        return [found for item in value for found in references(item)] if isinstance(value, list) else []

    found = references(described)
    assert "#/components/schemas/CheckRequest" in found
    for reference in found:
        assert reference.removeprefix("#/components/schemas/") in described["components"]["schemas"]
    assert "\\A" not in str(described)


def test_parameters_of_queries_are_taken(described: Any, client: FlaskClient) -> None:
    sample = {"limit": "5", "before": "5", "federation": "f", "band": "trusted", "method": "rdp", "result": "deny"}
    for path, methods in described["paths"].items():
        named = [each["name"] for each in methods.get("get", {"parameters": []})["parameters"] if each["in"] == "query"]
        for name in named:
            answer = client.get(path.format(policy_id="web", client_id="c"), query_string={name: sample.get(name, "x")})
            assert "there is no parameter" not in answer.text, (path, name)
