"""A policy document: both of its shapes, read whole or refused whole."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from secrets import token_hex
from typing import Any

import msgspec

from policy_engine.language import json_text
from policy_engine.language.binding import bind
from policy_engine.language.condition import ConditionError
from policy_engine.language.faults import Faults, Place, Reader, anything, fields, json_object, require, show
from policy_engine.language.lint import lint_policy
from policy_engine.language.policy import read_policy
from policy_engine.language.types import read_types, resolve_types
from policy_engine.model.diagnostic import Diagnostic, pointer
from policy_engine.model.errors import InvalidPolicyError
from policy_engine.model.frozen import EMPTY
from policy_engine.model.function import StoredFunction
from policy_engine.model.policy import Policy, PolicySet

LANGUAGE_VERSION = 2
"""The newest version of the policy language that is understood here."""


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A policy document that was accepted.

    Attributes:
        policy_set: What it says.
        warnings: What is dubious about it.
        source: The parsed JSON as it was, for writing it back in its shape.
    """

    policy_set: PolicySet
    warnings: tuple[Diagnostic, ...]
    source: Mapping[str, Any]


def _read_version(value: Any, place: Place, faults: Faults) -> Any:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        faults.error(place, f"expected a language version from 1 to {LANGUAGE_VERSION}, found {show(value)}")
    elif value > LANGUAGE_VERSION:
        faults.error(place, f"language version `{value}` is newer than `{LANGUAGE_VERSION}`, the newest known here")
    return value


def _read_policies(value: Any, place: Place, faults: Faults) -> list[Policy]:
    if isinstance(value, dict):
        found = [read_policy(item, (*place, key), faults, policy_id=key) for key, item in value.items()]
    elif isinstance(value, list):
        found = [read_policy(item, (*place, index), faults) for index, item in enumerate(value)]
    else:
        faults.error(place, f"expected an object or an array of policies, found {show(value)}")
        found = []
    if isinstance(value, (dict, list)):
        _check_ids(value, found, place, faults)
    return [policy for policy in found if policy is not None]


def _check_ids(value: Any, found: Sequence[Policy | None], place: Place, faults: Faults) -> None:
    first: dict[str, object] = {}
    for key, policy in zip(_keys(value), found, strict=True):
        if policy is None or not policy.id:
            continue
        if policy.id in first:
            there = pointer(*place, first[policy.id])
            faults.error((*place, key), f"policy id `{policy.id}` is taken already by {there}")
        first.setdefault(policy.id, key)


_DOCUMENT: dict[str, Reader] = {
    "version": _read_version,
    "types": read_types,
    "policies": _read_policies,
    "history": anything,
    "updated_at": anything,
}


def parse_document(text: str | bytes) -> Document:
    """Read the text of a policy file.

    Raises:
        InvalidPolicyError: With every fault and its place; nothing of the document is used then.
    """
    return read_document(json_text.parse(text), checked=True)


def read_document(value: Any, *, checked: bool = False) -> Document:
    """Read a policy document that is parsed already; `checked` says that it came out of `json_text`.

    Raises:
        InvalidPolicyError: As `parse_document`.
    """
    faults = Faults()
    plain = value if checked else json_text.check(value, faults)
    faults.raise_if_any()
    source = json_object(plain, (), faults)
    if isinstance(value, dict):
        require(source, (), faults, ("policies",))
    found = fields(source, (), faults, _DOCUMENT)
    faults.raise_if_any()
    policies = found["policies"]
    policy_set = build_policy_set(policies, source.get("types", EMPTY))
    for key, policy in zip(_keys(source["policies"]), policies, strict=True):
        _examine(policy, policy_set, ("policies", key), faults)
    faults.raise_if_any()
    return Document(policy_set=policy_set, warnings=tuple(faults.warnings), source=source)


def read_single(value: Any, type_documents: dict[str, Any] = EMPTY, *, policy_id: str | None = None) -> Document:
    """Read one policy that is parsed already; pointers start at the policy itself.

    Args:
        value: The policy.
        type_documents: The declared types it is to live with.
        policy_id: The id it has to have, where that is known; one is made where it is not, and the policy names none.

    Raises:
        InvalidPolicyError: As `parse_document`.
    """
    faults = Faults()
    plain = json_text.check(value, faults)
    faults.raise_if_any()
    if policy_id is None and isinstance(plain, dict) and "id" not in plain:
        plain = {"id": _new_id(plain.get("type")), **plain}
    policy = read_policy(plain, (), faults, policy_id=policy_id)
    faults.raise_if_any()
    if policy is None:
        raise InvalidPolicyError(faults.errors)
    policy_set = build_policy_set([policy], type_documents)
    _examine(policy, policy_set, (), faults)
    faults.raise_if_any()
    return Document(policy_set=policy_set, warnings=tuple(faults.warnings), source={"policies": {policy.id: plain}})


def _new_id(policy_type: Any) -> str:
    stem = re.sub(r"[^A-Za-z0-9_-]", "-", str(policy_type))[:80]
    return f"{stem if stem[:1].isalnum() else 'policy'}-{token_hex(4)}"


def _examine(policy: Policy, policy_set: PolicySet, place: Place, faults: Faults) -> None:
    """Look at a policy that is well-formed: do its conditions fit its parameters, and what is dubious about it?"""
    spec = policy_set.types[policy.type]
    for rule in policy.rules:
        for where, source in rule.placed_conditions:
            try:
                bind(source, rule, spec)
            except ConditionError as error:
                faults.error((*place, "rules", rule.index, *where), str(error), error.hint or "", error.excerpt)
    lint_policy(policy, spec, place, faults)


def build_policy_set(
    policies: Iterable[Policy], type_documents: dict[str, Any], functions: Mapping[str, StoredFunction] = EMPTY
) -> PolicySet:
    """Return the set of these policies under these declared types, which were accepted before."""
    kept = tuple(policies)
    declared = read_types(type_documents, (), Faults())
    return PolicySet(
        policies={policy.id: policy for policy in kept},
        types=resolve_types(declared, kept),
        type_documents=type_documents,
        functions=functions,
    )


def _keys(policies: Any) -> list[object]:
    return list(policies) if isinstance(policies, dict) else list(range(len(policies)))
