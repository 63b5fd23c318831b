"""What a decision means, as docs/decisions.md says it: rule by rule, key by key, and nothing prepared."""

from __future__ import annotations

import copy
import ipaddress
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.interpreter.conditions import ABSENT, ALIASES, RESERVED, Evaluator, Failure, same, walk

from policy_engine.model.decision import Obligation, Observation, Outcome, RuleError, ShadowOutcome, Violation
from policy_engine.model.errors import InvalidRequestError

Functions = Mapping[str, Callable[[dict[str, Any]], Any]]

ACTIONS = {
    "allow": {"allow": "permit grant"},
    "deny": {
        "deny": "block reject forbid",
        "quarantine": "",
        "isolate": "",
        "suspend": "",
        "exclude_client": "",
    },
    "restrictive": {
        "limit": "throttle restrict rate_limit",
        "filter": "select choose",
        "enforce": "apply implement",
        "verify": "check confirm",
        "validate": "",
        "authorize": "",
        "weight_reduction": "",
    },
    "duty": {
        "configure": "modify adjust tune set",
        "prioritize": "boost elevate",
        "retry": "repeat reattempt",
        "checkpoint": "save",
        "backup": "",
        "failover": "fallback",
        "redirect": "reroute",
        "distribute": "",
        "scale": "",
    },
    "observe": {
        "monitor": "watch observe",
        "inspect": "",
        "log": "",
        "audit": "record track",
        "evaluate_trust": "",
        "simulate": "test mock",
    },
}
ALLOWING_TYPES = (
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
)
BUILT_IN: dict[str, dict[str, Any]] = {
    "network_security": {"combining": "first-applicable", "default": "deny", "required": ["protocol"]},
    "fl_client_start": {"default": "deny"},
    "fl_security": {"default": "deny"},
    **{name: {"default": "allow"} for name in ALLOWING_TYPES},
}
WILDCARDS = ("any", "all", "*")
MAX_DEPTH = 32


def verb_and_effect(action: str) -> tuple[str, str]:
    for effect, verbs in ACTIONS.items():
        for verb, others in verbs.items():
            if action == verb or action in others.split():
                return verb, effect
    raise AssertionError(f"no action {action}")


@dataclass
class Request:
    context: dict[str, Any]
    facts: Mapping[str, Any]

    def attribute(self, path: str) -> Any:
        """The value of an attribute for match keys; null is absent."""
        if path in self.facts:
            return self.facts[path]
        segments = tuple(path.split("."))
        value = ABSENT if segments[0] in RESERVED else walk(self.context, segments)
        return ABSENT if value is None else value


@dataclass
class Type:
    """What holds for one type; `known` is whether it is built in or declared."""

    name: str
    known: bool
    combining: str
    default: str
    on_missing: str
    required: list[str]
    attributes: dict[str, str]


@dataclass
class Rule:
    """A rule or a function in its policy, and what became of it."""

    policy: Mapping[str, Any]
    index: int | None
    action: str
    verb: str
    effect: str
    description: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    severity: str = "medium"
    state: str = "not"
    kind: str = ""
    attribute: str | None = None
    said: str = ""

    @property
    def place(self) -> dict[str, Any]:
        return {"policy_id": self.policy["id"], "rule_index": self.index}

    @property
    def name(self) -> str:
        return str(self.policy.get("name") or self.policy["id"])

    @property
    def reason(self) -> str:
        if self.index is None:
            return f"policy `{self.name}`: " + (self.said if self.state == "applies" else f"({self.kind})")
        text = f"policy `{self.name}` rule {self.index}: {self.description or self.action}"
        if self.state != "error":
            return text
        if self.attribute is None:
            return f"{text} ({self.kind})"
        told = {"missing": " is missing", "malformed": " is malformed", "wrong_type": " has the wrong type"}
        return f"{text} (attribute `{self.attribute}`{told.get(self.kind, ': ' + self.kind)})"

    def is_(self, state: str, *effects: str) -> bool:
        return self.state == state and self.effect in effects

    @property
    def denies(self) -> bool:
        return self.effect == "deny" and self.state in ("applies", "error")

    @property
    def obliges(self) -> bool:
        return self.is_("applies", "duty", "restrictive") or self.is_("error", "restrictive")


# --- the request


def normalised(context: Any) -> dict[str, Any]:
    """The context with the spelling variants renamed.

    Raises:
        InvalidRequestError: It cannot be normalised.
    """
    if not isinstance(context, dict):
        raise InvalidRequestError("", "no object")
    check_nested(context, 1)
    renamed: dict[str, Any] = {}
    for key, value in context.items():
        name = str(ALIASES.get(key, key))
        if name in renamed and json.dumps(renamed[name], sort_keys=True) != json.dumps(value, sort_keys=True):
            raise InvalidRequestError("", f"two values for {name}")
        renamed[name] = value
    return renamed


def check_nested(value: Any, depth: int) -> None:
    if isinstance(value, dict | list) and depth > MAX_DEPTH:
        raise InvalidRequestError("", "nested too deep")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str) or "." in key:
                raise InvalidRequestError("", "a key that cannot be named")
            check_nested(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            check_nested(item, depth + 1)


# --- match keys


def key_row(key: str) -> tuple[str, str]:
    """The attribute that a key constrains, and its row of the table."""
    attribute = key
    last = key.rsplit(".", maxsplit=1)[-1]
    if last.endswith(("_port_range", "_ip_range")):
        attribute = key.removesuffix("_range")
        last = last.removesuffix("_range")
    attribute = ALIASES.get(attribute, attribute)
    if last == "port" or last.endswith("_port"):
        return attribute, "port"
    if last == "ip" or last.endswith("_ip"):
        return attribute, "address"
    return attribute, "protocol" if last == "protocol" else "other"


def read_port(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and str(int(value)) == value:
        value = int(value)
    return value if type(value) is int and 0 <= value <= 65535 else None


def read_address(value: Any) -> Any:
    if not isinstance(value, str) or "%" in value:
        return None
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def port_in(port: int, wanted: Any) -> bool:
    for part in str(wanted).split(","):
        low, _, high = part.partition("-")
        if int(low) <= port <= int(high or low):
            return True
    return False


def address_in(address: Any, wanted: str) -> bool:
    for part in wanted.split(","):
        low, high = address_range(part.strip())
        if low.version == address.version and low <= address <= high:
            return True
    return False


def address_range(text: str) -> tuple[Any, Any]:
    if "/" in text:
        network = ipaddress.ip_network(text)
        low, high = network[0], network[-1]
        if isinstance(low, ipaddress.IPv6Address) and isinstance(high, ipaddress.IPv6Address) and low.ipv4_mapped:
            # A network of less than 96 bits is one of IPv6, even where it begins at a mapped address.
            return (low.ipv4_mapped, high.ipv4_mapped) if high.ipv4_mapped else (low, high)
        return low, high
    first, _, last = text.partition("-")
    low = read_address(first.strip())
    return low, read_address(last.strip()) if last else low


def element_state(row: str, value: Any, wanted: list[Any]) -> str:
    """Whether one value of a request is among the wanted: "true", "false" or "malformed"."""
    if row == "port":
        port = read_port(value)
        if port is None:
            return "malformed"
        found = any(port_in(port, item) for item in wanted)
    elif row == "address":
        address = read_address(value)
        if address is None:
            return "malformed"
        found = any(address_in(address, item) for item in wanted)
    elif row == "protocol":
        if not isinstance(value, str):
            return "malformed"
        found = any(value.lower() == item.lower() for item in wanted)
    else:
        found = any(same(value, item) for item in wanted)
    return "true" if found else "false"


def key_state(key: str, expected: Any, request: Request) -> str:
    wanted = expected if isinstance(expected, list) else [expected]
    if any(isinstance(item, str) and item in WILDCARDS for item in wanted):
        return "true"
    attribute, row = key_row(key)
    value = request.attribute(attribute)
    if value is ABSENT:
        return "false"
    elements = value if isinstance(value, list) else [value]
    states = [element_state(row, element, wanted) for element in elements]
    return next((state for state in ("true", "malformed") if state in states), "false")


# --- rules


def judge(policy: Mapping[str, Any], index: int, spec: Mapping[str, Any], kind: Type, request: Request) -> Rule:
    verb, effect = verb_and_effect(spec["action"])
    rule = Rule(
        policy,
        index,
        spec["action"],
        verb,
        effect,
        spec.get("description", ""),
        dict(spec.get("parameters") or {}),
        spec.get("severity", "medium"),
    )
    keys = {key: value for key, value in spec.get("match", {}).items() if key != "condition"}
    states = {key: key_state(key, value, request) for key, value in keys.items()}
    if "false" in states.values():
        return rule
    for key, state in states.items():
        if state == "malformed":
            rule.state, rule.kind, rule.attribute = "error", "malformed", key_row(key)[0]
            return rule
    sources = [holder["condition"] for holder in (spec.get("match", {}), spec) if "condition" in holder]
    try:
        if Evaluator(rule.parameters, request.facts, request.context, kind.attributes).holds(sources):
            rule.state = "applies"
    except Failure as failure:
        if failure.kind == "missing" and spec.get("on_missing", kind.on_missing) == "skip":
            return rule
        rule.state, rule.kind, rule.attribute = "error", failure.kind, failure.attribute
    return rule


def judge_function(policy: Mapping[str, Any], request: Request, functions: Functions) -> Rule:
    rule = Rule(policy, None, "function", "function", "deny", state="error", kind="function_error")
    function = functions.get(policy.get("function_id", ""))
    if function is None:
        return rule
    try:
        believed = {name: value for name, value in request.context.items() if name not in RESERVED}
        answer = function(copy.deepcopy({**believed, **request.facts}))
    except Exception:  # noqa: BLE001 - whatever goes wrong
        return rule
    if not isinstance(answer, dict) or not isinstance(answer.get("allowed"), bool):
        return rule
    allowed = answer["allowed"]
    said, parameters = answer.get("reason", "allowed" if allowed else "denied"), answer.get("parameters", {})
    if not isinstance(said, str) or not isinstance(parameters, dict):
        return rule
    word = "allow" if allowed else "deny"
    return Rule(policy, None, "function", "function", word, parameters=parameters, state="applies", said=said)


# --- combining


def resolve(document: Mapping[str, Any], name: str) -> Type:
    types = document.get("types", {})
    own, every, built_in = {} if name == "*" else types.get(name, {}), types.get("*", {}), BUILT_IN.get(name, {})

    def first(key: str, otherwise: Any) -> Any:
        return next((place[key] for place in (own, every, built_in) if key in place), otherwise)

    required = [*own.get("required", built_in.get("required", [])), *every.get("required", [])]
    attributes = [*every.get("attributes", {}).items(), *own.get("attributes", {}).items()]
    return Type(
        name=name,
        known=name in BUILT_IN or (name != "*" and name in types),
        combining=first("combining", "deny-overrides"),
        default=first("default", "deny"),
        on_missing=first("on_missing", "error"),
        required=[ALIASES.get(path, path) for path in required],
        attributes={ALIASES.get(path, path): value for path, value in attributes},
    )


def policies_of(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    policies = document["policies"]
    if isinstance(policies, dict):
        return [{**policy, "id": key} for key, policy in policies.items()]
    return list(policies)


def answer(allowed: bool, reason: str, code: str, **fields: Any) -> Outcome:  # noqa: FBT001 - read as a record
    return Outcome(allowed=allowed, decision="allow" if allowed else "deny", reason=reason, reason_code=code, **fields)


def decide(
    document: Mapping[str, Any],
    policy_type: str,
    context: Any,
    facts: Mapping[str, Any],
    functions: Functions | None = None,
) -> Outcome:
    """What the policies of a document say about a request.

    Raises:
        InvalidRequestError: The context cannot be normalised.
    """
    request = Request(normalised(context), facts)
    kind = resolve(document, policy_type)
    policies = [policy for policy in policies_of(document) if policy["type"] == policy_type]
    if not kind.known and not policies:
        reason = f"policy type `{policy_type}` is not declared and has no policy"
        return answer(False, reason, "type_undeclared")  # noqa: FBT003
    for path in kind.required:
        if request.attribute(path) is ABSENT:
            error = RuleError(policy_id=None, rule_index=None, attribute=path, kind="missing")
            reason = f"required attribute `{path}` is missing"
            return answer(False, reason, "missing_attribute", errors=(error,))  # noqa: FBT003
    enabled = [policy for policy in policies if policy.get("enabled", True)]
    enabled.sort(key=lambda policy: (-policy.get("priority", 100), policy["id"]))
    enforced = [policy for policy in enabled if policy.get("mode", "enforce") == "enforce"]
    outcome = combined(enforced, kind, request, functions or {}, checked=len(enforced))
    if len(enforced) == len(enabled):
        return outcome
    other = combined(enabled, kind, request, functions or {}, checked=len(enforced))
    shadow = ShadowOutcome(
        allowed=other.allowed,
        decision=other.decision,
        reason=other.reason,
        reason_code=other.reason_code,
        policy_id=other.policy_id,
        rule_index=other.rule_index,
        differs=other.allowed != outcome.allowed,
    )
    return combined(enforced, kind, request, functions or {}, checked=len(enforced), shadow=shadow)


def judged(policies: list[dict[str, Any]], kind: Type, request: Request, functions: Functions) -> list[Rule]:
    """The rules that are judged: all, or in a first-applicable type those up to the one that decides."""
    rules: list[Rule] = []
    for policy in policies:
        for index, spec in enumerate(policy.get("rules", [None])):
            if spec is None:
                rules.append(judge_function(policy, request, functions))
            else:
                rules.append(judge(policy, index, spec, kind, request))
            if kind.combining == "first-applicable" and (rules[-1].is_("applies", "allow") or rules[-1].denies):
                return rules
    return rules


def combined(
    policies: list[dict[str, Any]],
    kind: Type,
    request: Request,
    functions: Functions,
    *,
    checked: int,
    shadow: ShadowOutcome | None = None,
) -> Outcome:
    rules = judged(policies, kind, request, functions)
    denies = [rule for rule in rules if rule.denies]
    allows = [rule for rule in rules if rule.is_("applies", "allow")]
    duties = [rule for rule in rules if rule.is_("applies", "duty", "restrictive")]
    if kind.combining == "first-applicable":
        duties = []
    named = next(iter([*denies, *allows, *duties]), None)
    allowed = named is not denies[0] if denies else named is not None or kind.default == "allow"
    parameters = merged(policies, rules)
    if denies:
        parameters.update(denies[0].parameters)
    return answer(
        allowed,
        named.reason if named else default_reason(kind),
        code_of(named) if named else f"default_{kind.default}",
        policy_id=named.policy["id"] if named else None,
        policy_name=named.name if named else None,
        rule_index=named.index if named else None,
        parameters=parameters,
        obligations=tuple(obligation(rule) for rule in rules if rule.obliges) if allowed else (),
        observations=tuple(
            Observation(verb=rule.verb, action=rule.action, parameters=rule.parameters, **rule.place)
            for rule in rules
            if rule.is_("applies", "observe")
        ),
        violations=tuple(
            Violation(action=rule.action, severity=rule.severity, reason=rule.reason, **rule.place) for rule in denies
        ),
        errors=tuple(
            RuleError(attribute=rule.attribute, kind=rule.kind, **rule.place) for rule in rules if rule.state == "error"
        ),
        policies_checked=checked,
        shadow=shadow,
    )


def default_reason(kind: Type) -> str:
    word = "allowed" if kind.default == "allow" else "denied"
    return f"no rule of type `{kind.name}` decides: {word} by default"


def code_of(rule: Rule) -> str:
    if rule.state == "error":
        return "rule_error" if rule.index is not None else rule.kind
    if rule.effect in ("duty", "restrictive"):
        return "duty_permit"
    return f"{'function' if rule.index is None else 'rule'}_{rule.effect}"


def merged(policies: list[dict[str, Any]], rules: list[Rule]) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    for policy in reversed(policies):
        for rule in rules:
            if rule.policy["id"] == policy["id"] and (rule.is_("applies", "allow") or rule.obliges):
                parameters.update(rule.parameters)
    return parameters


def obligation(rule: Rule) -> Obligation:
    return Obligation(
        id=f"{rule.policy['id']}#{rule.index}",
        verb=rule.verb,
        action=rule.action,
        parameters=rule.parameters,
        required=rule.effect == "restrictive",
        indeterminate=rule.state == "error",
        **rule.place,
    )
