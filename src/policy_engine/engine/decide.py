"""Decide: a program, a request and the facts give an outcome. Pure: no clock, no ids, no I/O."""

from __future__ import annotations

from typing import Any

from policy_engine.engine.attribute import Context, Facts
from policy_engine.engine.combine import combine, decides, missing, undeclared
from policy_engine.engine.program import Program
from policy_engine.engine.rule import Judgement
from policy_engine.engine.section import Section
from policy_engine.model.decision import Outcome, ShadowOutcome

REMEMBERED = 2048
"""How many outcomes of a section are kept, by the set of rules that led to them."""


def decide(program: Program, policy_type: str, context: Context, facts: Facts) -> Outcome:
    """Return what the policies of a type say about a request.

    Args:
        program: The compiled policies.
        policy_type: The type of the request.
        context: The caller's attributes, normalised (see `normalise`).
        facts: What the engine knows itself, by dotted name.
    """
    kind = program.types.get(policy_type)
    if kind is None:
        return undeclared(policy_type)
    for name, read in kind.required:
        if read(context, facts) is None:
            return missing(name)
    division = kind.division
    section = kind.whole if division is None else division.section(context, facts) or kind.whole
    outcome = _answer(section, context, facts)
    return outcome if kind.shadow is None else with_shadow(outcome, _answer(kind.shadow.whole, context, facts))


def _answer(section: Section, context: Context, facts: Facts) -> Outcome:
    rules, doubtful = section.index.classify(context, facts)
    if section.first_applicable:
        length = rules.bit_length()
        if doubtful.bit_length() < length or not length:
            settled = section.answers[length]
            if settled is not None:
                return settled
        return combine(section.spec, _until_decided(section, rules, doubtful, context, facts), section.policies_checked)
    if not doubtful:
        known = section.remembered.get(rules)
        return _remember(section, rules) if known is None else known
    return _settle(section, rules, doubtful, context, facts)


def _until_decided(section: Section, rules: int, doubtful: int, context: Context, facts: Facts) -> list[Judgement]:
    """Judge rules in order until one decides."""
    judged: list[Judgement] = []
    while rules:
        length = rules.bit_length()
        bit = 1 << (length - 1)
        rules ^= bit
        rule = section.rule_at(length)
        judgement = rule.judge(context, facts) if doubtful & bit else rule.applies
        if judgement is not None:
            judged.append(judgement)
            if decides(judgement):
                break
    return judged


def _settle(section: Section, rules: int, doubtful: int, context: Context, facts: Facts) -> Outcome:
    """Judge the doubtful rules, then combine them with those that apply for sure."""
    special: dict[int, Judgement] = {}
    while doubtful:
        length = doubtful.bit_length()
        bit = 1 << (length - 1)
        doubtful ^= bit
        rule = section.rule_at(length)
        judgement = rule.judge(context, facts)
        if judgement is None:
            rules ^= bit
        elif judgement is not rule.applies:
            special[length] = judgement
    if special:
        return combine(section.spec, _judged(section, rules, special), section.policies_checked)
    known = section.remembered.get(rules)
    return _remember(section, rules) if known is None else known


def _judged(section: Section, rules: int, special: dict[int, Judgement]) -> list[Judgement]:
    """Return the judgements of a set of rules in candidate order."""
    judged: list[Judgement] = []
    while rules:
        length = rules.bit_length()
        rules ^= 1 << (length - 1)
        judged.append(special.get(length) or section.rule_at(length).applies)
    return judged


def _remember(section: Section, rules: int) -> Outcome:
    """Combine rules that all apply; the outcome depends on the set alone, so it is kept."""
    outcome = combine(section.spec, _judged(section, rules, {}), section.policies_checked)
    if len(section.remembered) < REMEMBERED:
        section.remembered[rules] = outcome
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
