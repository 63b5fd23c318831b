"""The shapes that every answer of a kind has."""

from __future__ import annotations

from typing import Any

from flask import Flask
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

PROBLEM_MEMBERS = {"type", "title", "status", "detail", "instance", "error"}
AUTOMATIC = {"HEAD", "OPTIONS"}


def problem(response: TestResponse, status: int) -> dict[str, Any]:
    """Check that a response is a problem document and return it."""
    assert response.status_code == status, response.text
    assert response.mimetype == "application/problem+json"
    assert response.headers["X-Request-ID"]
    document: dict[str, Any] = response.get_json(force=True)
    assert document.keys() - {"errors", "code"} == PROBLEM_MEMBERS
    assert document["status"] == status
    assert document["error"] == document["detail"] != ""
    assert document["instance"] == response.request.path
    for item in document.get("errors", ()):
        assert {"pointer", "detail"} <= item.keys() <= {"pointer", "detail", "hint", "excerpt"}
    return document


def pointers(response: TestResponse, status: int = 400) -> list[str]:
    return [item["pointer"] for item in problem(response, status).get("errors", ())]


def routes(app: Flask) -> list[tuple[str, Rule]]:
    return [
        (method, rule) for rule in app.url_map.iter_rules() for method in sorted((rule.methods or set()) - AUTOMATIC)
    ]
