"""Validation as an answer instead of an exception."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from policy_engine.language.document import Document
from policy_engine.model.diagnostic import Diagnostic
from policy_engine.model.errors import InvalidPolicyError


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What validation found."""

    valid: bool
    policies: int
    rules: int
    errors: tuple[Diagnostic, ...]
    warnings: tuple[Diagnostic, ...]


def report_on(read: Callable[[], Document], *, strict: bool = False) -> Report:
    """Return what reading a document finds; `strict` counts warnings as faults."""
    try:
        document = read()
    except InvalidPolicyError as error:
        return Report(valid=False, policies=0, rules=0, errors=error.errors, warnings=error.warnings)
    policies = document.policy_set.policies.values()
    return Report(
        valid=not (strict and document.warnings),
        policies=len(policies),
        rules=sum(len(policy.rules) for policy in policies),
        errors=(),
        warnings=document.warnings,
    )
