"""One policy object to a checked `Policy`."""

from __future__ import annotations

import re
from typing import Any

from policy_engine.language.faults import (
    Faults,
    Place,
    Reader,
    anything,
    boolean,
    fields,
    integer,
    json_object,
    one_of,
    require,
    show,
    string,
    strings,
)
from policy_engine.language.match import read_condition, read_match
from policy_engine.language.suggest import did_you_mean
from policy_engine.language.types import EVERY_TYPE
from policy_engine.language.vocabulary.actions import ACTIONS, Action
from policy_engine.model.frozen import EMPTY, freeze
from policy_engine.model.policy import Effect, Policy, Rule

DEFAULT_PRIORITY = 100
MAX_PRIORITY = 1000
MAX_TYPE = 128
"""No request names a longer one."""
SEVERITIES = ("low", "medium", "high", "critical")
SERVER_OWNED = ("created_at", "updated_at", "version")
"""Fields of a policy that are read and kept without meaning; callers do not set them."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_UNKNOWN = Action(word="", verb="deny", effect=Effect.DENY)


def read_id(value: Any, place: Place, faults: Faults) -> str:
    """Read an id."""
    if isinstance(value, str) and _ID.fullmatch(value):
        return value
    faults.error(
        place,
        f"{show(value)} is not an id",
        "1 to 128 letters, digits, `.`, `_` or `-`, starting with a letter or digit",
    )
    return ""


def _read_name(value: Any, place: Place, faults: Faults) -> str:
    text = string(value, place, faults)
    if not text and isinstance(value, str):
        faults.error(place, "the string is empty")
    return text


def _read_type(value: Any, place: Place, faults: Faults) -> str:
    if value == EVERY_TYPE:
        faults.error(place, "a policy belongs to one type; `*` stands for every type in `types` alone")
    text = _read_name(value, place, faults)
    if len(text) > MAX_TYPE:
        faults.error(place, f"the name of a type has more than {MAX_TYPE} characters")
    return text


def _read_action(value: Any, place: Place, faults: Faults) -> Action:
    action = ACTIONS.get(value) if isinstance(value, str) else None
    if action is not None:
        return action
    faults.error(place, f"unknown action {show(value)}", did_you_mean(str(value), ACTIONS))
    return _UNKNOWN


def _read_parameters(value: Any, place: Place, faults: Faults) -> dict[str, Any]:
    return EMPTY if value is None else freeze(json_object(value, place, faults))


_RULE: dict[str, Reader] = {
    "action": _read_action,
    "description": string,
    "match": read_match,
    "condition": read_condition,
    "parameters": _read_parameters,
    "severity": one_of(*SEVERITIES),
    "on_missing": one_of("error", "skip"),
    "counts_against": one_of("client"),
}


def _read_rule(index: int, value: Any, place: Place, faults: Faults) -> Rule | None:
    if not isinstance(value, dict):
        faults.error(place, f"expected a rule (an object), found {show(value)}")
        return None
    require(value, place, faults, ("action",))
    found = fields(value, place, faults, _RULE)
    clauses, in_match = found.get("match", ((), None))
    action = found.get("action", _UNKNOWN)
    on_missing = found.get("on_missing")
    return Rule(
        index=index,
        action=action.word,
        verb=action.verb,
        effect=action.effect,
        description=found.get("description", ""),
        clauses=clauses,
        conditions=tuple(source for source in (in_match, found.get("condition")) if source is not None),
        parameters=found.get("parameters", EMPTY),
        severity=found.get("severity", "medium"),
        skip_missing=None if on_missing is None else on_missing == "skip",
        counts_against=found.get("counts_against"),
        matched_conditions=int(in_match is not None),
    )


def _read_rules(value: Any, place: Place, faults: Faults) -> tuple[Rule, ...]:
    if not isinstance(value, list):
        faults.error(place, f"expected an array of rules, found {show(value)}")
        return ()
    rules = (_read_rule(index, item, (*place, index), faults) for index, item in enumerate(value))
    return tuple(rule for rule in rules if rule is not None)


_POLICY: dict[str, Reader] = {
    "id": read_id,
    "name": string,
    "type": _read_type,
    "description": string,
    "priority": integer(0, MAX_PRIORITY),
    "enabled": boolean,
    "mode": one_of("enforce", "shadow"),
    "rules": _read_rules,
    "function_id": read_id,
    "function_code": _read_name,
    "tags": strings,
    "metadata": json_object,
    **dict.fromkeys(SERVER_OWNED, anything),
}


def _check_body(value: dict[str, Any], place: Place, faults: Faults) -> None:
    bodies = [name for name in ("rules", "function_id", "function_code") if value.get(name) is not None]
    if not bodies:
        faults.error(place, "the policy has neither `rules` nor `function_id` nor `function_code`")
    elif len(bodies) > 1:
        faults.error(place, f"the policy has {' and '.join(f'`{name}`' for name in bodies)}: one is enough")


def read_policy(value: Any, place: Place, faults: Faults, *, policy_id: str | None = None) -> Policy | None:
    """Read one policy; `policy_id` is the key it stands under, where it stands under one."""
    if not isinstance(value, dict):
        faults.error(place, f"expected a policy (an object), found {show(value)}")
        return None
    require(value, place, faults, ("type",) if policy_id is not None else ("id", "type"))
    _check_body(value, place, faults)
    found = fields(value, place, faults, _POLICY)
    own_id = found.get("id", policy_id) or ""
    if policy_id is not None:
        read_id(policy_id, place, faults)
        if "id" in found and found["id"] != policy_id:
            faults.error((*place, "id"), f"id {show(own_id)} differs from the key {show(policy_id)} it stands under")
    return Policy(
        id=own_id,
        name=found.get("name") or own_id,
        type=found.get("type", ""),
        description=found.get("description", ""),
        priority=found.get("priority", DEFAULT_PRIORITY),
        enabled=found.get("enabled", True),
        shadow=found.get("mode", "enforce") == "shadow",
        rules=found.get("rules", ()),
        function_id=found.get("function_id"),
        function_code=found.get("function_code"),
        document={**value, "id": own_id},
    )
