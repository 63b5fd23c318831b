"""Decide and tell how: every rule is judged plainly, and the same judgements give the outcome and its explanation."""

from __future__ import annotations

from typing import Any, TypeAlias

from policy_engine.engine.attribute import Context, Facts, reader
from policy_engine.engine.clause import Test
from policy_engine.engine.combine import combine, decides, missing, undeclared
from policy_engine.engine.decide import with_shadow
from policy_engine.engine.program import Program, TypeProgram
from policy_engine.engine.rule import CompiledRule, Judgement
from policy_engine.language.condition import EvaluationError
from policy_engine.model.clause import Clause
from policy_engine.model.decision import Outcome
from policy_engine.model.mask import mask
from policy_engine.model.trace import ClauseTrace, ConditionTrace, RuleTrace


def explain(
    program: Program, policy_type: str, context: Context, facts: Facts
) -> tuple[Outcome, tuple[RuleTrace, ...]]:
    """Return the outcome of a request, as `decide` does, and a trace of every candidate rule."""
    kind = program.types.get(policy_type)
    if kind is None:
        return undeclared(policy_type), ()
    for name, read in kind.required:
        if read(context, facts) is None:
            return missing(name), ()
    outcome, judged = _judge_all(kind, context, facts)
    if kind.shadow is not None:
        shadowed, more = _judge_all(kind.shadow, context, facts)
        outcome = with_shadow(outcome, shadowed)
        judged = {**more, **judged}
    traces = []
    for rule in (kind.shadow or kind).rules:
        key = (rule.policy.id, rule.index)
        reached = key in judged
        decisive = key == (outcome.policy_id, outcome.rule_index)
        traces.append(_trace(rule, judged.get(key), context, facts, reached=reached, decisive=decisive))
    return outcome, tuple(traces)


_Key: TypeAlias = tuple[str, int | None]


def _judge_all(kind: TypeProgram, context: Context, facts: Facts) -> tuple[Outcome, dict[_Key, Judgement | None]]:
    """Judge rule after rule, in first-applicable until one decides."""
    judged: dict[_Key, Judgement | None] = {}
    for rule in kind.rules:
        judgement = rule.judge(context, facts)
        judged[rule.policy.id, rule.index] = judgement
        if kind.whole.first_applicable and judgement is not None and decides(judgement):
            break
    counted = [judgement for judgement in judged.values() if judgement is not None]
    return combine(kind.spec, counted, kind.policies_checked), judged


def _trace(
    rule: CompiledRule, judgement: Judgement | None, context: Context, facts: Facts, *, reached: bool, decisive: bool
) -> RuleTrace:
    clauses = tuple(_trace_clause(clause, read(context, facts), test) for clause, read, test in rule.clauses)
    matched = all(clause.result == "true" for clause in clauses)
    condition = _trace_condition(rule, context, facts) if matched and rule.conditions else None
    return RuleTrace(
        policy_id=rule.policy.id,
        policy_name=rule.policy.name,
        rule_index=rule.index,
        action=rule.rule.action,
        effect=(rule.effect if judgement is None else judgement.effect).value,
        description=rule.rule.description,
        status=_status(judgement, condition) if reached else "not_reached",
        decisive=decisive,
        mode="shadow" if rule.policy.shadow else "enforce",
        clauses=clauses,
        condition=condition,
    )


def _status(judgement: Judgement | None, condition: ConditionTrace | None) -> str:
    if judgement is not None:
        return "applied" if judgement.fault is None else "error"
    return "skipped" if condition is not None and condition.result == "missing" else "not_applied"


def _trace_clause(clause: Clause, value: Any, test: Test) -> ClauseTrace:
    verdict = "absent" if value is None else _VERDICTS[test(value)]
    return ClauseTrace(
        key=clause.key,
        attribute=clause.attribute,
        expected=mask(clause.expected, key=clause.attribute),
        actual=mask(value, key=clause.attribute),
        result=verdict,
    )


_VERDICTS = {True: "true", False: "false", None: "malformed"}


def _trace_condition(rule: CompiledRule, context: Context, facts: Facts) -> ConditionTrace:
    reads = {path: _value(path, context, facts) for condition in rule.conditions for path in condition.reads}
    try:
        result = "true" if rule.holds(context, facts) else "false"
    except EvaluationError as error:
        result = error.kind
    return ConditionTrace(source=" && ".join(_grouped(rule.rule.conditions)), reads=reads, result=result)


def _value(path: str, context: Context, facts: Facts) -> Any:
    return mask(reader(path)(context, facts), key=path)


def _grouped(sources: tuple[str, ...]) -> tuple[str, ...]:
    return sources if len(sources) == 1 else tuple(f"({source})" for source in sources)
