"""From the rules that were judged to an outcome: the one place where an answer is put together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from policy_engine.engine.rule import Judgement
from policy_engine.model.decision import Obligation, Observation, Outcome, RuleError
from policy_engine.model.frozen import EMPTY, FrozenDict
from policy_engine.model.policy import Combining, Effect, TypeSpec

_GIVES_PARAMETERS = frozenset({Effect.ALLOW, Effect.DUTY, Effect.RESTRICTIVE})
_DUTIES = frozenset({Effect.DUTY, Effect.RESTRICTIVE})


def decides(judgement: Judgement) -> bool:
    """Whether first-applicable ends with this rule: an allow that applies, a deny that applies or is in error."""
    return judgement.effect is Effect.DENY or (judgement.effect is Effect.ALLOW and judgement.fault is None)


def combine(spec: TypeSpec, judged: Sequence[Judgement], policies_checked: int) -> Outcome:
    """Return the outcome of the rules that apply or are in error, in candidate order.

    For first-applicable the last of them decides, if it can; nothing behind it was judged.
    """
    named = _named(spec, judged)
    if named is None:
        return _default(spec, judged, policies_checked)
    allowed = named.effect is not Effect.DENY
    return Outcome(
        allowed=allowed,
        decision="allow" if allowed else "deny",
        reason=named.rule.reason(named),
        reason_code=named.rule.code(named),
        policy_id=named.rule.policy.id,
        policy_name=named.rule.policy.name,
        rule_index=named.rule.index,
        parameters=_parameters(judged, None if allowed else named),
        obligations=_obligations(judged) if allowed else (),
        observations=_observations(judged),
        violations=() if allowed else tuple(each.rule.violation(each) for each in judged if each.effect is Effect.DENY),
        errors=_errors(judged),
        policies_checked=policies_checked,
    )


def _named(spec: TypeSpec, judged: Sequence[Judgement]) -> Judgement | None:
    """Return the rule that the decision names, None when the default decides."""
    if spec.combining is Combining.FIRST_APPLICABLE:
        return judged[-1] if judged and decides(judged[-1]) else None
    denies = (each for each in judged if each.effect is Effect.DENY)
    allows = (each for each in judged if each.effect is Effect.ALLOW and each.fault is None)
    duties = (each for each in judged if each.effect in _DUTIES and each.fault is None)
    return next(denies, None) or next(allows, None) or next(duties, None)


def _default(spec: TypeSpec, judged: Sequence[Judgement], policies_checked: int) -> Outcome:
    decision = "allow" if spec.default else "deny"
    return Outcome(
        allowed=spec.default,
        decision=decision,
        reason=f"no rule of type `{spec.name}` decides: {'allowed' if spec.default else 'denied'} by default",
        reason_code=f"default_{decision}",
        parameters=_parameters(judged, None),
        obligations=_obligations(judged) if spec.default else (),
        observations=_observations(judged),
        errors=_errors(judged),
        policies_checked=policies_checked,
    )


def undeclared(policy_type: str) -> Outcome:
    """Return the outcome of a request for a type that does not exist."""
    return Outcome(
        allowed=False,
        decision="deny",
        reason=f"policy type `{policy_type}` is not declared and has no policy",
        reason_code="type_undeclared",
    )


def missing(attribute: str) -> Outcome:
    """Return the outcome of a request that lacks a required attribute."""
    return Outcome(
        allowed=False,
        decision="deny",
        reason=f"required attribute `{attribute}` is missing",
        reason_code="missing_attribute",
        errors=(RuleError(policy_id=None, rule_index=None, attribute=attribute, kind="missing"),),
    )


def _parameters(judged: Sequence[Judgement], denying: Judgement | None) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    by_policy = [list(group) for _, group in groupby(judged, key=lambda each: each.rule.policy.order)]
    for group in reversed(by_policy):
        for each in group:
            if _collected(each):
                merged.update(_own_parameters(each))
    if denying is not None:
        merged.update(_own_parameters(denying))
    return FrozenDict(merged) if merged else EMPTY


def _collected(judgement: Judgement) -> bool:
    """Whether a rule gives its parameters: it applies, or it is a restriction that is imposed."""
    return judgement.effect in _GIVES_PARAMETERS and (judgement.fault is None or judgement.effect is Effect.RESTRICTIVE)


def _own_parameters(judgement: Judgement) -> dict[str, Any]:
    return judgement.rule.rule.parameters if judgement.parameters is None else judgement.parameters


def _obligations(judged: Sequence[Judgement]) -> tuple[Obligation, ...]:
    return tuple(
        each.rule.obligation if each.fault is None else each.rule.imposed
        for each in judged
        if each.effect is Effect.RESTRICTIVE or (each.effect is Effect.DUTY and each.fault is None)
    )


def _observations(judged: Sequence[Judgement]) -> tuple[Observation, ...]:
    return tuple(each.rule.observation for each in judged if each.effect is Effect.OBSERVE and each.fault is None)


def _errors(judged: Sequence[Judgement]) -> tuple[RuleError, ...]:
    return tuple(each.rule.error(each.fault) for each in judged if each.fault is not None)
