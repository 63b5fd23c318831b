"""From the syntax tree to a function of context and facts.

Code is generated once for each *shape*: conditions that differ only in their numbers, strings and parameter values
share it, and each fills the slots of the shared code with its own constants.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite
from types import MappingProxyType
from typing import Any, NoReturn, TypeAlias

from policy_engine.language.condition import library, macros, operators, path, tree, value
from policy_engine.language.condition.errors import ConditionError, EvaluationError
from policy_engine.language.condition.exact import BINARY_NAMES, ExactWriter
from policy_engine.language.condition.fast import FastWriter
from policy_engine.language.condition.parsed import ParsedCondition
from policy_engine.language.condition.slots import Constants, Recipe, Scope
from policy_engine.language.condition.static import check
from policy_engine.language.condition.syntax import Binary, Expression, Has, Literal, Logical, Macro, Path

Evaluate: TypeAlias = Callable[[dict[str, Any], Mapping[str, object]], bool]
"""The value of a condition for the context and the facts of one request; may raise EvaluationError."""

_TURNED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "=="}
_NUMBERS = frozenset({"int", "double"})
_MAX_PLANS = 8192
_EMPTY: Mapping[str, Any] = MappingProxyType({})
_ABSENT = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """An attribute compared with a number: a condition an index can answer.

    Attributes:
        path: The dotted path that is read at run time.
        operator: `<`, `<=`, `>`, `>=` or `==`; the path stands on the left.
        constant: A finite number.
    """

    path: str
    operator: str
    constant: int | float


class Condition:
    """A compiled condition.

    Attributes:
        source: The text.
        evaluate: The function of context and facts; raises EvaluationError.
        reads: The dotted paths that are read at run time, in order of their first appearance.
        comparisons: The comparisons with numbers that all have to hold.
        conjunction: Whether there is nothing but these comparisons.
    """

    __slots__ = ("comparisons", "conjunction", "evaluate", "reads", "source")

    def __init__(
        self,
        *,
        source: str,
        evaluate: Evaluate,
        reads: tuple[str, ...],
        comparisons: tuple[Comparison, ...],
        conjunction: bool,
    ) -> None:
        self.source = source
        self.evaluate = evaluate
        self.reads = reads
        self.comparisons = comparisons
        self.conjunction = conjunction

    def __repr__(self) -> str:
        return f"Condition({self.source!r})"


def compile_condition(
    parsed: ParsedCondition,
    *,
    parameters: Mapping[str, object] = _EMPTY,
    attributes: Mapping[str, str] = _EMPTY,
    facts: frozenset[str] = frozenset(),
    reserved: frozenset[str] = frozenset(),
) -> Condition:
    """Bind the parameters of a rule into a condition and return it as a function.

    Args:
        parsed: The condition.
        parameters: The rule's parameters, nested; a name that is one of them is a constant.
        attributes: Dotted path -> declared type (bool, int, double, string, list, map, timestamp, duration, any).
        facts: The names of all facts there can be. Other names are looked up in the context alone.
        reserved: The facts that never come from the context.

    Raises:
        ConditionError: An operator cannot take what is known of its operands, or a constant is malformed.
    """
    bound: list[Any] = []
    signature: list[str | None] = []
    for name in parsed.paths:
        found = _parameter(parsed, parameters, name) if parameters else _ABSENT
        bound.append(found)
        if found is not _ABSENT:
            signature.append(f"={value.NAMES[type(found)]}")
        else:
            signature.append(_declared(attributes, name) if attributes else None)
    key = (parsed.shape, tuple(signature), facts, reserved, _has_parents(parsed, parameters))
    plan = _PLANS.get(key)
    if plan is None:
        plan = _plan(parsed, signature, facts, reserved, key[-1])
        if len(_PLANS) >= _MAX_PLANS:
            _PLANS.clear()
        _PLANS[key] = plan
    return plan.condition(
        Constants(source=parsed.source, literals=parsed.literals, paths=parsed.paths, bound=tuple(bound))
    )


def _parameter(parsed: ParsedCondition, parameters: Mapping[str, Any], name: Path) -> Any:
    """Return the value of the parameter of that full path as one of the types of conditions, or _ABSENT."""
    found: Any = parameters
    for segment in name.segments:
        if not isinstance(found, Mapping) or segment not in found:
            return _ABSENT
        found = found[segment]
    try:
        return value.plain(found, None)
    except EvaluationError as error:
        message = f"the parameter `{name.dotted}` cannot be used: {error.detail}"
        raise ConditionError(message, source=parsed.source, offset=name.offset) from None


def _declared(attributes: Mapping[str, str], name: Path) -> str | None:
    found = attributes.get(name.dotted) or attributes.get(".".join(path.canonical(name.segments)))
    if found is not None and found not in path.DECLARABLE:
        raise ValueError(f"unknown type `{found}` of attribute `{name.dotted}`")
    return found


def _has_parents(parsed: ParsedCondition, parameters: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
    """Return the paths in `has` whose surrounding map is a parameter, so that it is known to be there."""
    if not parameters or "has" not in parsed.shape:
        return ()
    names = [name.segments for name in parsed.paths if len(name.segments) > 1]
    return tuple(segments for segments in names if _is_map(parameters, segments[:-1]))


def _is_map(parameters: Mapping[str, Any], segments: tuple[str, ...]) -> bool:
    found: Any = parameters
    for segment in segments:
        if not isinstance(found, Mapping) or segment not in found:
            return False
        found = found[segment]
    return isinstance(found, Mapping)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compared:
    """A comparison of the shape: where its constant stands among those of a condition."""

    path: str
    operator: str
    literal: int | None
    parameter: int | None


class _Plan:
    """What the conditions of one shape share."""

    def __init__(self, scope: Scope, root: Expression, reads: tuple[str, ...]) -> None:
        self._scope = scope
        self._root = root
        self._reads = reads
        writer = FastWriter(scope)
        self._make = _make(writer.function(root))
        self._recipes = tuple(writer.slots.recipes)
        operands = root.operands if isinstance(root, Logical) and root.operator == "&&" else (root,)
        found = [_compared(scope, operand) for operand in operands]
        self._compared = tuple(item for item in found if item is not None)
        self._conjunction = None not in found
        self._exact: tuple[Callable[..., Evaluate], tuple[Recipe, ...]] | None = None

    def condition(self, constants: Constants) -> Condition:
        """Return the condition of this shape with these constants."""
        comparisons = self._comparisons(constants)
        return Condition(
            source=constants.source,
            evaluate=self._make(_Recovery(self, constants), *[recipe(constants) for recipe in self._recipes]),
            reads=self._reads,
            comparisons=comparisons,
            conjunction=self._conjunction and len(comparisons) == len(self._compared),
        )

    def exact(self, constants: Constants) -> Evaluate:
        """Return the function that finds the exact value or error of a condition of this shape."""
        if self._exact is None:
            writer = ExactWriter(self._scope)
            self._exact = _make(writer.function(self._root)), tuple(writer.slots.recipes)
        make, recipes = self._exact
        return make(*[recipe(constants) for recipe in recipes])

    def _comparisons(self, constants: Constants) -> tuple[Comparison, ...]:
        found = []
        for item in self._compared:
            if item.literal is not None:
                constant: Any = constants.literals[item.literal].value
            else:
                constant = constants.bound[item.parameter or 0]
            if isfinite(constant):
                found.append(Comparison(path=item.path, operator=item.operator, constant=constant))
        return tuple(found)


class _Recovery:
    """What the fast code calls when it bails out: the exact code, written when it is first needed."""

    __slots__ = ("_constants", "_evaluate", "_plan")

    def __init__(self, plan: _Plan, constants: Constants) -> None:
        self._plan = plan
        self._constants = constants
        self._evaluate: Evaluate | None = None

    def __call__(self, context: dict[str, Any], facts: Mapping[str, object]) -> bool:
        """Return the value of the condition or raise EvaluationError."""
        evaluate = self._evaluate
        if evaluate is None:
            evaluate = self._evaluate = self._plan.exact(self._constants)
        return evaluate(context, facts)


_PLANS: dict[tuple[Any, ...], _Plan] = {}


def _plan(
    parsed: ParsedCondition,
    signature: list[str | None],
    facts: frozenset[str],
    reserved: frozenset[str],
    bound_parents: tuple[tuple[str, ...], ...],
) -> _Plan:
    runtime: dict[tuple[str, ...], path.Attribute] = {}
    bound: dict[tuple[str, ...], tuple[int, str]] = {}
    types: dict[tuple[str, ...], str] = {}
    for index, (name, kind) in enumerate(zip(parsed.paths, signature, strict=True)):
        if kind is not None and kind.startswith("="):
            bound[name.segments] = index, kind[1:]
            types[name.segments] = kind[1:]
            continue
        runtime[name.segments] = path.attribute_at(name.segments, kind, facts, reserved)
        if kind is not None and kind != "any":
            types[name.segments] = kind
    check(parsed.root, parsed.source, types)
    parents: dict[tuple[str, ...], path.Attribute | None] = {}
    metered = False
    for node, _ in tree.walk(parsed.root):
        metered = metered or isinstance(node, Macro)
        if isinstance(node, Has) and isinstance(node.operand, Path):
            around = node.operand.segments[:-1]
            known = node.operand.segments in bound_parents
            parents[node.operand.segments] = None if known else path.attribute_at(around, None, facts, reserved)
    scope = Scope(
        attributes=runtime,
        parents=parents,
        parameters=bound,
        literals={literal.offset: place for place, literal in enumerate(parsed.literals)},
        metered=metered,
    )
    return _Plan(scope, parsed.root, tuple(dict.fromkeys(attribute.dotted for attribute in runtime.values())))


def _compared(scope: Scope, node: Expression) -> _Compared | None:
    if not isinstance(node, Binary) or node.operator not in _TURNED:
        return None
    operator, left, right = node.operator, node.left, node.right
    if not (isinstance(left, Path) and left.segments in scope.attributes):
        operator, left, right = _TURNED[operator], right, left
    if not (isinstance(left, Path) and left.segments in scope.attributes):
        return None
    dotted = scope.attributes[left.segments].dotted
    if isinstance(right, Literal) and isinstance(right.value, (int, float)) and not isinstance(right.value, bool):
        place = scope.literals[right.offset]
        return _Compared(path=dotted, operator=operator, literal=place, parameter=None)
    if isinstance(right, Path) and right.segments in scope.parameters:
        index, kind = scope.parameters[right.segments]
        if kind in _NUMBERS:
            return _Compared(path=dotted, operator=operator, literal=None, parameter=index)
    return None


def _bail() -> NoReturn:
    raise EvaluationError("wrong_type", None, "asked of the exact code")


_NAMESPACE: Mapping[str, object] = MappingProxyType(
    {
        "FAILURES": (EvaluationError, LookupError, TypeError, ValueError, ArithmeticError, AttributeError),
        "Budget": value.Budget,
        "UNLIMITED": value.UNLIMITED,
        "plain": value.plain,
        "Reader": path.Reader,
        "resolve": path.resolve,
        "present": path.present,
        "converted": path.converted,
        "bail": _bail,
        "truth": operators.truth,
        "conjunction": operators.conjunction,
        "disjunction": operators.disjunction,
        "select": operators.select,
        "has_field": operators.has_field,
        "index": operators.index,
        "negate": operators.negate,
        "map_of": operators.map_of,
        "search": library.search,
        "all_fast": macros.all_fast,
        "all_exact": macros.all_exact,
        "exists_fast": macros.exists_fast,
        "exists_exact": macros.exists_exact,
        "exists_one": macros.exists_one,
        "select_map": macros.select,
        **{name: operators.BINARY[symbol] for symbol, name in BINARY_NAMES.items()},
        **{f"call_{name}": function for name, function in library.IMPLEMENTATIONS.items()},
    }
)
"""The names that generated code uses, beside its slots and its own."""


@lru_cache(maxsize=4096)
def _make(text: str) -> Callable[..., Evaluate]:
    """Return the `make` of generated code; the text holds no word of a condition, so many conditions share it."""
    namespace = {**_NAMESPACE, "__builtins__": {"type": type, "float": float, "int": int, "str": str}}
    exec(compile(text, "<condition>", "exec"), namespace)  # noqa: S102 - generated from the tree; constants are arguments
    make: Callable[..., Evaluate] = namespace["make"]  # type: ignore[assignment]
    return make
