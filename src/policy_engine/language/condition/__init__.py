"""Conditions: the Common Expression Language, strict, compiled to Python code objects."""

from policy_engine.language.condition.compiler import Comparison, Condition, compile_condition
from policy_engine.language.condition.errors import ConditionError, EvaluationError
from policy_engine.language.condition.parsed import ParsedCondition, parse

__all__ = [
    "Comparison",
    "Condition",
    "ConditionError",
    "EvaluationError",
    "ParsedCondition",
    "compile_condition",
    "parse",
]
