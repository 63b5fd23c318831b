"""What a decision means, as plainly as docs/decisions.md says it: every rule is looked at, nothing is prepared.

It works on the policy document itself and shares no table with the engine, so the language is checked too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

from tests.reference.conditions import ALIASES, CLOCK, Failure, Scope, equal, holds

from policy_engine.model.decision import Obligation, Observation, Outcome, RuleError, ShadowOutcome, Violation
from policy_engine.model.errors import InvalidRequestError

Functions = Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]]

_WORDS = {
    "allow": ["allow permit grant"],
    "deny": ["deny block reject forbid", "quarantine", "isolate", "suspend", "exclude_client"],
    "restrictive": [
        "limit throttle restrict rate_limit",
        "filter select choose",
        "enforce apply implement",
        "verify check confirm",
        "validate",
        "authorize",
        "weight_reduction",
    ],
    "duty": [
        "configure modify adjust tune set",
        "prioritize boost elevate",
        "retry repeat reattempt",
        "checkpoint save",
        "backup",
        "failover fallback",
        "redirect reroute",
        "distribute",
        "scale",
    ],
    "observe": [
        "monitor watch observe",
        "inspect",
        "log",
        "audit record track",
        "evaluate_trust",
        "simulate test mock",
    ],
}
ACTIONS = {
    word: (effect, group.split()[0]) for effect, groups in _WORDS.items() for group in groups for word in group.split()
}
DENIED = {"network_security", "fl_client_start", "fl_security"}
ALLOWED = {
    "fl_client_training",
    "fl_client_evaluation",
    "fl_client_selection",
    "fl_server_control",
    "fl_server_client_filter",
    "fl_server_aggregation",
    "fl_training_parameters",
    "fl_performance",
    "trust_reputation",
    "security",
    "security_monitoring",
    "data_privacy",
    "resource_control",
    "network_qos",
    "temporal_control",
    "performance_optimization",
    "reliability",
    "reliability_management",
    "compliance_control",
    "load_management",
    "demonstration",
}
WILD = ("any", "all", "*")


@dataclass
class Type:
    first_applicable: bool
    allows: bool
    skips: bool
    required: list[str]
    declared: dict[str, str]


@dataclass
class Judged:
    """A rule that applies or is in error."""

    policy: dict[str, Any]
    index: int | None
    effect: str
    rule: dict[str, Any]
    failure: Failure | None = None
    said: str | None = None


def decide(
    document: dict[str, Any],
    policy_type: str,
    context: dict[str, Any],
    facts: dict[str, Any],
    functions: Functions | None = None,
) -> Outcome:
    context = normalise(context)
    policies = _policies(document)
    kind = _type(document, policies, policy_type)
    if kind is None:
        reason = f"policy type `{policy_type}` is not declared and has no policy"
        return Outcome(allowed=False, decision="deny", reason=reason, reason_code="type_undeclared")
    for name in kind.required:
        if attribute(name, context, facts) is None:
            return Outcome(
                allowed=False,
                decision="deny",
                reason=f"required attribute `{name}` is missing",
                reason_code="missing_attribute",
                errors=(RuleError(policy_id=None, rule_index=None, attribute=name, kind="missing"),),
            )
    candidates = [policy for policy in policies if policy["type"] == policy_type and policy.get("enabled", True)]
    candidates.sort(key=lambda policy: (-policy.get("priority", 100), policy["id"]))
    enforced = [policy for policy in candidates if policy.get("mode") != "shadow"]
    outcome = answer(policy_type, kind, enforced, context, facts, functions or {})
    if len(enforced) == len(candidates):
        return outcome
    other = answer(policy_type, kind, candidates, context, facts, functions or {})
    shadow = ShadowOutcome(
        allowed=other.allowed,
        decision=other.decision,
        reason=other.reason,
        reason_code=other.reason_code,
        policy_id=other.policy_id,
        rule_index=other.rule_index,
        differs=other.allowed != outcome.allowed,
    )
    fields = {name: getattr(outcome, name) for name in Outcome.__struct_fields__}
    return Outcome(**{**fields, "shadow": shadow})


def normalise(context: dict[str, Any]) -> dict[str, Any]:
    _check_keys(context)
    found: dict[str, Any] = {}
    for key, value in context.items():
        name = ALIASES.get(key, key)
        if name in found and not (type(found[name]) is type(value) and found[name] == value):
            raise InvalidRequestError(f"/context/{key}", "two values")
        found[name] = value
    return found


def _check_keys(value: Any) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if "." in key:
                raise InvalidRequestError(f"/context/{key}", "a dot")
            _check_keys(item)
    elif isinstance(value, list):
        for item in value:
            _check_keys(item)


def _policies(document: dict[str, Any]) -> list[dict[str, Any]]:
    policies = document["policies"]
    if isinstance(policies, dict):
        return [{**policy, "id": key} for key, policy in policies.items()]
    return list(policies)


def _type(document: dict[str, Any], policies: list[dict[str, Any]], name: str) -> Type | None:
    declared = document.get("types", {})
    own, every = declared.get(name, {}), declared.get("*", {})
    known = name in DENIED | ALLOWED or (name in declared and name != "*")
    if not known and not any(policy["type"] == name for policy in policies):
        return None
    combining = "first-applicable" if name == "network_security" else "deny-overrides"
    default = "allow" if name in ALLOWED else "deny"
    required = ["protocol"] if name == "network_security" else []
    both = {"combining": combining, "default": default, **every, **own}
    names = [*own.get("required", required), *every.get("required", [])]
    types = {**every.get("attributes", {}), **own.get("attributes", {})}
    return Type(
        first_applicable=both["combining"] == "first-applicable",
        allows=both["default"] == "allow",
        skips=both.get("on_missing") == "skip",
        required=[ALIASES.get(name, name) for name in names],
        declared={ALIASES.get(name, name): kind for name, kind in types.items()},
    )


def attribute(name: str, context: dict[str, Any], facts: dict[str, Any]) -> Any:
    if name in facts:
        return facts[name]
    if name in CLOCK:
        return None
    value: Any = context
    for segment in name.split("."):
        value = value.get(segment) if isinstance(value, dict) else None
    return value


def answer(  # noqa: PLR0917 - everything that a decision depends on
    policy_type: str,
    kind: Type,
    policies: list[dict[str, Any]],
    context: dict[str, Any],
    facts: dict[str, Any],
    functions: Functions,
) -> Outcome:
    judged: list[Judged] = []
    decider: Judged | None = None
    for policy in policies:
        for found in judge_policy(kind, policy, context, facts, functions):
            judged.append(found)
            settles = found.effect == "deny" or (found.effect == "allow" and found.failure is None)
            if kind.first_applicable and settles:
                decider = found
                break
        if decider is not None:
            break
    if not kind.first_applicable:
        decider = (
            next((each for each in judged if each.effect == "deny"), None)
            or next((each for each in judged if each.effect == "allow" and each.failure is None), None)
            or next((each for each in judged if each.effect in {"duty", "restrictive"} and each.failure is None), None)
        )
    return put_together(policy_type, kind, policies, judged, decider)


def judge_policy(
    kind: Type, policy: dict[str, Any], context: dict[str, Any], facts: dict[str, Any], functions: Functions
) -> list[Judged]:
    if "function_id" in policy:
        return [run_function(policy, context, facts, functions)]
    judged = []
    for index, rule in enumerate(policy.get("rules", [])):
        effect, _ = ACTIONS[rule["action"]]
        try:
            applies = judge_rule(kind, rule, context, facts)
        except Failure as failure:
            skips = rule["on_missing"] == "skip" if "on_missing" in rule else kind.skips
            if not (failure.kind == "missing" and skips):
                judged.append(Judged(policy, index, effect, rule, failure))
            continue
        if applies:
            judged.append(Judged(policy, index, effect, rule))
    return judged


def run_function(
    policy: dict[str, Any], context: dict[str, Any], facts: dict[str, Any], functions: Functions
) -> Judged:
    try:
        said = functions[policy["function_id"]]({**context, **facts})
    except Exception:  # noqa: BLE001 - whatever a function raises
        return Judged(policy, None, "deny", {"action": "function"}, Failure("function_error", None))
    effect = "allow" if said["allowed"] else "deny"
    rule = {"action": "function", "parameters": said.get("parameters", {})}
    return Judged(policy, None, effect, rule, said=said["reason"])


def judge_rule(kind: Type, rule: dict[str, Any], context: dict[str, Any], facts: dict[str, Any]) -> bool:
    match = dict(rule.get("match", {}))
    conditions = [source for source in (match.pop("condition", None), rule.get("condition")) if source is not None]
    malformed: str | None = None
    for key, expected in match.items():
        if any(item in WILD for item in (expected if isinstance(expected, list) else [expected]) if type(item) is str):
            continue
        name = attribute_name(key)
        value = attribute(name, context, facts)
        verdict = False if value is None else compare(name, expected, value)
        if verdict is False:
            return False
        if verdict is None:
            malformed = malformed or name
    if malformed is not None:
        raise Failure("malformed", malformed)
    scope = Scope(rule.get("parameters") or {}, facts, context, kind.declared)
    first: Failure | None = None
    for source in conditions:
        try:
            if not holds(source, scope):
                return False
        except Failure as failure:
            first = first or failure
    if first is not None:
        raise first
    return True


def attribute_name(key: str) -> str:
    stem = key.removesuffix("_range")
    if stem != key and kind_of(stem) in {"port", "ip"}:
        key = stem
    return ALIASES.get(key, key)


def kind_of(name: str) -> str:
    last = name.rpartition(".")[2]
    if last == "protocol":
        return "protocol"
    end = last.rpartition("_")[2]
    return end if end in {"port", "ip"} else "plain"


def compare(name: str, expected: Any, value: Any) -> bool | None:
    """Return whether a value is wanted; None when it is malformed."""
    kind = kind_of(name)
    wanted = expected if isinstance(expected, list) else [expected]
    verdicts = [one(kind, wanted, item) for item in (value if isinstance(value, list) else [value])]
    if True in verdicts:
        return True
    return None if None in verdicts else False


def one(kind: str, wanted: list[Any], value: Any) -> bool | None:
    if kind == "protocol":
        return value.lower() in [item.lower() for item in wanted] if isinstance(value, str) else None
    if kind == "port":
        port = port_of(value)
        return None if port is None else any(low <= port <= high for low, high in port_ranges(wanted))
    if kind == "ip":
        address = address_of(value)
        return None if address is None else any(in_range(address, part) for part in parts(wanted))
    return any(equal(item, value) for item in wanted)


def port_of(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and str(int(value)) == value:
        value = int(value)
    return value if type(value) is int and 0 <= value <= 65535 else None


def parts(wanted: list[Any]) -> list[str]:
    return [part.strip() for item in wanted for part in str(item).split(",")]


def port_ranges(wanted: list[Any]) -> list[tuple[int, int]]:
    found = []
    for part in parts(wanted):
        low, _, high = part.partition("-")
        found.append((int(low), int(high or low)))
    return found


def address_of(value: Any) -> IPv4Address | IPv6Address | None:
    if not isinstance(value, str) or "%" in value:
        return None
    try:
        address = ip_address(value)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def in_range(address: IPv4Address | IPv6Address, part: str) -> bool:
    if "/" in part:
        network = ip_network(part)
        low, high = address_of(str(network[0])), address_of(str(network[-1]))
    else:
        first, _, last = part.partition("-")
        low, high = address_of(first.strip()), address_of((last or first).strip())
    assert low is not None
    assert high is not None
    return low.version == address.version and int(low) <= int(address) <= int(high)


def put_together(
    policy_type: str, kind: Type, policies: list[dict[str, Any]], judged: list[Judged], decider: Judged | None
) -> Outcome:
    allowed = kind.allows if decider is None else decider.effect != "deny"
    word = "allow" if allowed else "deny"
    common: dict[str, Any] = {
        "allowed": allowed,
        "decision": word,
        "parameters": merged(policies, judged, decider),
        "obligations": tuple(obligations(judged)) if allowed else (),
        "observations": tuple(observations(judged)),
        "errors": tuple(
            RuleError(
                policy_id=each.policy["id"],
                rule_index=each.index,
                attribute=each.failure.attribute,
                kind=each.failure.kind,
            )
            for each in judged
            if each.failure is not None
        ),
        "policies_checked": len(policies),
    }
    if decider is None:
        reason = f"no rule of type `{policy_type}` decides: {'allowed' if allowed else 'denied'} by default"
        return Outcome(reason=reason, reason_code=f"default_{word}", **common)
    denies = [each for each in judged if each.effect == "deny"] if not allowed else []
    return Outcome(
        reason=reason_of(decider),
        reason_code=code_of(decider),
        policy_id=decider.policy["id"],
        policy_name=name_of(decider.policy),
        rule_index=decider.index,
        violations=tuple(
            Violation(
                policy_id=each.policy["id"],
                rule_index=each.index,
                action=each.rule["action"],
                severity=each.rule.get("severity", "medium"),
                reason=reason_of(each),
            )
            for each in denies
        ),
        **common,
    )


def name_of(policy: dict[str, Any]) -> str:
    return policy.get("name") or str(policy["id"])


def reason_of(judged: Judged) -> str:
    failure = ""
    if judged.failure is not None:
        kind, blamed = judged.failure.kind, judged.failure.attribute
        text = {"missing": " is missing", "malformed": " is malformed", "wrong_type": " has the wrong type"}
        failure = f"({kind})" if blamed is None else f"(attribute `{blamed}`{text.get(kind, f': {kind}')})"
    if judged.index is None:
        return f"policy `{name_of(judged.policy)}`: {failure or judged.said}"
    label = judged.rule.get("description") or judged.rule["action"]
    return f"policy `{name_of(judged.policy)}` rule {judged.index}: {label}" + (f" {failure}" if failure else "")


def code_of(judged: Judged) -> str:
    if judged.index is None:
        return judged.failure.kind if judged.failure else f"function_{judged.effect}"
    if judged.effect == "deny":
        return "rule_error" if judged.failure else "rule_deny"
    return "rule_allow" if judged.effect == "allow" else "duty_permit"


def merged(policies: list[dict[str, Any]], judged: list[Judged], decider: Judged | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for policy in reversed(policies):
        for each in judged:
            gives = each.effect == "restrictive" or (each.effect in {"allow", "duty"} and each.failure is None)
            if each.policy["id"] == policy["id"] and gives:
                found.update(each.rule.get("parameters") or {})
    if decider is not None and decider.effect == "deny":
        found.update(decider.rule.get("parameters") or {})
    return found


def obligations(judged: list[Judged]) -> list[Obligation]:
    return [
        Obligation(
            id=f"{each.policy['id']}#{each.index}",
            verb=ACTIONS[each.rule["action"]][1],
            action=each.rule["action"],
            policy_id=each.policy["id"],
            rule_index=each.index or 0,
            parameters=each.rule.get("parameters") or {},
            required=each.effect == "restrictive",
            indeterminate=each.failure is not None,
        )
        for each in judged
        if each.effect == "restrictive" or (each.effect == "duty" and each.failure is None)
    ]


def observations(judged: list[Judged]) -> list[Observation]:
    return [
        Observation(
            verb=ACTIONS[each.rule["action"]][1],
            action=each.rule["action"],
            policy_id=each.policy["id"],
            rule_index=each.index or 0,
            parameters=each.rule.get("parameters") or {},
        )
        for each in judged
        if each.effect == "observe" and each.failure is None
    ]
