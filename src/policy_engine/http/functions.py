"""Custom policy functions: read, write, validate without running, test in the sandbox."""

from __future__ import annotations

from http import HTTPStatus
from operator import attrgetter
from typing import Any

from flask import Blueprint, Response, url_for

from policy_engine.function_administration import entity_tag
from policy_engine.functions.check import CodeFault, check_code
from policy_engine.functions.function import function_document
from policy_engine.http.bodies import cause, invalid, json_body, json_response, service
from policy_engine.http.conditional import conditional, expect_nothing, expected
from policy_engine.model.function import StoredFunction

functions = Blueprint("functions", __name__)

_VALIDATED = ("code", "entry")
_TESTED = ("code", "function_id", "context", "entry")


@functions.get("/api/v1/functions")
def list_functions() -> Response:
    """All custom policy functions as an array, by id."""
    listed = sorted(service().functions.functions.values(), key=attrgetter("id"))
    return conditional(json_response([function_document(function) for function in listed]))


@functions.get("/api/v1/functions/<function_id>")
def get_function(function_id: str) -> Response:
    """One custom policy function."""
    function = service().functions.function(function_id)
    return conditional(json_response(function_document(function), headers=_tagged(function)))


@functions.post("/api/v1/functions")
def create_function() -> Response:
    """Create a custom policy function; without an id, its name becomes one."""
    expect_nothing()
    function = service().functions.create(json_body(), cause=cause())
    location = url_for("functions.get_function", function_id=function.id)
    return json_response(_changed(function), HTTPStatus.CREATED, {"Location": location, **_tagged(function)})


@functions.put("/api/v1/functions/<function_id>")
def merge_function(function_id: str) -> Response:
    """Change top-level fields of a function; those that are not sent stay, one that is sent as null is removed."""
    function = service().functions.merge(function_id, json_body(), expected=expected(), cause=cause())
    return json_response(_changed(function), headers=_tagged(function))


@functions.delete("/api/v1/functions/<function_id>")
def delete_function(function_id: str) -> Response:
    """Delete a function that no policy names."""
    service().functions.delete(function_id, expected=expected(), cause=cause())
    return json_response(
        {"success": True, "id": function_id, "deleted": True, "policy_version": service().revision.version}
    )


@functions.post("/api/v1/functions/validate")
def validate_function() -> Response:
    """Look for faults in the source of a function, and never run it; `errors` has lines and columns."""
    body = _body(_VALIDATED)
    checked = check_code(_text(body, "code"), _entry(body))
    message = "the function is valid" if not checked.faults else "; ".join(map(str, checked.faults[:3]))
    return json_response(
        {"valid": not checked.faults, "message": message, "entry": checked.entry or None, "errors": checked.faults}
    )


@functions.post("/api/v1/functions/test")
def run_function() -> Response:
    """Run a source, or a function by its id, in the sandbox with a context; tell what it answers and what it took."""
    body = _body(_TESTED)
    code, entry, inputs = _tested(body)
    checked = check_code(code, entry)
    if checked.faults:
        return json_response(_failed("source", str(checked.faults[0]), checked.faults))
    found = service().try_function(code, checked.entry, body.get("context", {}), inputs=inputs)
    took = {"time_ms": round(found.seconds * 1e3, 3), "memory_bytes": found.memory_bytes, "output": found.output}
    if found.error is None:
        return json_response({"success": True, "result": found.value, **took})
    line = {"line": found.error.line} if found.error.line else {}
    return json_response({**_failed(found.error.kind, found.error.message or str(found.error)), **line, **took})


def _tested(body: dict[str, Any]) -> tuple[str, str | None, tuple[str, ...] | None]:
    """Return the source to run, the name of what to call in it, and what it declares to see."""
    if ("code" in body) == ("function_id" in body):
        raise invalid("code", "send either `code` or `function_id`")
    if "code" in body:
        return _text(body, "code"), _entry(body), None
    function = service().functions.function(_text(body, "function_id"))
    return function.code, _entry(body) or function.entry, function.inputs


def _body(known: tuple[str, ...]) -> dict[str, Any]:
    body = json_body()
    for name in body:
        if name not in known:
            raise invalid(name, f"unknown field `{name[:40]}`")
    return body


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise invalid(name, f"field `{name}` is missing, or no text")
    return value


def _entry(body: dict[str, Any]) -> str | None:
    return None if body.get("entry") is None else _text(body, "entry")


def _failed(kind: str, error: str, faults: tuple[CodeFault, ...] = ()) -> dict[str, Any]:
    return {"success": False, "error": error, "kind": kind, "errors": faults}


def _changed(function: StoredFunction) -> dict[str, Any]:
    return {
        "success": True,
        "id": function.id,
        "policy_version": service().revision.version,
        "function": function_document(function),
    }


def _tagged(function: StoredFunction) -> dict[str, str]:
    return {"ETag": f'"{entity_tag(function)}"'}
