"""What comes out of a check."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from policy_engine.model.frozen import EMPTY
from policy_engine.model.trace import RuleTrace


class Obligation(msgspec.Struct, frozen=True, kw_only=True):
    """A duty that the caller takes on with a permit.

    A caller that cannot carry out a required obligation treats the answer as a deny.

    Attributes:
        id: `policy#rule`, stable for a revision.
        verb: The canonical action.
        action: The action as the policy writes it.
        parameters: The rule's own parameters.
        required: Whether the duty restricts.
        indeterminate: Whether it is imposed because its rule could not be evaluated.
    """

    id: str
    verb: str
    action: str
    policy_id: str
    rule_index: int
    parameters: dict[str, Any]
    required: bool
    indeterminate: bool


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """Something to watch or record; it never touches the answer."""

    verb: str
    action: str
    policy_id: str
    rule_index: int
    parameters: dict[str, Any]


class Violation(msgspec.Struct, frozen=True, kw_only=True):
    """A deny that applied, or could not be ruled out."""

    policy_id: str
    rule_index: int | None
    action: str
    severity: str
    reason: str


class RuleError(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that could not be evaluated: which attribute is to blame, and how."""

    policy_id: str | None
    rule_index: int | None
    attribute: str | None
    kind: str


FUNCTION_FAULTS = frozenset({"function_error", "function_busy"})
"""The kinds of errors in which a custom policy function gave no answer, so that its policy denies."""


class ShadowOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What the answer would be if the shadow policies were enforced."""

    allowed: bool
    decision: str
    reason: str
    reason_code: str
    policy_id: str | None
    rule_index: int | None
    differs: bool


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The pure answer of `decide`: no ids and no time.

    Attributes:
        decision: "allow" or "deny", the same as `allowed`.
        reason_code: One of the codes of docs/decisions.md.
        policy_id: The named policy; None for a default.
        rule_index: The named rule, counted from 0; None for a default and for a function.
    """

    allowed: bool
    decision: str
    reason: str
    reason_code: str
    policy_id: str | None = None
    policy_name: str | None = None
    rule_index: int | None = None
    parameters: dict[str, Any] = EMPTY
    obligations: tuple[Obligation, ...] = ()
    observations: tuple[Observation, ...] = ()
    violations: tuple[Violation, ...] = ()
    errors: tuple[RuleError, ...] = ()
    policies_checked: int = 0
    shadow: ShadowOutcome | None = None


class Decision(msgspec.Struct, frozen=True):
    """An outcome as the engine hands it out: with its identity, its time and the revision it comes from.

    Attributes:
        decision_id: UUIDv7.
        request_id: The caller's id for the request, else the decision's id.
        policy_version: The number of the revision that decided; it never falls.
        revision_digest: `sha256:` and the digest of that revision's canonical JSON.
        valid_until: How long a caller may reuse the answer.
        simulated: Whether the caller set the clock.
        evaluation_time_ms: Milliseconds from the request's facts to the outcome.
        explanation: Every rule with its clauses, when it was asked for.
    """

    decision_id: str
    request_id: str
    timestamp: datetime
    allowed: bool
    decision: str
    reason: str
    reason_code: str
    policy_type: str
    policy_id: str | None
    policy_name: str | None
    rule_index: int | None
    parameters: dict[str, Any]
    obligations: tuple[Obligation, ...]
    observations: tuple[Observation, ...]
    violations: tuple[Violation, ...]
    errors: tuple[RuleError, ...]
    policies_checked: int
    shadow: ShadowOutcome | None
    policy_version: int
    revision_digest: str
    valid_until: datetime
    simulated: bool
    evaluation_time_ms: float
    explanation: tuple[RuleTrace, ...] | None = None
