"""Whether policies have the functions that they name, and keep them."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from policy_engine.functions.runtime import check_function
from policy_engine.model.diagnostic import Diagnostic, pointer
from policy_engine.model.errors import FunctionInUseError, InvalidPolicyError
from policy_engine.model.policy import PolicySet


def users(policy_set: PolicySet) -> dict[str, list[str]]:
    """Return the ids of the functions that policies name, each with the ids of those policies."""
    found: dict[str, list[str]] = {}
    for policy in policy_set.policies.values():
        if policy.function_id is not None:
            found.setdefault(policy.function_id, []).append(policy.id)
    return found


def check_present(policy_set: PolicySet, whole: str) -> None:
    """Refuse a set of policies that names functions which it does not hold.

    Args:
        policy_set: All of it.
        whole: What it is called, for the message.

    Raises:
        FunctionInUseError: With each function and the policies that name it.
    """
    errors = [
        Diagnostic(
            pointer=pointer(function_id),
            detail=f"function `{function_id}` is in use by {_listed(named_by)}, and {whole} does not hold it",
        )
        for function_id, named_by in users(policy_set).items()
        if function_id not in policy_set.functions
    ]
    if errors:
        raise FunctionInUseError(errors)


def check_unused(policy_set: PolicySet, going: Iterable[str]) -> None:
    """Refuse to remove functions that policies name.

    Raises:
        FunctionInUseError: With each function and the policies that name it.
    """
    named = users(policy_set)
    errors = [
        Diagnostic(pointer=pointer(name), detail=f"function `{name}` is in use by {_listed(named[name])}")
        for name in going
        if name in named
    ]
    if errors:
        raise FunctionInUseError(errors)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def check_functions(policy_set: PolicySet) -> None:
    """Refuse policies that name functions which are not among theirs, or bring some that cannot run.

    Raises:
        InvalidPolicyError: With every fault; its pointer starts at the document of all policies.
    """
    faults: list[Diagnostic] = []
    for policy in policy_set.policies.values():
        try:
            check_function(policy, policy_set.functions)
        except InvalidPolicyError as error:
            place = pointer("policies", policy.id)
            faults += [msgspec.structs.replace(fault, pointer=f"{place}{fault.pointer}") for fault in error.errors]
    if faults:
        raise InvalidPolicyError(faults)
