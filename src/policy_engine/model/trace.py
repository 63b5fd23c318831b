"""How a decision came about, rule by rule."""

from __future__ import annotations

from typing import Any

import msgspec


class ClauseTrace(msgspec.Struct, frozen=True, kw_only=True):
    """One match key: what the rule wants, what the request has, and the result.

    Attributes:
        expected: The policy's value, as written.
        actual: The request's value (secrets masked); None when it is absent.
        result: "true", "false", "absent" or "malformed".
    """

    key: str
    attribute: str
    expected: Any
    actual: Any
    result: str


class ConditionTrace(msgspec.Struct, frozen=True, kw_only=True):
    """A condition, what it read and what came out ("true", "false" or the kind of the error)."""

    source: str
    reads: dict[str, Any]
    result: str


class RuleTrace(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate rule.

    Attributes:
        status: "applied", "not_applied", "error", "skipped" (by `on_missing`) or "not_reached".
        decisive: Whether this is the rule that the decision names.
        mode: "enforce" or "shadow".
    """

    policy_id: str
    policy_name: str
    rule_index: int | None
    action: str
    effect: str
    description: str
    status: str
    decisive: bool
    mode: str
    clauses: tuple[ClauseTrace, ...] = ()
    condition: ConditionTrace | None = None
