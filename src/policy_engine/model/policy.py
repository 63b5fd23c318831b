"""Policies, their rules and their types, as checked values."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

import msgspec

from policy_engine.model.clause import Clause
from policy_engine.model.frozen import EMPTY
from policy_engine.model.function import StoredFunction


class Effect(Enum):
    """What an action does to the answer."""

    ALLOW = "allow"
    DENY = "deny"
    DUTY = "duty"
    RESTRICTIVE = "restrictive_duty"
    OBSERVE = "observe"


class Combining(Enum):
    """How the rules of a type combine."""

    FIRST_APPLICABLE = "first-applicable"
    DENY_OVERRIDES = "deny-overrides"


class TypeSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for all policies of one type.

    Attributes:
        default: Whether a request that no rule decides is allowed.
        skip_missing: Whether rules that read an absent attribute are skipped instead of being in error.
        required: Attributes whose absence denies.
        attributes: Declared types by dotted path.
        declared: Whether the type is built in or declared; otherwise it exists because a policy has it.
    """

    name: str
    combining: Combining = Combining.DENY_OVERRIDES
    default: bool = False
    skip_missing: bool = False
    required: tuple[str, ...] = ()
    attributes: Mapping[str, str] = EMPTY
    description: str = ""
    declared: bool = True


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One rule of a policy.

    Attributes:
        action: The action as written; `verb` is its canonical word.
        conditions: The sources of the conditions that must all hold.
        skip_missing: The rule's own `on_missing`, None when the type decides.
        matched_conditions: How many of the conditions, the first ones, stand in `match`.
        counts_against: "client" when a violation lowers a client's trust.
    """

    index: int
    action: str
    verb: str
    effect: Effect
    description: str = ""
    clauses: tuple[Clause, ...] = ()
    conditions: tuple[str, ...] = ()
    parameters: dict[str, Any] = EMPTY
    severity: str = "medium"
    skip_missing: bool | None = None
    counts_against: str | None = None
    matched_conditions: int = 0

    @property
    def placed_conditions(self) -> tuple[tuple[tuple[str, ...], str], ...]:
        """The conditions with their places in the rule."""
        places = [("match", "condition")] * self.matched_conditions + [("condition",)]
        return tuple(zip(places, self.conditions, strict=False))


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """One policy: rules, or a function.

    Attributes:
        document: The policy as it was written, for those who read it back.
        shadow: Whether it is evaluated without changing the answer.
    """

    id: str
    name: str
    type: str
    description: str = ""
    priority: int = 100
    enabled: bool = True
    shadow: bool = False
    rules: tuple[Rule, ...] = ()
    function_id: str | None = None
    function_code: str | None = None
    document: dict[str, Any] = EMPTY

    @property
    def has_function(self) -> bool:
        """Whether its answer comes from a function."""
        return self.function_id is not None or self.function_code is not None

    @property
    def order(self) -> tuple[int, str]:
        """The key that sorts candidates: the higher priority first, then the smaller id."""
        return (-self.priority, self.id)


class PolicySet(msgspec.Struct, frozen=True, kw_only=True):
    """All policies and declared types of one revision.

    Attributes:
        policies: By id, in file order.
        types: Every built-in, declared and otherwise existing type by name.
        type_documents: The `types` object as it was written.
        functions: The custom policy functions by id.
    """

    policies: Mapping[str, Policy]
    types: Mapping[str, TypeSpec]
    type_documents: dict[str, Any] = EMPTY
    functions: Mapping[str, StoredFunction] = EMPTY
