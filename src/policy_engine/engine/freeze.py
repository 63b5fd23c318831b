"""Freezes, ready to answer: which of them holds for a request, and what is said then."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from policy_engine.engine.attribute import Context
from policy_engine.engine.program import Program, compile_program
from policy_engine.engine.rule import Resolver
from policy_engine.model.decision import Outcome
from policy_engine.model.freeze import EVERYTHING, Freeze
from policy_engine.model.policy import PolicySet

UNNAMED = "default"
"""The federation of a request that names none."""

_FEDERATION = "federation"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""What the name of a federation looks like."""


class Frozen(NamedTuple):
    """A freeze, ready to answer.

    Attributes:
        outcome: What every request gets, unless a policy that stays in force decides otherwise.
        program: The policies that stay in force; None when there are none.
    """

    freeze: Freeze
    outcome: Outcome
    program: Program | None = None

    def settle(self, outcome: Outcome) -> Outcome:
        """Return the answer where the policies that stay in force gave an outcome: a default does not stand."""
        return self.outcome if outcome.reason_code in _UNDECIDED else outcome


_UNDECIDED = frozenset({"default_allow", "default_deny", "type_undeclared"})


class Freezes:
    """All freezes in force, immutable."""

    def __init__(self, frozen: Iterable[Frozen]) -> None:
        self._all = tuple(frozen)
        scopes = {each.freeze.scope for each in self._all}
        self._by_scope = {scope: tuple(each for each in self._all if each.freeze.scope == scope) for scope in scopes}

    def holding(self, context: Context, now: float) -> Frozen | None:
        """Return the freeze that holds for a request, the strictest of several; None when there is none.

        A request whose federation makes no sense may belong to any of them.

        Args:
            context: The caller's attributes, normalised.
            now: Seconds since 1970.
        """
        federation = context.get(_FEDERATION)
        if federation is None:
            federation = UNNAMED
        found = tuple(each for each in self._about(federation) if each.freeze.holds_at(now))
        if not found:
            return None
        strict = next((each for each in found if each.program is None), None)
        if strict is not None:
            return strict
        left = {frozenset(each.freeze.policies) for each in found}
        return found[0] if len(left) == 1 else found[0]._replace(program=None)

    def _about(self, federation: Any) -> tuple[Frozen, ...]:
        if federation.__class__ is not str or not _NAME.fullmatch(federation):
            return self._all
        own = () if federation == EVERYTHING else self._by_scope.get(federation, ())
        return (*self._by_scope.get(EVERYTHING, ()), *own)


def prepare_freezes(freezes: Iterable[Freeze], policy_set: PolicySet, functions: Resolver | None) -> Freezes | None:
    """Return freezes, ready to answer; None when there are none.

    Args:
        freezes: All that are in force.
        policy_set: All policies in force; a policy that a freeze leaves and that is not among them decides nothing.
        functions: Finds the custom policy function of a policy.
    """
    frozen = [Frozen(each, _outcome(each), _left(each, policy_set, functions)) for each in freezes]
    return Freezes(frozen) if frozen else None


def _left(freeze: Freeze, policy_set: PolicySet, functions: Resolver | None) -> Program | None:
    if not freeze.policies:
        return None
    left = {name: policy for name, policy in policy_set.policies.items() if name in freeze.policies}
    return compile_program(msgspec.structs.replace(policy_set, policies=left), functions)


def _outcome(freeze: Freeze) -> Outcome:
    what = "everything" if freeze.scope == EVERYTHING else f"federation `{freeze.scope}`"
    return Outcome(allowed=False, decision="deny", reason=f"{what} is frozen: {freeze.reason}", reason_code="frozen")
