"""Bind the condition of a rule: to its parameters, to the attributes its type declares, to the vocabulary of facts."""

from __future__ import annotations

from policy_engine.language.condition import Condition, compile_condition, parse
from policy_engine.model.fact import FACTS
from policy_engine.model.policy import Rule, TypeSpec


def bind(source: str, rule: Rule, spec: TypeSpec) -> Condition:
    """Return a condition that can be evaluated.

    Raises:
        ConditionError: It cannot be understood, or cannot work with the parameters of its rule.
    """
    names = frozenset(FACTS)
    reserved = frozenset(name for name, fact in FACTS.items() if fact.reserved)
    return compile_condition(
        parse(source), parameters=rule.parameters, attributes=spec.attributes, facts=names, reserved=reserved
    )
