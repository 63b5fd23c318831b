"""A rule's `match` object: keys and values to clauses."""

from __future__ import annotations

import re
from typing import Any

from policy_engine.language.condition import ConditionError, parse
from policy_engine.language.faults import Faults, Place, show, string
from policy_engine.language.ranges import RangeError, address_intervals, port_intervals
from policy_engine.language.vocabulary.keys import WILDCARDS, attribute_of, canonical, kind_of
from policy_engine.model.clause import Clause, Kind, Scalar
from policy_engine.model.frozen import freeze

CONDITION = "condition"
_KEY = re.compile(r"[^.\s]+(\.[^.\s]+)*")
_INTERVALS = {Kind.PORT: port_intervals, Kind.ADDRESS: address_intervals}


def read_match(value: Any, place: Place, faults: Faults) -> tuple[tuple[Clause, ...], str | None]:
    """Read a `match` object into its clauses and its condition."""
    if not isinstance(value, dict):
        faults.error(place, f"expected an object, found {show(value)}", "a rule for every request has `match: {}`")
        return (), None
    clauses: list[Clause] = []
    condition = None
    spelled: dict[str, str] = {}
    for key, item in value.items():
        here = (*place, key)
        if key == CONDITION:
            condition = read_condition(item, here, faults)
            continue
        name = canonical(key)
        if name in spelled:
            faults.error(here, f"`{key}` and `{spelled[name]}` are the same key")
        spelled[name] = key
        clause = _read_clause(name, item, here, faults)
        if clause is not None:
            clauses.append(clause)
    return tuple(clauses), condition


def read_condition(value: Any, place: Place, faults: Faults) -> str | None:
    """Read a condition; None when it is not one."""
    source = string(value, place, faults)
    if not isinstance(value, str):
        return None
    try:
        parse(source)
    except ConditionError as error:
        faults.error(place, str(error), error.hint or "", error.excerpt)
        return None
    return source


def _read_clause(key: str, value: Any, place: Place, faults: Faults) -> Clause | None:
    if not _KEY.fullmatch(key):
        faults.error(place, f"`{key}` is not a dotted path")
        return None
    items = value if isinstance(value, list) else [value]
    if not items:
        faults.error(place, "the list is empty, so nothing could match")
        return None
    attribute = attribute_of(key)
    kind = kind_of(attribute)
    named = [item for item in items if not _is_wildcard(item, kind)]
    if len(named) < len(items):
        if named:
            _read_values(key, attribute, kind, named, place, faults)  # the others have to make sense all the same
        return None
    return _read_values(key, attribute, kind, value, place, faults)


def _is_wildcard(item: Any, kind: Kind) -> bool:
    return isinstance(item, str) and (item.lower() if kind is Kind.PROTOCOL else item) in WILDCARDS


def _read_values(  # noqa: PLR0917 - one value of one key
    key: str, attribute: str, kind: Kind, value: Any, place: Place, faults: Faults
) -> Clause | None:
    if kind in _INTERVALS:
        try:
            intervals = _INTERVALS[kind](value)
        except RangeError as error:
            faults.error(place, str(error), error.hint)
            return None
        return Clause(key=key, attribute=attribute, kind=kind, expected=freeze(value), intervals=intervals)
    scalars = _read_scalars(value if isinstance(value, list) else [value], kind, place, faults)
    return Clause(key=key, attribute=attribute, kind=kind, expected=freeze(value), scalars=scalars)


def _read_scalars(items: list[Any], kind: Kind, place: Place, faults: Faults) -> tuple[Scalar, ...]:
    scalars: list[Scalar] = []
    for item in items:
        if item is None or isinstance(item, (dict, list)):
            faults.error(place, f"expected a string, a number, a boolean or a list of these, found {show(item)}")
        elif kind is Kind.PROTOCOL and not isinstance(item, str):
            faults.error(place, f"expected the name of a protocol, found {show(item)}")
        else:
            scalars.append(item.lower() if kind is Kind.PROTOCOL else item)
    return tuple(scalars)
