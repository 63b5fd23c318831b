"""The routes as an OpenAPI document, made from the routes themselves and the types of their bodies."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
from flask import Flask
from werkzeug.routing import Rule

from policy_engine import __version__
from policy_engine.http.check import BatchRequest, CheckRequest, LegacyCheckRequest
from policy_engine.http.freezes import FreezeRequest
from policy_engine.http.privacy import Question, ReserveRequest, SettleRequest
from policy_engine.http.problem import JSON, PROBLEM_JSON
from policy_engine.http.trust import OverrideRequest, QuarantineRequest, SelectionRequest, ViolationReport
from policy_engine.model.decision import Decision
from policy_engine.trust.observation import RoundObservation

BODIES: dict[str, type] = {
    "/api/v1/check": CheckRequest,
    "/api/check_policy": LegacyCheckRequest,
    "/api/v1/check/batch": BatchRequest,
    "trust.observe_round": RoundObservation,
    "trust.select_clients": SelectionRequest,
    "trust.report_violation": ViolationReport,
    "trust.override_trust": OverrideRequest,
    "trust.quarantine_client": QuarantineRequest,
    "privacy.reserve_privacy": ReserveRequest,
    "privacy.ask_privacy": Question,
    "privacy.commit_privacy": SettleRequest,
    "privacy.release_privacy": SettleRequest,
    "freezes.set_freeze": FreezeRequest,
}
"""Endpoint -> the type of its body. Bodies of other endpoints are objects; see NO_BODY."""

ANSWERS: dict[str, type] = {"/api/v1/check": Decision, "/api/check_policy": Decision}
"""Endpoint -> the type of its answer, where there is one."""

NO_BODY = frozenset(
    {"policies.enable_policy", "policies.disable_policy", "revisions.roll_back", "trust.recalculate_trust"}
)
"""Endpoints of POST and PUT that take no body."""

QUERIES: dict[str, tuple[str, ...]] = {
    "events.list_events": ("since_event_id", "limit", "event_type"),
    "decisions.list_decisions": (
        *("start_time", "end_time", "policy_type", "component", "client", "result", "policy_id", "cursor", "limit"),
    ),
    "revisions.list_revisions": ("before", "limit"),
    "revisions.list_history": ("before", "limit"),
    "trust.list_trust": ("federation", "band", "cursor", "limit"),
    "trust.get_trust": ("federation", "before", "limit"),
    "trust.show_trends": ("federation", "before", "limit"),
    "trust.show_distribution": ("federation",),
    "privacy.list_privacy": ("federation", "cursor", "limit"),
    "privacy.get_privacy": ("federation", "method", "before", "limit"),
    "/api/v1/check/batch": ("fields",),
}
"""Endpoint -> the parameters of its query."""

_NUMBERS = frozenset({"limit", "before"})
_PLACEHOLDER = re.compile(r"<(?:\w+:)?(\w+)>")
_AUTOMATIC = frozenset({"HEAD", "OPTIONS"})
_REFERENCE = "#/components/schemas/{name}"
_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "instance", "error"],
    "properties": {
        **{name: {"type": "string"} for name in ("type", "title", "detail", "instance", "error", "code")},
        "status": {"type": "integer"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pointer", "detail"],
                "properties": {name: {"type": "string"} for name in ("pointer", "detail", "hint", "excerpt")},
            },
        },
    },
}


def describe(app: Flask) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of an app: every route that it has, and no other."""
    kinds = sorted({*BODIES.values(), *ANSWERS.values()}, key=lambda kind: kind.__name__)
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REFERENCE)
    known = dict(zip(kinds, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        operations = paths.setdefault(_PLACEHOLDER.sub(r"{\1}", rule.rule), {})
        for method in sorted((rule.methods or set()) - _AUTOMATIC):
            operations[method.lower()] = _operation(app.view_functions[rule.endpoint], rule, method, known)
    return {
        "openapi": "3.1.0",
        "info": {"title": "FLOPY-NET Policy Engine", "version": __version__},
        "paths": paths,
        "components": {"schemas": _portable({**components, "Problem": _PROBLEM})},
    }


def _operation(view: Callable[..., Any], rule: Rule, method: str, known: Mapping[type, Any]) -> dict[str, Any]:
    summary = (view.__doc__ or "").strip().partition("\n\n")[0]
    answer = known.get(ANSWERS.get(rule.endpoint, object), {})
    operation: dict[str, Any] = {
        "operationId": f"{method.lower()} {rule.rule}",
        "summary": " ".join(summary.split()),
        "parameters": [*_path(rule), *_query(QUERIES.get(rule.endpoint, ()))],
        "responses": {
            "2XX": {"description": "done", "content": {JSON: {"schema": answer}}},
            "default": {
                "description": "a problem",
                "content": {PROBLEM_JSON: {"schema": {"$ref": _REFERENCE.format(name="Problem")}}},
            },
        },
    }
    if method in {"POST", "PUT"} and rule.endpoint not in NO_BODY:
        schema = known.get(BODIES.get(rule.endpoint, object), {"type": "object"})
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": schema}}}
    return operation


def _path(rule: Rule) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "integer" if f"<int:{name}>" in rule.rule else "string"},
        }
        for name in sorted(rule.arguments)
    ]


def _query(names: Iterable[str]) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "query", "schema": {"type": "integer" if name in _NUMBERS else "string"}} for name in names
    ]


def _portable(value: Any) -> Any:
    """Return a schema whose patterns are those of JavaScript, which JSON Schema means."""
    if isinstance(value, dict):
        return {
            key: item.replace(r"\A", "^").replace(r"\Z", "$")
            if key == "pattern" and isinstance(item, str)
            else _portable(item)
            for key, item in value.items()
        }
    return [_portable(item) for item in value] if isinstance(value, list) else value
