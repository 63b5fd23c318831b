"""A policy set, compiled: immutable, and swapped as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, partial
from typing import TypeAlias

import msgspec

from policy_engine.engine.attribute import Read, reader
from policy_engine.engine.rule import CompiledRule, FunctionRule, PolicyFunction, Resolver
from policy_engine.engine.section import Section, divide
from policy_engine.language.binding import bind
from policy_engine.language.condition import ConditionError
from policy_engine.model.decision import Outcome
from policy_engine.model.diagnostic import Diagnostic, pointer
from policy_engine.model.errors import InvalidPolicyError
from policy_engine.model.fact import FACTS
from policy_engine.model.policy import Policy, PolicySet, TypeSpec

_NAMES = frozenset(FACTS)


class TypeProgram:
    """All rules of one type, indexed.

    Attributes:
        spec: How the rules combine.
        policies: The candidates, in order.
        policies_checked: How many they are.
        shadow: The same type with its shadow policies enforced; None when it has none.
        whole: All rules.
        division: The rules by the values of one attribute; None when there are too few, or no attribute divides them.
    """

    def __init__(
        self,
        spec: TypeSpec,
        policies: Sequence[Policy],
        rules: Sequence[CompiledRule],
        shadow: TypeProgram | None,
    ) -> None:
        self.spec = spec
        self.policies = tuple(policies)
        self.rules = tuple(rules)
        self.policies_checked = len(self.policies)
        self.shadow = shadow
        self.required: tuple[tuple[str, Read], ...] = tuple((name, reader(name)) for name in spec.required)
        outcomes: dict[CompiledRule, Outcome] = {}
        self.whole = Section(spec, self.policies_checked, self.rules, outcomes)
        self.division = divide(spec, self.policies_checked, self.rules, outcomes)

    @cached_property
    def reads(self) -> frozenset[str]:
        """The facts that a decision of this type may read."""
        found = {*self.spec.required}
        for rule in self.rules:
            if isinstance(rule, FunctionRule):
                return _NAMES
            found.update(clause.attribute for clause in rule.rule.clauses)
            for condition in rule.conditions:
                found.update(condition.reads)
        names = frozenset(name for name in _NAMES if any(_touches(path, name) for path in found))
        return names | (self.shadow.reads if self.shadow else frozenset())

    @cached_property
    def runs_functions(self) -> bool:
        """Whether a decision of this type may run users' code."""
        return any(isinstance(rule, FunctionRule) for rule in (self.shadow or self).rules)


def _touches(path: str, name: str) -> bool:
    """Whether reading a path may need a fact: the fact itself, a map around it, or something below it."""
    return path == name or name.startswith(f"{path}.") or path.startswith(f"{name}.")


class Program:
    """What decides: one immutable program a revision.

    Attributes:
        policy_set: What was compiled.
        types: Every type that exists, by name.
    """

    def __init__(self, policy_set: PolicySet, types: Mapping[str, TypeProgram]) -> None:
        self.policy_set = policy_set
        self.types = types


def compile_program(
    policy_set: PolicySet,
    functions: Resolver | None = None,
    *,
    previous: Program | None = None,
) -> Program:
    """Compile a policy set; types that did not change are taken over from the previous program.

    Args:
        policy_set: Accepted policies.
        functions: Finds the custom policy function of a policy. A policy that has none denies.
        previous: A program compiled with the same resolver.

    Raises:
        InvalidPolicyError: A condition cannot work with the parameters it is given.
    """
    by_type: dict[str, list[Policy]] = {name: [] for name in policy_set.types}
    for policy in policy_set.policies.values():
        by_type[policy.type].append(policy)
    errors: list[Diagnostic] = []
    types = {}
    for name, spec in policy_set.types.items():
        candidates = sorted((policy for policy in by_type[name] if policy.enabled), key=lambda policy: policy.order)
        kept = _kept(previous, policy_set, spec, candidates)
        types[name] = kept or _compile_type(spec, candidates, partial(functions or _none, policy_set), errors)
    if errors:
        raise InvalidPolicyError(errors)
    return Program(policy_set, types)


_Find: TypeAlias = Callable[[Policy], PolicyFunction | None]


def _none(_policy_set: PolicySet, _policy: Policy) -> None:
    """Find no function."""


def _kept(
    previous: Program | None, policy_set: PolicySet, spec: TypeSpec, candidates: Sequence[Policy]
) -> TypeProgram | None:
    """Return the previous program of a type if it has the very same policies and functions."""
    old = previous.types.get(spec.name) if previous else None
    if previous is None or old is None or old.spec != spec:
        return None
    named = {policy.function_id for policy in candidates if policy.function_id is not None}
    if any(policy_set.functions.get(name) != previous.policy_set.functions.get(name) for name in named):
        return None
    known = (old.shadow or old).policies
    same = len(known) == len(candidates) and all(one is other for one, other in zip(known, candidates, strict=True))
    return old if same else None


def _compile_type(spec: TypeSpec, candidates: Sequence[Policy], find: _Find, errors: list[Diagnostic]) -> TypeProgram:
    rules = [rule for policy in candidates for rule in _compile_policy(policy, spec, find, errors)]
    enforced = [policy for policy in candidates if not policy.shadow]
    shadow = None
    if len(enforced) < len(candidates):
        shadow = TypeProgram(spec, candidates, [_watching(rule, find) for rule in rules], None)
    return TypeProgram(spec, enforced, [rule for rule in rules if not rule.policy.shadow], shadow)


def _watching(rule: CompiledRule, find: _Find) -> CompiledRule:
    """Return a rule as it is judged to see what would be: a function that decides too is asked once more for that."""
    if not isinstance(rule, FunctionRule) or rule.policy.shadow:
        return rule
    return FunctionRule(rule.policy, find(msgspec.structs.replace(rule.policy, shadow=True)))


def _compile_policy(policy: Policy, spec: TypeSpec, find: _Find, errors: list[Diagnostic]) -> Iterable[CompiledRule]:
    if policy.has_function:
        yield FunctionRule(policy, find(policy))
        return
    for rule in policy.rules:
        try:
            conditions = tuple(bind(source, rule, spec) for source in rule.conditions)
        except ConditionError as error:
            place = pointer("policies", policy.id, "rules", rule.index)
            errors.append(Diagnostic(pointer=place, detail=str(error), hint=error.hint or ""))
        else:
            yield CompiledRule(policy, rule, conditions, skip_missing=spec.skip_missing)
