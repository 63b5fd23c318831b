"""The `types` object of a policy file: declared types, and how they build on the built-in ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from policy_engine.language.faults import Faults, Place, Reader, fields, json_object, one_of, show, string, strings
from policy_engine.language.vocabulary.types import BUILT_IN
from policy_engine.model.alias import ALIASES
from policy_engine.model.frozen import EMPTY
from policy_engine.model.policy import Combining, Policy, TypeSpec

EVERY_TYPE = "*"
ATTRIBUTE_TYPES = ("any", "bool", "double", "duration", "int", "list", "map", "string", "timestamp")


def _read_attributes(value: Any, place: Place, faults: Faults) -> dict[str, str]:
    read = one_of(*ATTRIBUTE_TYPES)
    found: dict[str, str] = {}
    for name, item in json_object(value, place, faults).items():
        canonical = ALIASES.get(name, name)
        if canonical in found:
            faults.error((*place, name), f"`{name}` and another spelling of `{canonical}` are both here")
        found[canonical] = read(item, (*place, name), faults)
    return found


def _read_required(value: Any, place: Place, faults: Faults) -> tuple[str, ...]:
    return tuple(ALIASES.get(name, name) for name in strings(value, place, faults))


_TYPE: dict[str, Reader] = {
    "combining": one_of(*(combining.value for combining in Combining)),
    "default": one_of("allow", "deny"),
    "on_missing": one_of("error", "skip"),
    "required": _read_required,
    "attributes": _read_attributes,
    "description": string,
}


def read_types(value: Any, place: Place, faults: Faults) -> dict[str, dict[str, Any]]:
    """Read the `types` object into the checked fields of each entry."""
    declared: dict[str, dict[str, Any]] = {}
    for name, item in json_object(value, place, faults).items():
        here = (*place, name)
        if not name:
            faults.error(here, "the name of a type is empty")
        if isinstance(item, dict):
            declared[name] = fields(item, here, faults, _TYPE)
        else:
            faults.error(here, f"expected an object, found {show(item)}")
    return declared


def resolve_types(declared: Mapping[str, Mapping[str, Any]], policies: Iterable[Policy]) -> dict[str, TypeSpec]:
    """Return every type that exists: built in, declared, or there because a policy has it.

    What a type declares goes before what `*` declares for every type, and that before what is built in. `required`
    and `attributes` of `*` are added to those of the type.
    """
    every = declared.get(EVERY_TYPE, {})
    named = {name: fields for name, fields in declared.items() if name != EVERY_TYPE}
    names = dict.fromkeys([*BUILT_IN, *named, *(policy.type for policy in policies)])
    return {name: _resolve(name, named.get(name), every) for name in names}


def _resolve(name: str, own: Mapping[str, Any] | None, every: Mapping[str, Any]) -> TypeSpec:
    base = BUILT_IN.get(name, TypeSpec(name=name))
    given = {**every, **(own or {})}
    required = (own or {}).get("required", base.required)
    return TypeSpec(
        name=name,
        combining=Combining(given["combining"]) if "combining" in given else base.combining,
        default=given["default"] == "allow" if "default" in given else base.default,
        skip_missing=given.get("on_missing") == "skip",
        required=tuple(dict.fromkeys((*required, *every.get("required", ())))),
        attributes={**base.attributes, **every.get("attributes", EMPTY), **(own or {}).get("attributes", EMPTY)},
        description=given.get("description", base.description),
        declared=name in BUILT_IN or own is not None,
    )
