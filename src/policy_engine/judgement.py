"""What policies say of a client, by its trust."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from policy_engine.language.vocabulary.actions import ACTIONS
from policy_engine.model.decision import FUNCTION_FAULTS, Decision, Obligation, Violation


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """What policies say of a client, by its trust.

    Attributes:
        excluded: Why it is excluded; "" when it is not.
        quarantine: Why it is to be put in quarantine; "" when it is not.
        weight_multiplier: By what its weight is to be multiplied.
        policy_id: Which policy says so.
    """

    policy_id: str
    excluded: str = ""
    quarantine: str = ""
    weight_multiplier: float = 1.0
    reason: str = ""


Judged: TypeAlias = Mapping[str, Judgement]
Judge: TypeAlias = Callable[[str, int, Mapping[str, Mapping[str, Any]]], Judged]
"""Asks the policies about clients: federation, round, client -> its facts; returns what they say, where they do."""

_WEIGHT = "weight_multiplier"


def judge(decisions: Sequence[Decision]) -> Judgement | None:
    """Return what decisions about one client come to, None when that is nothing.

    Rules that could not be evaluated are passed over: they are about something else, of which nothing is known here. A
    function that gives no answer excludes: nobody can tell what it is about.
    """
    violations = [each for decision in decisions for each in _sound(decision)]
    if violations:
        worst = next((each for each in violations if _verb(each) == "quarantine"), violations[0])
        if _verb(worst) == "quarantine":
            return Judgement(policy_id=worst.policy_id, quarantine=worst.reason)
        return Judgement(policy_id=worst.policy_id, excluded=worst.reason)
    for decision in decisions:
        if decision.reason_code == "default_deny" and not decision.errors:
            return Judgement(policy_id="", excluded=decision.reason)
    duties = [duty for decision in decisions for duty in decision.obligations if _weight(duty) is not None]
    if not duties:
        return None
    heaviest = min(duties, key=lambda duty: _weight(duty) or 0.0)
    weight = _weight(heaviest) or 0.0
    reason = f"policy `{heaviest.policy_id}` multiplies its weight by {weight:g}"
    return Judgement(policy_id=heaviest.policy_id, weight_multiplier=weight, reason=reason)


def _sound(decision: Decision) -> list[Violation]:
    failed = {(error.policy_id, error.rule_index) for error in decision.errors if error.kind not in FUNCTION_FAULTS}
    return [each for each in decision.violations if (each.policy_id, each.rule_index) not in failed]


def _verb(violation: Violation) -> str:
    action = ACTIONS.get(violation.action)
    return action.verb if action else violation.action


def _weight(duty: Obligation) -> float | None:
    """Return by what a duty multiplies a weight; a value that makes no sense multiplies it by 0."""
    if duty.verb != "weight_reduction" or duty.indeterminate:
        return None
    value: Any = duty.parameters.get(_WEIGHT)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value <= 1 else 0.0
