"""Sections of a type: the rules that one value of one attribute leaves, each with an index of its own.

Many types are divided by an attribute that most rules compare for equality, such as `operation` or `src_type`. One
look-up then leaves the few rules of that value, whose sets are small; the rest of a decision works on those alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from policy_engine.engine.attribute import Context, Facts, Read, reader
from policy_engine.engine.combine import combine
from policy_engine.engine.index import RuleIndex
from policy_engine.engine.rule import CompiledRule
from policy_engine.model.clause import Kind
from policy_engine.model.decision import Outcome
from policy_engine.model.fact import FACTS
from policy_engine.model.policy import Combining, Effect, TypeSpec

MIN_RULES = 64
"""Fewer rules are not worth dividing."""
MAX_SECTIONS = 256
MAX_GROWTH = 3
"""How many times the rules of a type all its sections may hold together: rules for any value stand in each of them."""


class Section:
    """Some rules of a type, indexed.

    Attributes:
        rules: In candidate order.
        answers: By the bit length of a set of rules, the outcome that its first rule alone settles (first-applicable).
        remembered: Outcomes by the set of rules that led to them.
    """

    def __init__(
        self,
        spec: TypeSpec,
        policies_checked: int,
        rules: Sequence[CompiledRule],
        outcomes: dict[CompiledRule, Outcome],
        settled: str | None = None,
    ) -> None:
        """Index rules; `outcomes` is shared by sections, `settled` an attribute that rules out none of these rules."""
        self.spec = spec
        self.policies_checked = policies_checked
        self.rules = tuple(rules)
        self.index = RuleIndex(self.rules, spec.attributes, settled)
        self.first_applicable = spec.combining is Combining.FIRST_APPLICABLE
        self.remembered: dict[int, Outcome] = {}
        self.answers = self._answers(outcomes) if self.first_applicable else ()

    def _answers(self, outcomes: dict[CompiledRule, Outcome]) -> tuple[Outcome | None, ...]:
        answers: list[Outcome | None] = [combine(self.spec, (), self.policies_checked)]
        for rule in reversed(self.rules):
            if rule.effect in (Effect.ALLOW, Effect.DENY):
                if rule not in outcomes:
                    outcomes[rule] = combine(self.spec, (rule.applies,), self.policies_checked)
                answers.append(outcomes[rule])
            else:
                answers.append(None)
        return tuple(answers)

    def rule_at(self, length: int) -> CompiledRule:
        """Return the first rule of a set of rules with this bit length."""
        return self.rules[len(self.rules) - length]


class Division:
    """The sections of a type by the values of one attribute.

    Attributes:
        read: Reads the attribute.
        top_level: The name of the attribute, when it simply stands at the top of a context; the quick way to read it.
        named: The section of each value that a rule names.
        other: The section of every other string, and of an absent value.
    """

    def __init__(self, attribute: str, named: Mapping[str, Section], other: Section) -> None:
        self.read: Read = reader(attribute)
        self.top_level = attribute if "." not in attribute and attribute not in FACTS else None
        self.named = named
        self.other = other

    def section(self, context: Context, facts: Facts) -> Section | None:
        """Return the rules that have to be looked at for a request; None for a value out of the ordinary."""
        value = context.get(self.top_level) if self.top_level else self.read(context, facts)
        if value.__class__ is str:
            return self.named.get(value, self.other)
        return self.other if value is None else None


def divide(
    spec: TypeSpec, policies_checked: int, rules: Sequence[CompiledRule], outcomes: dict[CompiledRule, Outcome]
) -> Division | None:
    """Return the division of a type that leaves the fewest rules to look at, None when none is worth it."""
    if len(rules) < MIN_RULES:
        return None
    best: tuple[int, str, dict[str, list[CompiledRule]], list[CompiledRule]] | None = None
    for attribute in _candidates(rules):
        groups, free = _group(rules, attribute)
        sizes = [len(group) for group in groups.values()]
        worst = max([*sizes, len(free)])
        held = sum(sizes) + len(free)
        if len(groups) <= MAX_SECTIONS and worst * 2 <= len(rules) and held <= MAX_GROWTH * len(rules):
            best = min(best or (worst, attribute, groups, free), (worst, attribute, groups, free), key=_worst)
    if best is None:
        return None
    _, attribute, groups, free = best
    named = {
        value: Section(spec, policies_checked, group, outcomes, settled=attribute) for value, group in groups.items()
    }
    return Division(attribute, named, Section(spec, policies_checked, free, outcomes, settled=attribute))


def _worst(found: tuple[Any, ...]) -> int:
    size: int = found[0]
    return size


def _candidates(rules: Sequence[CompiledRule]) -> list[str]:
    """Return the attributes that at least half of the rules compare for equality."""
    used: dict[str, int] = defaultdict(int)
    for rule in rules:
        for attribute in {clause.attribute for clause in rule.rule.clauses if clause.kind is Kind.PLAIN}:
            used[attribute] += 1
    return [attribute for attribute, count in used.items() if count * 2 >= len(rules)]


def _group(rules: Sequence[CompiledRule], attribute: str) -> tuple[dict[str, list[CompiledRule]], list[CompiledRule]]:
    """Return, in order, the rules that each named value leaves, and those that any other string leaves."""
    named = {rule: _strings(rule, attribute) for rule in rules}
    values = dict.fromkeys(value for strings in named.values() for value in strings or ())
    groups: dict[str, list[CompiledRule]] = {value: [] for value in values}
    free: list[CompiledRule] = []
    for rule in rules:
        strings = named[rule]
        for value in values if strings is None else strings:
            groups[value].append(rule)
        if strings is None:
            free.append(rule)
    return groups, free


def _strings(rule: CompiledRule, attribute: str) -> set[str] | None:
    """Return the strings that satisfy all clauses of a rule on an attribute, None when it has no such clause."""
    wanted = [
        {value for value in clause.scalars if isinstance(value, str)}
        for clause in rule.rule.clauses
        if clause.attribute == attribute
    ]
    return set.intersection(*wanted) if wanted else None
