"""Events as they are found in rows: those of a stream of their own, and those that decisions are."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Table

from policy_engine.model.decision import Decision
from policy_engine.model.event import Event
from policy_engine.store.encode import decode_entries
from policy_engine.store.terms import holds, violation_term

OF_DECISIONS = frozenset({"POLICY_APPLIED", "POLICY_VIOLATION"})
"""The types of the events that are rendered from decisions."""

_decode_event = msgspec.json.Decoder(Event).decode
decode_decision = msgspec.json.Decoder(Decision).decode


def streams_of(types: frozenset[str]) -> list[str]:
    """Return the streams that hold events of some types."""
    return ["event"] * (not types or bool(types - OF_DECISIONS)) + ["decision"] * (
        not types or bool(types & OF_DECISIONS)
    )


def type_filter(table: Table, kind: str, types: frozenset[str]) -> ColumnElement[bool]:
    """Return the condition for rows of a stream that may be of some types."""
    if kind == "event":
        return table.c.type.in_(types - OF_DECISIONS)
    if types >= OF_DECISIONS:
        return table.c.position > 0
    return holds(table.c.terms, violation_term(violated="POLICY_VIOLATION" in types))


def event_items(kind: str, row: Any) -> list[tuple[int, Any]]:
    """Return the events or decisions in a row of a stream, each with its position."""
    if kind == "event":
        return [(row.position, _decode_event(bytes(row.body)))]
    return [(position, entry.decision) for position, entry in decode_entries(row.position, bytes(row.body))]


def type_of(item: Event | Decision) -> str:
    """Return the type of the event that something is."""
    if isinstance(item, Event):
        return item.event_type
    return "POLICY_VIOLATION" if item.violations and not item.simulated else "POLICY_APPLIED"


_IN_DETAILS = (
    "decision_id",
    "request_id",
    "policy_type",
    "allowed",
    "decision",
    "reason",
    "reason_code",
    "policy_id",
    "policy_name",
    "rule_index",
    "violations",
    "errors",
    "shadow",
    "policy_version",
    "revision_digest",
    "simulated",
    "evaluation_time_ms",
)


def details_of(decision: Decision) -> dict[str, Any]:
    """Return what the event of a decision says about it."""
    details: dict[str, Any] = {name: getattr(decision, name) for name in _IN_DETAILS}
    return msgspec.to_builtins(details)  # type: ignore[no-any-return]
