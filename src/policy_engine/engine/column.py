"""Columns: for every value an attribute can have, the set of rules that the attribute alone does not rule out.

A set of rules is an integer with one bit a rule. The intersection over all columns leaves the rules that apply, so a
decision costs one look-up and one `&` for each attribute, however many rules there are. The method is bit-vector
packet classification (Lakshman and Stiliadis, "High-speed policy-based packet forwarding using efficient multi-
dimensional range matching", SIGCOMM 1998, section 3), carried over from headers to attributes.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf, isfinite, nextafter
from typing import Any, NamedTuple, Protocol

from policy_engine.engine.clause import comparable
from policy_engine.language.condition import Comparison
from policy_engine.model.clause import Clause, Kind
from policy_engine.model.network import address_number, port_number

REMEMBERED = 8192
"""How many raw values a column remembers the answer for."""

_BUDGET_BITS = 48 * 8 * 2**20
"""How large the sets of one column may become together; beyond it, neighbouring classes share one."""


class Answer(NamedTuple):
    """The rules that a value does not rule out, and those among them that it leaves in doubt."""

    rules: int
    doubtful: int


class Column(Protocol):
    """One attribute, seen by all rules of a type.

    Attributes:
        attribute: Its dotted path.
        constrained: The rules that it can rule out.
        doubtful: Rules that have to be judged again even for an ordinary value, because classes share a set.
        expression: Python for the rules that an ordinary `value` does not rule out, or None for a value out of the
            ordinary. It may use `names`.
        names: What the expression needs.
    """

    attribute: str
    constrained: int
    doubtful: int
    expression: str
    names: Mapping[str, Any]

    def ponder(self, value: Any) -> Answer:
        """Return the rules that a value out of the ordinary does not rule out."""


class Table(NamedTuple):
    """Sets of rules for numbered classes, perhaps shared by `stride` neighbours each."""

    sets: Sequence[int]
    stride: int
    doubtful: int

    def of(self, number: int) -> int:
        """Return the set of a class."""
        return self.sets[number // self.stride]


def tabulate(classes: int, size: int, changes: Mapping[int, int], start: int, constrained: int) -> Table:
    """Return the sets of `classes` classes of `size` rules.

    Class 0 has the set `start`; `changes` says for a class which bits are flipped between the class before and it.
    """
    stride = -(-classes * max(size, 1) // _BUDGET_BITS)
    sets: list[int] = []
    current = start
    union = 0
    for number in range(classes):
        current ^= changes.get(number, 0)
        union |= current
        if (number + 1) % stride == 0 or number + 1 == classes:
            sets.append(union)
            union = 0
    return Table(sets, stride, constrained if stride > 1 else 0)


class DiscreteColumn:
    """An attribute that rules compare for equality; strings are the ordinary values."""

    def __init__(self, attribute: str, clauses: Sequence[tuple[int, Sequence[Clause]]], everything: int) -> None:
        """Take the bit and the clauses of every rule that constrains the attribute."""
        self.attribute = attribute
        self._folded = clauses[0][1][0].kind is Kind.PROTOCOL
        self.constrained = union(bit for bit, _ in clauses)
        self._several = _several(clauses)
        self._free = everything & ~self.constrained
        named: dict[Any, int] = {}
        for bit, tests in clauses:
            for value in _common(tests):
                named[value] = named.get(value, 0) | bit
        stride = -(-len(named) * max(everything.bit_length(), 1) // _BUDGET_BITS) or 1
        self.doubtful = self.constrained if stride > 1 else 0
        self._sets: dict[Any, int] = {}
        values = list(named)
        for first in range(0, len(values), stride):
            group = values[first : first + stride]
            rules = self._free | union(named[value] for value in group)
            self._sets.update(dict.fromkeys(group, rules))
        of_string = "sets(value) or sets(value.lower(), free)" if self._folded else "sets(value, free)"
        self.expression = f"({of_string}) if value.__class__ is str else free if value is None else None"
        self.names: Mapping[str, Any] = {"sets": self._sets.get, "free": self._free}

    def ponder(self, value: Any) -> Answer:
        """Return the rules for a list, a number, a boolean, or what cannot be compared."""
        return _any_of(value, self._one, self._free, self.constrained, self._several)

    def _one(self, value: Any) -> int | None:
        if self._folded:
            return self._sets.get(value.lower(), self._free) if value.__class__ is str else None
        if value.__class__ in _SCALARS:
            return self._sets.get(comparable(value), self._free)
        return self._free


_SCALARS = frozenset({str, int, float, bool})


def _any_of(value: Any, one: Callable[[Any], int | None], free: int, constrained: int, several: int) -> Answer:
    """Return the rules for a value, or for a list: those that any element lets pass; a malformed one leaves doubt.

    So do rules with several clauses on the attribute, where one element may satisfy one and another the other.
    """
    if value.__class__ is not list:
        found = one(value)
        return Answer(free | constrained, constrained) if found is None else Answer(found, 0)
    rules, doubtful = free | several, several
    for item in value:
        found = one(item)
        rules |= constrained if found is None else found
        doubtful |= constrained if found is None else 0
    return Answer(rules, doubtful)


def _common(clauses: Sequence[Clause]) -> set[Any]:
    """Return the values that satisfy all clauses that one rule has on one attribute."""
    return set.intersection(*({comparable(item) for item in clause.scalars} for clause in clauses))


def _several(clauses: Sequence[tuple[int, Sequence[Clause]]]) -> int:
    """Return the rules that have more than one clause on an attribute."""
    return union(bit for bit, tests in clauses if len(tests) > 1)


def union(sets: Iterable[int]) -> int:
    """Return the rules that are in any of some sets."""
    rules = 0
    for each in sets:
        rules |= each
    return rules


class IntervalColumn:
    """A port or an address, which rules compare with ranges; port numbers and address texts are the ordinary values."""

    def __init__(self, attribute: str, clauses: Sequence[tuple[int, Sequence[Clause]]], everything: int) -> None:
        """Take the bit and the clauses of every rule that constrains the attribute."""
        self.attribute = attribute
        is_port = clauses[0][1][0].kind is Kind.PORT
        self._parse: Callable[[Any], int | None] = port_number if is_port else address_number
        self.constrained = union(bit for bit, _ in clauses)
        self._several = _several(clauses)
        self._free = everything & ~self.constrained
        flips: dict[int, int] = {}
        for bit, tests in clauses:
            for low, high in _overlap([clause.intervals for clause in tests]):
                flips[low] = flips.get(low, 0) ^ bit
                flips[high + 1] = flips.get(high + 1, 0) ^ bit
        self._starts = sorted(flips)
        changes = {number + 1: flips[start] for number, start in enumerate(self._starts)}
        self._table = tabulate(len(self._starts) + 1, everything.bit_length(), changes, self._free, self.constrained)
        self.doubtful = self._table.doubtful
        self._remembered: dict[Any, int] = {}
        ordinary = "int" if is_port else "str"
        of_ordinary = f"(known(value) or first_sight(value)) if value.__class__ is {ordinary}"
        self.expression = f"{of_ordinary} else free if value is None else None"
        self.names: Mapping[str, Any] = {
            "known": self._remembered.get,
            "first_sight": self._first_sight,
            "free": self._free,
        }

    def ponder(self, value: Any) -> Answer:
        """Return the rules for a numeric string, a list, or what is malformed."""
        return _any_of(value, self._one, self._free, self.constrained, self._several)

    def _one(self, value: Any) -> int | None:
        number = self._parse(value)
        return None if number is None else self._table.of(bisect_right(self._starts, number))

    def _first_sight(self, value: Any) -> int | None:
        found = self._one(value)  # what is no port and no address is not remembered
        if found is not None and len(self._remembered) < REMEMBERED:
            self._remembered[value] = found
        return found


def _overlap(ranges: Sequence[tuple[tuple[int, int], ...]]) -> list[tuple[int, int]]:
    """Return the intersection of several sorted lists of disjoint intervals."""
    kept = list(ranges[0])
    for other in ranges[1:]:
        kept = [
            (max(low, floor), min(high, ceiling))
            for low, high in kept
            for floor, ceiling in other
            if max(low, floor) <= min(high, ceiling)
        ]
    return kept


class ThresholdColumn:
    """A number that conditions compare with constants; numbers of the declared type below 2**53 are ordinary values.

    Every comparison is one or two steps on the line of numbers, each at the first double on its far side: `x > c`
    begins at the double after c. The steps cut the line into classes, and `bisect_right(cuts, x)` is the class of x.
    Below 2**53 no integer lies between neighbouring doubles, so integers fall on the right side too. The bounds are
    cuts of their own, with nothing ordinary beyond them; NaN falls beyond the last.
    """

    def __init__(
        self,
        attribute: str,
        comparisons: Sequence[tuple[int, Sequence[Comparison]]],
        everything: int,
        declared: str | None,
    ) -> None:
        """Take the bit and the comparisons of every rule whose condition compares the attribute."""
        self.attribute = attribute
        self.constrained = union(bit for bit, _ in comparisons)
        self._everything = everything
        spans = [(bit, _span(items)) for bit, items in comparisons]
        edges = {-_EXACT, _EXACT, *(edge for _, span in spans for edge in span if isfinite(edge))}
        self._cuts = sorted(edges)
        changes: dict[int, int] = {}
        for bit, (low, high) in spans:
            if low < high:
                for edge in (low, high):
                    number = bisect_right(self._cuts, edge)
                    changes[number] = changes.get(number, 0) ^ bit
        free = everything & ~self.constrained
        table = tabulate(len(self._cuts) + 1, everything.bit_length(), changes, free, self.constrained)
        self.doubtful = table.doubtful
        first, last = bisect_right(self._cuts, -_EXACT), bisect_left(self._cuts, _EXACT)
        sets = [table.of(number) if first <= number <= last else None for number in range(len(self._cuts) + 1)]
        found = "sets[place(cuts, value)]"
        self.names: Mapping[str, Any] = {"sets": sets, "cuts": self._cuts, "place": bisect_right}
        if len(self._cuts) <= FEW_CUTS:
            found = _chain(self._cuts, 0, len(self._cuts))
            self.names = {f"set{number}": rules for number, rules in enumerate(sets)}
        self.expression = f"{found} if {_ORDINARY[declared]} else None"

    def ponder(self, _value: Any) -> Answer:
        """Leave every rule that compares the attribute in doubt: it is absent, not a number, or a huge one."""
        return Answer(self._everything, self.constrained)


FEW_CUTS = 15
"""Up to so many cuts are compared one by one, in written-out halves: a call of `bisect_right` would take longer."""

_EXACT = float(2**53)


def _chain(cuts: Sequence[float], first: int, last: int) -> str:
    """Return Python that finds the set of a value among some classes; NaN, below no cut, falls into the last."""
    if first == last:
        return f"set{first}"
    middle = (first + last) // 2
    return f"({_chain(cuts, first, middle)} if value < {cuts[middle]!r} else {_chain(cuts, middle + 1, last)})"


def _after(number: float) -> float:
    return nextafter(number, inf)


def _span(comparisons: Sequence[Comparison]) -> tuple[float, float]:
    """Return where all comparisons of a rule begin to hold, and where they cease to."""
    low, high = -inf, inf
    for comparison in comparisons:
        first, end = _HOLDS[comparison.operator](comparison.constant)
        low, high = max(low, first), min(high, end)
    return low, high


_HOLDS: dict[str, Callable[[float], tuple[float, float]]] = {
    "<": lambda constant: (-inf, _step(constant)),
    "<=": lambda constant: (-inf, _beyond(constant)),
    ">": lambda constant: (_beyond(constant), inf),
    ">=": lambda constant: (_step(constant), inf),
    "==": lambda constant: (_step(constant), _beyond(constant)),
}
"""Operator -> where it begins to hold and where it ceases to, given its constant."""


def _step(constant: float) -> float:
    """Return the first double that is not below a constant, which may be an integer between two doubles."""
    nearest = float(constant)
    return nearest if nearest >= constant else _after(nearest)


def _beyond(constant: float) -> float:
    """Return the first double above a constant."""
    nearest = float(constant)
    return nearest if nearest > constant else _after(nearest)


_ORDINARY: Mapping[str | None, str] = {
    None: "value.__class__ is float or value.__class__ is int",
    "any": "value.__class__ is float or value.__class__ is int",
    "double": "value.__class__ is float or value.__class__ is int",
    "int": "value.__class__ is int",
}
"""Declared type -> Python for "the value compares as it is"; attributes of other types get no column."""

INDEXABLE = frozenset(_ORDINARY)
