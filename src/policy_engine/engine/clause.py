"""Match clauses as tests of a value: true, false, or malformed."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import Any, TypeAlias

from policy_engine.model.clause import Clause, Interval, Kind
from policy_engine.model.network import address_number, port_number

MALFORMED = None
Test: TypeAlias = Callable[[Any], bool | None]
"""From a present value to true, false, or MALFORMED."""


def clause_test(clause: Clause) -> Test:
    """Return the test of one clause, lists included: true if any element is, else malformed if any is."""
    one = _TESTS[clause.kind](clause)

    def test(value: Any) -> bool | None:
        if value.__class__ is not list:
            return one(value)
        verdicts = [one(item) for item in value]
        return True if True in verdicts else MALFORMED if MALFORMED in verdicts else False

    return test


def comparable(value: Any) -> Any:
    """Return a key under which a scalar equals exactly what it equals in JSON: `true` is not `1`."""
    return (bool, value) if value.__class__ is bool else value


def _plain(clause: Clause) -> Test:
    wanted = frozenset(comparable(item) for item in clause.scalars)

    def test(value: Any) -> bool | None:
        return value.__class__ in _SCALARS and comparable(value) in wanted

    return test


_SCALARS = frozenset({str, int, float, bool})


def _protocol(clause: Clause) -> Test:
    wanted = frozenset(clause.scalars)

    def test(value: Any) -> bool | None:
        return value.lower() in wanted if value.__class__ is str else MALFORMED

    return test


def _interval(parse: Callable[[Any], int | None]) -> Callable[[Clause], Test]:
    def build(clause: Clause) -> Test:
        def test(value: Any) -> bool | None:
            number = parse(value)
            return MALFORMED if number is None else within(number, clause.intervals)

        return test

    return build


def within(number: int, intervals: tuple[Interval, ...]) -> bool:
    """Whether a number lies in one of some sorted, disjoint intervals."""
    after = bisect_right(intervals, number, key=_low)
    return after > 0 and number <= intervals[after - 1][1]


def _low(interval: Interval) -> int:
    return interval[0]


_TESTS: dict[Kind, Callable[[Clause], Test]] = {
    Kind.PLAIN: _plain,
    Kind.PROTOCOL: _protocol,
    Kind.PORT: _interval(port_number),
    Kind.ADDRESS: _interval(address_number),
}
