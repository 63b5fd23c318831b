"""Whether policies have the functions that they name."""

from __future__ import annotations

import msgspec

from policy_engine.functions.runtime import check_function
from policy_engine.model.diagnostic import Diagnostic, pointer
from policy_engine.model.errors import InvalidPolicyError
from policy_engine.model.policy import PolicySet


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
