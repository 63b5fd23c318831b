"""What is dubious about a policy that can be loaded."""

from __future__ import annotations

from collections.abc import Iterator

from policy_engine.language.condition import ParsedCondition, parse
from policy_engine.language.faults import Faults, Place
from policy_engine.language.suggest import closest
from policy_engine.model.alias import ALIASES
from policy_engine.model.fact import FACTS
from policy_engine.model.policy import Effect, Policy, Rule, TypeSpec

_TYPO = 0.9
"""How alike a name must be to a known one before it is called a typo; `max_clients` and `min_clients` are not."""


def lint_policy(policy: Policy, spec: TypeSpec, place: Place, faults: Faults) -> None:
    """Add the warnings for one policy."""
    if not spec.declared:
        faults.warn((*place, "type"), f"type `{spec.name}` is not declared: deny-overrides, denied by default")
    owners: dict[str, int] = {}
    for rule in policy.rules:
        for name in rule.parameters:
            owners.setdefault(name, rule.index)
    for rule in policy.rules:
        here = (*place, "rules", rule.index)
        _lint_reach(rule, spec, here, faults)
        for source in rule.conditions:
            parsed = parse(source)
            if parsed.mixes_and_or:
                faults.warn(here, f"`{source}` mixes AND and OR", "AND binds tighter; parentheses would say so")
            for name in _unbound_names(parsed, rule):
                _lint_name(name, owners.get(name), rule, spec, here, faults)


def _lint_reach(rule: Rule, spec: TypeSpec, place: Place, faults: Faults) -> None:
    if not rule.clauses and not rule.conditions and rule.effect is not Effect.OBSERVE:
        faults.warn(place, "the rule has neither match keys nor a condition: it applies to every request")
    if rule.effect is Effect.DENY and spec.default:
        for clause in rule.clauses:
            if clause.attribute not in spec.required and clause.attribute not in FACTS:
                faults.warn(
                    (*place, "match", clause.key),
                    f"type `{spec.name}` allows by default, so a request without `{clause.attribute}` passes this deny",
                    f"list `{clause.attribute}` as required in `types`",
                )


def _unbound_names(parsed: ParsedCondition, rule: Rule) -> Iterator[str]:
    for path in parsed.paths:
        if path.segments[0] not in rule.parameters:
            yield ALIASES.get(path.dotted, path.dotted)


def _lint_name(  # noqa: PLR0917 - one name of one rule, and which other rule has it as a parameter
    name: str, owner: int | None, rule: Rule, spec: TypeSpec, place: Place, faults: Faults
) -> None:
    if owner is not None and name not in spec.attributes:
        faults.warn(
            place,
            f"`{name}` is not a parameter of this rule, but one of rule {owner}: it is read from the request",
        )
        return
    known = {*spec.attributes, *spec.required, *FACTS}
    if name in known:
        return
    guess = closest(name, [*known, *rule.parameters], cutoff=_TYPO)
    if guess is not None:
        faults.warn(place, f"unknown name `{name}`", f"did you mean `{guess}`?")
    elif spec.attributes and not any(attribute.startswith(f"{name}.") for attribute in known):
        faults.warn(place, f"`{name}` is not among the attributes that type `{spec.name}` declares")
