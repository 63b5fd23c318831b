"""Decide: a program, a request and the facts give an outcome. Pure: no clock, no ids, no I/O."""

from __future__ import annotations

from typing import Any

from policy_engine.engine.attribute import Context, Facts
from policy_engine.engine.combine import combine, decides, missing, undeclared
from policy_engine.engine.program import REMEMBERED, Program, TypeProgram
from policy_engine.engine.rule import Judgement
from policy_engine.model.decision import Outcome, ShadowOutcome


def decide(program: Program, policy_type: str, context: Context, facts: Facts) -> Outcome:
    """Return what the policies of a type say about a request.

    Args:
        program: The compiled policies.
        policy_type: The type of the request.
        context: The caller's attributes, normalised (see `normalise`).
        facts: What the engine knows itself, by dotted name.
    """
    kind = program.types.get(policy_type)
    return undeclared(policy_type) if kind is None else decide_type(kind, context, facts)


def decide_type(kind: TypeProgram, context: Context, facts: Facts) -> Outcome:
    """Return what the rules of a type say about a request."""
    for name, read in kind.required:
        if read(context, facts) is None:
            return missing(name)
    outcome = _answer(kind, context, facts)
    return outcome if kind.shadow is None else with_shadow(outcome, _answer(kind.shadow, context, facts))


def _answer(kind: TypeProgram, context: Context, facts: Facts) -> Outcome:
    rules, doubtful = kind.index.classify(context, facts)
    if kind.first_applicable:
        length = rules.bit_length()
        if doubtful.bit_length() < length or not length:
            settled = kind.answers[length]
            if settled is not None:
                return settled
        return combine(kind.spec, _until_decided(kind, rules, doubtful, context, facts), kind.policies_checked)
    if not doubtful:
        known = kind.remembered.get(rules)
        return _remember(kind, rules) if known is None else known
    return _settle(kind, rules, doubtful, context, facts)


def _until_decided(kind: TypeProgram, rules: int, doubtful: int, context: Context, facts: Facts) -> list[Judgement]:
    """Judge rules in order until one decides."""
    judged: list[Judgement] = []
    while rules:
        length = rules.bit_length()
        bit = 1 << (length - 1)
        rules ^= bit
        rule = kind.rule_at(length)
        judgement = rule.judge(context, facts) if doubtful & bit else rule.applies
        if judgement is not None:
            judged.append(judgement)
            if decides(judgement):
                break
    return judged


def _settle(kind: TypeProgram, rules: int, doubtful: int, context: Context, facts: Facts) -> Outcome:
    """Judge the doubtful rules, then combine them with those that apply for sure."""
    special: dict[int, Judgement] = {}
    while doubtful:
        length = doubtful.bit_length()
        bit = 1 << (length - 1)
        doubtful ^= bit
        rule = kind.rule_at(length)
        judgement = rule.judge(context, facts)
        if judgement is None:
            rules ^= bit
        elif judgement is not rule.applies:
            special[length] = judgement
    if special:
        return combine(kind.spec, _judged(kind, rules, special), kind.policies_checked)
    known = kind.remembered.get(rules)
    return _remember(kind, rules) if known is None else known


def _judged(kind: TypeProgram, rules: int, special: dict[int, Judgement]) -> list[Judgement]:
    """Return the judgements of a set of rules in candidate order."""
    judged: list[Judgement] = []
    while rules:
        length = rules.bit_length()
        rules ^= 1 << (length - 1)
        judged.append(special.get(length) or kind.rule_at(length).applies)
    return judged


def _remember(kind: TypeProgram, rules: int) -> Outcome:
    """Combine rules that all apply; the outcome depends on the set alone, so it is kept."""
    outcome = combine(kind.spec, _judged(kind, rules, {}), kind.policies_checked)
    if len(kind.remembered) < REMEMBERED:
        kind.remembered[rules] = outcome
    return outcome


def with_shadow(outcome: Outcome, shadow: Outcome) -> Outcome:
    """Return an outcome with what it would be if the shadow policies were enforced."""
    fields: dict[str, Any] = {name: getattr(outcome, name) for name in outcome.__struct_fields__}
    fields["shadow"] = ShadowOutcome(
        allowed=shadow.allowed,
        decision=shadow.decision,
        reason=shadow.reason,
        reason_code=shadow.reason_code,
        policy_id=shadow.policy_id,
        rule_index=shadow.rule_index,
        differs=shadow.allowed is not outcome.allowed,
    )
    return Outcome(**fields)
