"""Columns: for every value an attribute can have, the set of rules that the attribute alone does not rule out.

A set of rules is an integer with one bit a rule. The intersection over all columns leaves the rules that apply, so a
decision costs one look-up and one `&` for each attribute, however many rules there are. The method is bit-vector
packet classification (Lakshman and Stiliadis, "High-speed policy-based packet forwarding using efficient multi-
dimensional range matching", SIGCOMM 1998, section 3), carried over from headers to attributes.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from policy_engine.engine.attribute import Context, Facts, Read, reader
from policy_engine.engine.clause import comparable
from policy_engine.language.condition import Comparison
from policy_engine.model.clause import Clause, Kind
from policy_engine.model.network import address_number, port_number

REMEMBERED = 8192
"""How many raw values a column remembers the answer for."""

_BUDGET_BITS = 48 * 8 * 2**20
"""How large the sets of one column may become together; beyond it, neighbouring classes share one."""

_INT64 = 2**63


class Answer(NamedTuple):
    """The rules that a value does not rule out, and those among them that it leaves in doubt."""

    rules: int
    doubtful: int


class Column(Protocol):
    """One attribute, seen by all rules of a type.

    Attributes:
        doubtful: Rules that have to be judged again even for an ordinary value, because classes share a set.
    """

    doubtful: int

    def look_up(self, context: Context, facts: Facts) -> int | None:
        """Return the rules that the request's value does not rule out; None for a value out of the ordinary."""

    def ponder(self, context: Context, facts: Facts) -> Answer:
        """Return the same for any value."""


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
    """An attribute that rules compare for equality."""

    def __init__(self, attribute: str, clauses: Sequence[tuple[int, Sequence[Clause]]], everything: int) -> None:
        """Take the bit and the clauses of every rule that constrains the attribute."""
        self._read: Read = reader(attribute)
        self._folded = clauses[0][1][0].kind is Kind.PROTOCOL
        self.constrained = union(bit for bit, _ in clauses)
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

    def look_up(self, context: Context, facts: Facts) -> int | None:
        """Return the rules for a string or for an absent value."""
        value = self._read(context, facts)
        if value.__class__ is str:
            found = self._sets.get(value)
            if found is not None:
                return found
            return self._sets.get(value.lower(), self._free) if self._folded else self._free
        return self._free if value is None else None

    def ponder(self, context: Context, facts: Facts) -> Answer:
        """Return the rules for any value, lists included."""
        value = self._read(context, facts)
        items = value if value.__class__ is list else [value]
        rules, doubtful = self._free, 0
        for item in items:
            found = self._one(item)
            rules |= self.constrained if found is None else found
            doubtful |= self.constrained if found is None else 0
        return Answer(rules, doubtful)

    def _one(self, value: Any) -> int | None:
        if self._folded:
            return self._sets.get(value.lower(), self._free) if value.__class__ is str else None
        if value.__class__ in (str, int, float, bool):
            return self._sets.get(comparable(value), self._free)
        return self._free


def _common(clauses: Sequence[Clause]) -> set[Any]:
    """Return the values that satisfy all clauses that one rule has on one attribute."""
    return set.intersection(*({comparable(item) for item in clause.scalars} for clause in clauses))


def union(sets: Iterable[int]) -> int:
    """Return the rules that are in any of some sets."""
    rules = 0
    for each in sets:
        rules |= each
    return rules


class IntervalColumn:
    """A port or an address, which rules compare with ranges."""

    def __init__(self, attribute: str, clauses: Sequence[tuple[int, Sequence[Clause]]], everything: int) -> None:
        """Take the bit and the clauses of every rule that constrains the attribute."""
        self._read: Read = reader(attribute)
        self._ordinary = int if clauses[0][1][0].kind is Kind.PORT else str
        self._parse: Callable[[Any], int | None] = port_number if self._ordinary is int else address_number
        self.constrained = union(bit for bit, _ in clauses)
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

    def look_up(self, context: Context, facts: Facts) -> int | None:
        """Return the rules for a well-formed value in its usual type, or for an absent one."""
        value = self._read(context, facts)
        if value.__class__ is self._ordinary:
            found = self._remembered.get(value)
            return self._first_sight(value) if found is None else found
        return self._free if value is None else None

    def ponder(self, context: Context, facts: Facts) -> Answer:
        """Return the rules for any value: numeric strings, lists, malformed ones."""
        value = self._read(context, facts)
        items = value if value.__class__ is list else [value]
        rules, doubtful = self._free, 0
        for item in items:
            number = self._parse(item)
            rules |= self.constrained if number is None else self._of(number)
            doubtful |= self.constrained if number is None else 0
        return Answer(rules, doubtful)

    def _first_sight(self, value: Any) -> int | None:
        number = self._parse(value)
        if number is None:
            return None
        found = self._of(number)
        if len(self._remembered) < REMEMBERED:
            self._remembered[value] = found
        return found

    def _of(self, number: int) -> int:
        return self._table.of(bisect_right(self._starts, number))


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
    """A number that conditions compare with constants.

    The constants cut the line into classes: 2i is what lies between two constants, 2i + 1 is the constant itself.
    """

    def __init__(
        self,
        attribute: str,
        comparisons: Sequence[tuple[int, Sequence[Comparison]]],
        everything: int,
        declared: str | None,
    ) -> None:
        """Take the bit and the comparisons of every rule whose condition compares the attribute."""
        self._read: Read = reader(attribute)
        self._ordinary = _NUMERIC[declared]
        self._double = declared == "double"
        self.constrained = union(bit for bit, _ in comparisons)
        self._free = everything & ~self.constrained
        self._everything = everything
        self._constants = sorted({item.constant for _, items in comparisons for item in items})
        last = 2 * len(self._constants)
        changes: dict[int, int] = {}
        start = self._free
        for bit, items in comparisons:
            low, high = self._classes(items, last)
            if low > high:
                continue
            if low == 0:
                start |= bit
            else:
                changes[low] = changes.get(low, 0) ^ bit
            changes[high + 1] = changes.get(high + 1, 0) ^ bit
        self._table = tabulate(last + 1, everything.bit_length(), changes, start, self.constrained)
        self._last = last
        self.doubtful = self._table.doubtful

    def _classes(self, comparisons: Sequence[Comparison], last: int) -> tuple[int, int]:
        """Return the first and the last class in which all comparisons of a rule hold."""
        low, high = 0, last
        for comparison in comparisons:
            at = 2 * bisect_left(self._constants, comparison.constant) + 1
            first, final = _HOLDS[comparison.operator](at, last)
            low, high = max(low, first), min(high, final)
        return low, high

    def look_up(self, context: Context, facts: Facts) -> int | None:
        """Return the rules for a number of the declared type."""
        value = self._read(context, facts)
        if value.__class__ not in self._ordinary:
            return None
        if self._double and value.__class__ is int and -_INT64 <= value < _INT64:
            value = float(value)
        place = bisect_left(self._constants, value)
        number = 2 * place
        if number < self._last and self._constants[place] == value:
            return self._table.of(number + 1)
        if number in (0, self._last) and not -_INT64 <= value < _INT64:
            return None if value.__class__ is int or value != value else self._table.of(number)  # noqa: PLR0124 - NaN
        return self._table.of(number)

    def ponder(self, context: Context, facts: Facts) -> Answer:
        """Leave every rule that compares the attribute in doubt: absent, of another type, or beyond 64 bits."""
        found = self.look_up(context, facts)
        return Answer(self._everything, self.constrained) if found is None else Answer(found, 0)


_NUMERIC: Mapping[str | None, frozenset[type]] = {
    None: frozenset({int, float}),
    "any": frozenset({int, float}),
    "double": frozenset({int, float}),
    "int": frozenset({int}),
}
"""Declared type -> the types of values that compare without errors; attributes of other types get no column."""

INDEXABLE = frozenset(_NUMERIC)

_HOLDS: dict[str, Callable[[int, int], tuple[int, int]]] = {
    "<": lambda at, _last: (0, at - 1),
    "<=": lambda at, _last: (0, at),
    ">": lambda at, last: (at + 1, last),
    ">=": lambda at, last: (at, last),
    "==": lambda at, _last: (at, at),
}
"""Operator -> the classes in which it holds, given the class of its constant."""
