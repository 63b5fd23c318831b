"""The macros: a body is a function of the element.

The exact ones absorb errors as CEL does; the fast ones let the first error out, upon which the condition is evaluated
once more by the exact ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from policy_engine.language.condition.errors import EvaluationError
from policy_engine.language.condition.value import Budget, checked_list, name_of, weight, wrong_type

Body = Callable[[Any], Any]
Test = Callable[[Any], bool]


def _elements(budget: Budget, attribute: str | None, collection: Any) -> Iterator[Any]:
    if type(collection) is not list and type(collection) is not dict:
        raise wrong_type(attribute, f"a macro needs a list or a map, found {name_of(collection)}")
    for element in collection:
        budget.spend(1, attribute)
        yield element


def all_fast(budget: Budget, attribute: str | None, collection: Any, test: Test) -> bool:
    """`collection.all(x, test)`, without absorption."""
    return all(test(element) for element in _elements(budget, attribute, collection))


def exists_fast(budget: Budget, attribute: str | None, collection: Any, test: Test) -> bool:
    """`collection.exists(x, test)`, without absorption."""
    return any(test(element) for element in _elements(budget, attribute, collection))


def all_exact(budget: Budget, attribute: str | None, collection: Any, test: Test) -> bool:
    """`collection.all(x, test)`: false if any is false, else the first error, else true."""
    return _absorb(budget, attribute, collection, test, decisive=False)


def exists_exact(budget: Budget, attribute: str | None, collection: Any, test: Test) -> bool:
    """`collection.exists(x, test)`: true if any is true, else the first error, else false."""
    return _absorb(budget, attribute, collection, test, decisive=True)


def _absorb(budget: Budget, attribute: str | None, collection: Any, test: Test, *, decisive: bool) -> bool:
    first: EvaluationError | None = None
    for element in _elements(budget, attribute, collection):
        try:
            if test(element) is decisive:
                return decisive
        except EvaluationError as error:
            first = first or error
    if first is not None:
        raise first
    return not decisive


def exists_one(budget: Budget, attribute: str | None, collection: Any, test: Test) -> bool:
    """`collection.exists_one(x, test)`: errors come out."""
    return sum(test(element) for element in _elements(budget, attribute, collection)) == 1


def select(budget: Budget, attribute: str | None, collection: Any, test: Test | None, body: Body) -> list[Any]:
    """`collection.filter(x, test)` and `collection.map(x, test, body)`; without a test every element counts."""
    built = []
    for element in _elements(budget, attribute, collection):
        if test is None or test(element):
            item = body(element)
            budget.spend(weight(item), attribute)
            built.append(item)
    return checked_list(built, attribute)
