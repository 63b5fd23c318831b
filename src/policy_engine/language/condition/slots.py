"""The constants of generated code: it names them `k0`, `k1`, ... and gets them as arguments, never as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from policy_engine.language.condition.errors import ConditionError, EvaluationError
from policy_engine.language.condition.library import compile_pattern
from policy_engine.language.condition.path import Attribute
from policy_engine.language.condition.syntax import Call, Expression, ListLiteral, Literal, Path
from policy_engine.language.condition.temporal import parse_duration, parse_timestamp
from policy_engine.language.condition.value import NAMES


@dataclass(frozen=True, slots=True, kw_only=True)
class Constants:
    """What one condition of a shape puts into the slots.

    Attributes:
        source: The text, for error messages.
        literals: Its numbers and strings.
        paths: Its names.
        bound: For each name the value of the parameter; what stands at the other places does not matter.
    """

    source: str
    literals: tuple[Literal, ...]
    paths: tuple[Path, ...]
    bound: tuple[Any, ...]


Recipe: TypeAlias = Callable[[Constants], Any]
"""How a slot is filled; may raise ConditionError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What the conditions of a shape have in common.

    Attributes:
        attributes: The names that are read at run time.
        parents: For names in `has`: what lies around them.
        parameters: The place of each bound name among the names, and its type.
        literals: The place of each literal among the literals, by its offset in the condition the shape was met in.
        metered: Whether there are macros.
    """

    attributes: Mapping[tuple[str, ...], Attribute]
    parents: Mapping[tuple[str, ...], Attribute | None]
    parameters: Mapping[tuple[str, ...], tuple[int, str]]
    literals: Mapping[int, int]
    metered: bool


class Slots:
    """The slots of one generated function."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._names: dict[object, str] = {}
        self.recipes: list[Recipe] = []

    def static(self, value: object) -> str:
        """Return the slot of a value that is the same in all conditions of the shape: a name, an attribute."""
        return self._add((type(value), value), lambda _: value)

    def _add(self, key: object, recipe: Recipe) -> str:
        name = self._names.get(key)
        if name is None:
            name = self._names[key] = f"k{len(self.recipes)}"
            self.recipes.append(recipe)
        return name

    def constant(self, node: Expression) -> tuple[str, str] | None:
        """Return the text and type of an expression that needs no request, or None; a list of constants is one."""
        if isinstance(node, Literal) and (node.value is None or isinstance(node.value, bool)):
            return repr(node.value), NAMES[type(node.value)]
        found = self._recipe(node)
        return None if found is None else (self._add((type(node), node.offset), found[0]), found[1])

    def pattern(self, node: Expression) -> str | None:
        """Return the slot of the compiled pattern that a constant string is, or None."""
        found = self._recipe(node)
        if found is None or found[1] != "string":
            return None
        text = found[0]

        def compiled(constants: Constants) -> Any:
            try:
                return compile_pattern(text(constants))
            except ValueError as error:
                raise _placed(constants, node, self._scope, f"not a pattern: {error}") from None

        return self._add(("pattern", node.offset), compiled)

    def elements(self, node: Expression) -> frozenset[str] | None:
        """Return the types of the elements of a list of constants, or None if it is no such list."""
        if not isinstance(node, ListLiteral):
            return None
        found = [self.constant_type(item) for item in node.items]
        return None if None in found else frozenset(kind for kind in found if kind is not None)

    def constant_type(self, node: Expression) -> str | None:
        """Return the type of an expression that needs no request, or None."""
        if isinstance(node, Literal):
            return NAMES[type(node.value)]
        found = self._recipe(node)
        return None if found is None else found[1]

    def _recipe(self, node: Expression) -> tuple[Recipe, str] | None:
        match node:
            case Literal():
                if node.value is None or isinstance(node.value, bool):
                    value = node.value
                    return (lambda _: value), NAMES[type(value)]
                place = self._scope.literals[node.offset]
                return (lambda constants: constants.literals[place].value), NAMES[type(node.value)]
            case Path() if node.segments in self._scope.parameters:
                index, kind = self._scope.parameters[node.segments]
                return (lambda constants: constants.bound[index]), kind
            case ListLiteral():
                found = [self._recipe(item) for item in node.items]
                recipes = [item[0] for item in found if item is not None]
                if len(recipes) == len(found):
                    return (lambda constants: [recipe(constants) for recipe in recipes]), "list"
            case Call(function="timestamp" | "duration"):
                return self._moment(node)
        return None

    def _moment(self, node: Call) -> tuple[Recipe, str] | None:
        argument = node.arguments[0]
        found = self._recipe(argument)
        if found is None or found[1] != "string":
            return None
        text = found[0]
        read: Callable[[str, str | None], Any] = parse_timestamp if node.function == "timestamp" else parse_duration

        def moment(constants: Constants) -> Any:
            try:
                return read(text(constants), None)
            except EvaluationError as error:
                raise _placed(constants, argument, self._scope, error.detail) from None

        return moment, node.function


def _placed(constants: Constants, node: Expression, scope: Scope, message: str) -> ConditionError:
    """Return an error at the place that a constant has in the condition at hand."""
    if isinstance(node, Literal):
        offset = constants.literals[scope.literals[node.offset]].offset
    elif isinstance(node, Path):
        offset = constants.paths[scope.parameters[node.segments][0]].offset
    else:
        offset = 0
    return ConditionError(message, source=constants.source, offset=offset)
