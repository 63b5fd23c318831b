"""One rule, ready to be judged on its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import msgspec

from policy_engine.engine.attribute import Context, Facts, Read, read_path, reader
from policy_engine.engine.clause import Test, clause_test
from policy_engine.language.condition import Condition, EvaluationError
from policy_engine.model.clause import Clause
from policy_engine.model.decision import Obligation, Observation, RuleError, Violation
from policy_engine.model.errors import FunctionBusyError, FunctionFailedError
from policy_engine.model.fact import FACTS
from policy_engine.model.frozen import freeze_json, thaw
from policy_engine.model.policy import Effect, Policy, PolicySet, Rule

PolicyFunction: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]
"""A custom policy function: from a context to `{"allowed": bool, "reason": str, "parameters"?: {...}}`."""

Resolver: TypeAlias = Callable[[PolicySet, Policy], PolicyFunction | None]
"""Finds the function of a policy; None when there is none, so that the policy denies."""

_FAULT_TEXT = {"missing": " is missing", "malformed": " is malformed", "wrong_type": " has the wrong type"}


class Fault(NamedTuple):
    """Why a rule is in error."""

    kind: str
    attribute: str | None

    def __str__(self) -> str:
        if self.attribute is None:
            return f"({self.kind})"
        return f"(attribute `{self.attribute}`{_FAULT_TEXT.get(self.kind, f': {self.kind}')})"


class Judgement(NamedTuple):
    """A rule that applies, or is in error; for a function, what it answered, and the violations that it named."""

    rule: CompiledRule
    effect: Effect
    fault: Fault | None = None
    reason: str | None = None
    parameters: dict[str, Any] | None = None
    named: tuple[str, ...] = ()


class CompiledRule:
    """A rule with its tests compiled and its part of the answer prebuilt."""

    def __init__(self, policy: Policy, rule: Rule, conditions: tuple[Condition, ...], *, skip_missing: bool) -> None:
        self.policy = policy
        self.rule = rule
        self.effect = rule.effect
        self.conditions = conditions
        self.skip_missing = skip_missing if rule.skip_missing is None else rule.skip_missing
        self.applies = Judgement(self, rule.effect)

    @cached_property
    def clauses(self) -> tuple[tuple[Clause, Read, Test], ...]:
        """The match keys with how to read and test them; made when the rule is first judged, as most never are."""
        return tuple((clause, reader(clause.attribute), clause_test(clause)) for clause in self.rule.clauses)

    @property
    def index(self) -> int | None:
        """The number that answers give the rule."""
        return self.rule.index

    def judge(self, context: Context, facts: Facts) -> Judgement | None:
        """Return whether the rule applies or is in error; None when it does not apply."""
        malformed: str | None = None
        for clause, read, test in self.clauses:
            value = read(context, facts)
            verdict = False if value is None else test(value)
            if verdict is False:
                return None
            if verdict is None and malformed is None:
                malformed = clause.attribute
        if malformed is not None:
            return self.fails(Fault("malformed", malformed))
        try:
            return self.applies if self.holds(context, facts) else None
        except EvaluationError as error:
            if error.kind == "missing" and self.skip_missing:
                return None
            return self.fails(Fault(error.kind, error.attribute))

    def holds(self, context: Context, facts: Facts) -> bool:
        """Evaluate all conditions, joined by `&&`: one that is false outweighs one in error."""
        first: EvaluationError | None = None
        for condition in self.conditions:
            try:
                if not condition.evaluate(context, facts):
                    return False
            except EvaluationError as error:
                first = first or error
        if first is not None:
            raise first
        return True

    def fails(self, fault: Fault) -> Judgement:
        """Return the judgement of this rule in error."""
        return Judgement(self, self.effect, fault)

    @cached_property
    def label(self) -> str:
        """The reason that names this rule."""
        return f"policy `{self.policy.name}` rule {self.rule.index}: {self.rule.description or self.rule.action}"

    @cached_property
    def obligation(self) -> Obligation:
        """The duty that comes back when the rule applies."""
        return self._obligation(indeterminate=False)

    @cached_property
    def imposed(self) -> Obligation:
        """The duty that comes back when the rule cannot be evaluated."""
        return self._obligation(indeterminate=True)

    def _obligation(self, *, indeterminate: bool) -> Obligation:
        return Obligation(
            id=f"{self.policy.id}#{self.rule.index}",
            verb=self.rule.verb,
            action=self.rule.action,
            policy_id=self.policy.id,
            rule_index=self.rule.index,
            parameters=self.rule.parameters,
            required=self.effect is Effect.RESTRICTIVE,
            indeterminate=indeterminate,
        )

    @cached_property
    def observation(self) -> Observation:
        """What comes back when the rule only watches."""
        return Observation(
            verb=self.rule.verb,
            action=self.rule.action,
            policy_id=self.policy.id,
            rule_index=self.rule.index,
            parameters=self.rule.parameters,
        )

    def reason(self, judgement: Judgement) -> str:
        """Return the reason in an answer that names this rule."""
        return self.label if judgement.fault is None else f"{self.label} {judgement.fault}"

    def code(self, judgement: Judgement) -> str:
        """Return the reason code of an answer that names this rule."""
        if judgement.effect is Effect.DENY:
            return "rule_deny" if judgement.fault is None else "rule_error"
        return "rule_allow" if judgement.effect is Effect.ALLOW else "duty_permit"

    def violation(self, judgement: Judgement) -> Violation:
        """Return the violation that a deny of this rule is."""
        return Violation(
            policy_id=self.policy.id,
            rule_index=self.index,
            action=self.rule.action,
            severity=self.rule.severity,
            reason=self.reason(judgement),
        )

    def error(self, fault: Fault) -> RuleError:
        """Return the report of a fault in this rule."""
        return RuleError(policy_id=self.policy.id, rule_index=self.index, attribute=fault.attribute, kind=fault.kind)


class FunctionRule(CompiledRule):
    """A policy whose answer comes from a function; it stands for one rule without match keys and without an index."""

    def __init__(self, policy: Policy, function: PolicyFunction | None) -> None:
        super().__init__(
            policy, Rule(index=0, action="function", verb="function", effect=Effect.DENY), (), skip_missing=False
        )
        self.function = function

    @property
    def index(self) -> None:
        """A function has no number."""
        return None

    def judge(self, context: Context, facts: Facts) -> Judgement:
        """Run the function; whatever is not a clear answer is a fault."""
        if self.function is None:
            return self.fails(Fault("function_error", None))
        try:
            answer = self.function(_merged(context, facts))
            allowed, reason = answer["allowed"], answer.get("reason", "")
            parameters = freeze_json(answer.get("parameters") or {})
            named = tuple(str(name) for name in answer.get("violations") or ())
        except FunctionBusyError:
            return self.fails(Fault("function_busy", None))
        except FunctionFailedError as error:
            return self.fails(Fault("function_error", None))._replace(reason=str(error))
        except Exception:  # noqa: BLE001 - a function is foreign code: whatever it raises denies
            return self.fails(Fault("function_error", None))
        if not (isinstance(allowed, bool) and isinstance(reason, str) and isinstance(parameters, dict)):
            return self.fails(Fault("function_error", None))
        effect = Effect.ALLOW if allowed else Effect.DENY
        return Judgement(self, effect, None, reason or ("allowed" if allowed else "denied"), parameters, named)

    def reason(self, judgement: Judgement) -> str:
        """Return what the function said."""
        said = " ".join(str(part) for part in (judgement.reason, judgement.fault) if part is not None)
        return f"policy `{self.policy.name}`: {said}"

    def violation(self, judgement: Judgement) -> Violation:
        """Return the violation that a deny of this function is, with those that it named."""
        violation = super().violation(judgement)
        if not judgement.named:
            return violation
        return msgspec.structs.replace(violation, reason=f"{violation.reason} [{', '.join(judgement.named)}]")

    def code(self, judgement: Judgement) -> str:
        """Return the reason code of an answer that names this function."""
        if judgement.fault is not None:
            return judgement.fault.kind
        return "function_allow" if judgement.effect is Effect.ALLOW else "function_deny"


_RESERVED = tuple(tuple(name.split(".")) for name, fact in FACTS.items() if fact.reserved)


def _merged(context: Context, facts: Facts) -> dict[str, Any]:
    """Return what a function sees: the context without claims of reserved facts, and the facts laid over it."""
    merged: dict[str, Any] = thaw(context)
    for path in _RESERVED:
        *parents, leaf = path
        around = read_path(merged, tuple(parents))
        if isinstance(around, dict):
            around.pop(leaf, None)
    for name, value in facts.items():
        *parents, leaf = name.split(".")
        here = merged
        for segment in parents:
            if not isinstance(here.get(segment), dict):
                here[segment] = {}
            here = here[segment]
        here[leaf] = value
    return merged
