"""Conditions alone, beside Google's implementation of CEL (cel-expr-python); for information, without thresholds.

Both get a compiled expression and a context that holds just the metrics it reads. CEL's names are declared as doubles
and checked; the limits are constants to both: parameters here, literals there.
"""

from __future__ import annotations

from random import Random
from typing import Any

from cel_expr_python import cel

from benchmarks.measure import REPEATS, microseconds
from benchmarks.report import Report
from policy_engine.language.condition import compile_condition, parse

CONDITIONS = {
    "one comparison": ("accuracy >= threshold", {"threshold": 62.5}),
    "two comparisons": ("accuracy > floor && loss <= ceiling", {"floor": 31.25, "ceiling": 70.5}),
}
NAMES = ("accuracy", "loss")


def run(report: Report, *, quick: bool) -> None:
    """Measure evaluation alone."""
    print("conditions alone (microseconds of CPU an evaluation)")
    random = Random("conditions")
    contexts = [{name: round(random.uniform(0, 100), 2) for name in NAMES} for _ in range(300)]
    environment = cel.NewEnv(variables=dict.fromkeys(NAMES, cel.Type.DOUBLE))
    for title, (source, limits) in CONDITIONS.items():
        own = compile_condition(parse(source), parameters=limits)
        literal = source
        for name, value in limits.items():
            literal = literal.replace(name, repr(value))
        other = environment.compile(literal)
        _measure(report, title, own, other, contexts, repeats=3 if quick else REPEATS)


def _measure(report: Report, title: str, own: Any, other: Any, contexts: list[dict[str, Any]], *, repeats: int) -> None:
    def evaluate(context: dict[str, Any]) -> bool:
        return bool(own.evaluate(context, {}))

    def evaluate_cel(context: dict[str, Any]) -> bool:
        return bool(other.eval(data=context).value())

    if [evaluate(context) for context in contexts] != [evaluate_cel(context) for context in contexts]:
        raise SystemExit(f"conditions, {title}: two values of one expression; nothing was compared")
    mine = microseconds(evaluate, contexts, repeats=repeats)
    theirs = microseconds(evaluate_cel, contexts, repeats=repeats)
    report.add(f"conditions: {title}", mine, "us")
    report.add(f"conditions: {title}, cel-expr-python", theirs, "us", f"({theirs / mine:,.0f}x)")
