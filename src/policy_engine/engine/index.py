"""The index of a type: which rules may apply to a request, without looking at each of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Mapping, Sequence
from typing import TypeAlias, TypeVar

from policy_engine.engine.attribute import is_fact
from policy_engine.engine.classifier import build_classifier
from policy_engine.engine.column import (
    INDEXABLE,
    Column,
    DiscreteColumn,
    IntervalColumn,
    ThresholdColumn,
    union,
)
from policy_engine.engine.rule import CompiledRule, FunctionRule
from policy_engine.language.condition import Comparison
from policy_engine.model.clause import Clause, Kind

MAX_MATCH_COLUMNS = 24
MAX_THRESHOLD_COLUMNS = 12
"""More columns would cost each request more than judging the few rules they would spare."""

_INTERVALS = (Kind.PORT, Kind.ADDRESS)


T = TypeVar("T")
Users: TypeAlias = list[tuple[CompiledRule, list[Clause]]]


class RuleIndex:
    """The columns of the rules of one type.

    The first rule has the highest bit, so that `int.bit_length` finds it.

    Attributes:
        everything: The set of all rules.
        columns: What the rules look at, match keys before comparisons.
        uncovered: The rules that have to be judged whatever the request is.
        classify: Returns, for a context and the facts, the rules that may apply, and those among them that have to be
            judged before one can say so.
    """

    def __init__(
        self, rules: Sequence[CompiledRule], attributes: Mapping[str, str], settled: str | None = None
    ) -> None:
        """Index rules in candidate order.

        Args:
            rules: The rules.
            attributes: The declared types of the policy type.
            settled: An attribute that rules out none of them, because they were chosen by its value.
        """
        size = len(rules)
        self.everything = (1 << size) - 1
        bits = {rule: 1 << (size - 1 - number) for number, rule in enumerate(rules)}
        matched = _most_used(_clauses(rules, settled), MAX_MATCH_COLUMNS)
        compared = _most_used(_comparisons(rules, attributes), MAX_THRESHOLD_COLUMNS)
        matching: list[Column] = []
        for attribute, users in matched.items():
            kind = users[0][1][0].kind
            column = IntervalColumn if kind in _INTERVALS else DiscreteColumn
            matching.append(column(attribute, [(bits[rule], items) for rule, items in users], self.everything))
        comparing: list[Column] = []
        for attribute, tests in compared.items():
            entries = [(bits[rule], items) for rule, items in tests]
            comparing.append(ThresholdColumn(attribute, entries, self.everything, attributes.get(attribute)))
        unindexed = union(bits[rule] for rule in rules if not _matches_covered(rule, {*matched, settled}))
        self.uncovered = unindexed | union(bits[rule] for rule in rules if not _conditions_covered(rule, compared))
        self.columns = (*matching, *comparing)
        self.uncovered |= union(column.doubtful for column in self.columns)
        self.classify = build_classifier(
            matching, comparing, everything=self.everything, unindexed=unindexed, uncovered=self.uncovered
        )


def _clauses(rules: Sequence[CompiledRule], settled: str | None) -> dict[str, Users]:
    """Return for each attribute that is not settled the rules that match it, with their clauses on it."""
    found: dict[str, Users] = defaultdict(list)
    for rule in rules:
        grouped: dict[str, list[Clause]] = defaultdict(list)
        for clause in rule.rule.clauses:
            if clause.attribute != settled:
                grouped[clause.attribute].append(clause)
        for attribute, clauses in grouped.items():
            found[attribute].append((rule, clauses))
    return found


def _comparisons(
    rules: Sequence[CompiledRule], attributes: Mapping[str, str]
) -> dict[str, list[tuple[CompiledRule, list[Comparison]]]]:
    """Return for each attribute the rules whose conditions compare it with constants, with these comparisons."""
    found: dict[str, list[tuple[CompiledRule, list[Comparison]]]] = defaultdict(list)
    for rule in rules:
        grouped: dict[str, list[Comparison]] = defaultdict(list)
        for condition in rule.conditions:
            for comparison in condition.comparisons:
                if attributes.get(comparison.path) in INDEXABLE and not _below_fact(comparison.path):
                    grouped[comparison.path].append(comparison)
        for attribute, comparisons in grouped.items():
            found[attribute].append((rule, comparisons))
    return found


def _below_fact(path: str) -> bool:
    """Whether a path goes into a fact, where conditions find an error and never the context."""
    segments = path.split(".")
    return any(is_fact(".".join(segments[:count])) for count in range(1, len(segments)))


def _most_used(found: dict[str, list[T]], limit: int) -> dict[str, list[T]]:
    """Return the entries of the attributes that most rules use, the most used first."""
    return dict(sorted(found.items(), key=lambda item: -len(item[1]))[:limit])


def _matches_covered(rule: CompiledRule, matched: Container[str | None]) -> bool:
    """Whether every match key of a rule has a column."""
    return not isinstance(rule, FunctionRule) and all(clause.attribute in matched for clause in rule.rule.clauses)


def _conditions_covered(rule: CompiledRule, compared: Mapping[str, object]) -> bool:
    """Whether the columns alone say if the conditions of a rule hold for a request of ordinary values."""
    return all(
        condition.conjunction and all(item.path in compared for item in condition.comparisons)
        for condition in rule.conditions
    )
