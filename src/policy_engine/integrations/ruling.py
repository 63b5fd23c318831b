"""What a decision means for a caller that can carry out some duties and not others."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import isfinite
from typing import Any, NamedTuple, TypeAlias

from policy_engine.model.decision import Decision, Obligation

Scalar: TypeAlias = bool | int | float | str

_WEIGHING = "weight_reduction"
_SETTING = frozenset({"limit", "enforce"})
"""Duties that are carried out by handing their parameters to whoever trains."""

_INT64 = 1 << 63


class Ruling(NamedTuple):
    """What a decision comes to.

    Attributes:
        allowed: Whether it permits, duties that cannot be carried out counted as a denial.
        reason: Why.
        settings: Its parameters, as far as they can be handed on.
        weight: By what the weight of the client's update is to be multiplied at most.
        reusable_seconds: How long the same question need not be asked again.
    """

    allowed: bool
    reason: str
    settings: Mapping[str, Scalar] = {}
    weight: float = 1.0
    reusable_seconds: float = 0.0


class Carried(NamedTuple):
    """Which duties are carried out.

    Attributes:
        settings: Whether parameters are handed to the client.
        weights: Whether updates are weighted.
    """

    settings: bool = False
    weights: bool = False


NOTHING = Carried()


def ruling(decision: Decision, carried: Carried = NOTHING, reserved: Collection[str] = ()) -> Ruling:
    """Return what a decision comes to.

    Args:
        decision: As the engine made it.
        carried: Which duties the caller carries out.
        reserved: Names of settings that no policy may change.
    """
    seconds = max(0.0, (decision.valid_until - decision.timestamp).total_seconds())
    if not decision.allowed:
        return Ruling(allowed=False, reason=decision.reason, reusable_seconds=seconds)
    settings = scalars(decision.parameters, reserved) if carried.settings else {}
    weight = 1.0
    for duty in decision.obligations:
        if not duty.required:
            continue
        if carried.weights and duty.verb == _WEIGHING:
            weight = min(weight, _multiplier(duty))
        elif not (carried.settings and _is_set(duty, settings)):
            reason = f"the duty `{duty.action}` of policy `{duty.policy_id}` cannot be carried out here"
            return Ruling(allowed=False, reason=reason, reusable_seconds=seconds)
    return Ruling(allowed=True, reason=decision.reason, settings=settings, weight=weight, reusable_seconds=seconds)


def scalars(parameters: Mapping[str, Any], reserved: Collection[str] = ()) -> dict[str, Scalar]:
    """Return the parameters that every framework can carry: booleans, 64-bit integers, finite numbers and texts."""
    return {name: value for name, value in parameters.items() if name and name not in reserved and _is_scalar(value)}


def _is_scalar(value: Any) -> bool:
    if isinstance(value, float):
        return isfinite(value)
    if isinstance(value, int):
        return -_INT64 <= value < _INT64
    return isinstance(value, str)


def _is_set(duty: Obligation, settings: Mapping[str, Scalar]) -> bool:
    """Whether a duty is carried out by what is handed to the client: all of it, as this rule has it."""
    wanted = duty.parameters
    return (
        duty.verb in _SETTING
        and bool(wanted)
        and all(name in settings and settings[name] == value for name, value in wanted.items())
    )


def _multiplier(duty: Obligation) -> float:
    """Return by what a duty multiplies a weight; a value that makes no sense multiplies it by 0."""
    value: Any = duty.parameters.get("weight_multiplier")
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value <= 1 else 0.0
