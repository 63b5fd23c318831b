"""A plain interpreter of policies, written from docs/decisions.md alone: slow, short, and without any index.

It shares with the engine the evaluation of single conditions, which has tests of its own, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from policy_engine.language.binding import bind
from policy_engine.language.condition import EvaluationError
from policy_engine.model.policy import Effect, Rule, TypeSpec

ALLOW, DENY, DUTY, RESTRICTIVE, OBSERVE = "allow", "deny", "duty", "restrictive", "observe"
EFFECTS = {"allow": ALLOW, "deny": DENY, "block": DENY, "configure": DUTY, "throttle": RESTRICTIVE, "monitor": OBSERVE}
VERBS = {"block": "deny", "throttle": "limit"}
PORTS = frozenset(str(number) for number in range(65536))
CLOCK = {"now", "current_hour", "current_minute", "current_day_of_week", "current_timestamp"}
JSON_SCALARS = (str, int, float, bool)
MALFORMED = "malformed"
TEXTS = {"missing": " is missing", MALFORMED: " is malformed", "wrong_type": " has the wrong type"}

Request = tuple[dict[str, Any], dict[str, Any]]


def attribute(path: str, request: Request) -> Any:
    context, facts = request
    if path in facts:
        return facts[path]
    value: Any = None if path in CLOCK else context
    for segment in path.split("."):
        value = value.get(segment) if isinstance(value, dict) else None
    return value


def port(value: Any) -> int | None:
    if isinstance(value, str) and value in PORTS:
        return int(value)
    return value if type(value) is int and 0 <= value <= 65535 else None


def address(value: Any) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(value) if isinstance(value, str) and "%" not in value else None
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found


def in_ports(number: int, wanted: Any) -> bool:
    ends = [part.split("-") for part in str(wanted).split(",")]
    return any(int(part[0]) <= number <= int(part[-1]) for part in ends)


def in_addresses(found: IPv4Address | IPv6Address, wanted: str) -> bool:
    if "/" in wanted:
        network: IPv4Network | IPv6Network = ip_network(wanted)
        mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
        network = network if mapped is None else ip_network((mapped, network.prefixlen - 96))
        return found.version == network.version and found in network
    low, high = address(wanted.split("-", maxsplit=1)[0]), address(wanted.rsplit("-", maxsplit=1)[-1])
    assert low is not None
    assert high is not None
    return found.version == low.version and int(low) <= int(found) <= int(high)


def equal(value: Any, wanted: Any) -> bool:
    scalar = isinstance(value, JSON_SCALARS)
    return bool(scalar and value == wanted and isinstance(value, bool) is isinstance(wanted, bool))


def key_state(key: str, wanted: Any, request: Request) -> bool | str:
    """Return whether a match key is true, false or malformed."""
    listed = wanted if isinstance(wanted, list) else [wanted]
    if any(item in {"any", "all", "*"} for item in listed if isinstance(item, str)):
        return True
    name = key.removesuffix("_range")
    last = name.split(".")[-1].split("_")[-1]
    parse: Callable[[Any], Any] = {"port": port, "ip": address}.get(last, lambda value: value)
    tests: dict[str, Callable[[Any, Any], bool]] = {"port": in_ports, "ip": in_addresses}
    test = tests.get(last, equal)
    if name == "protocol":
        listed = [item.lower() for item in listed]
        parse = lambda value: value.lower() if isinstance(value, str) else None  # noqa: E731 - beside its sisters
    value = attribute(name, request)
    if value is None:
        return False
    strict = last in {"port", "ip"} or name == "protocol"
    states: list[bool | str] = []
    for item in value if isinstance(value, list) else [value]:
        found = parse(item)
        states.append(MALFORMED if strict and found is None else any(test(found, one) for one in listed))
    return True if True in states else MALFORMED if MALFORMED in states else False


class Candidate:
    """One rule of a request with its state: applies, does not apply, or is in error."""

    def __init__(self, policy: dict[str, Any], index: int, spec: dict[str, Any], request: Request) -> None:
        self.policy, self.index, self.rule = policy, index, policy["rules"][index]
        self.action = self.rule["action"]
        self.effect = EFFECTS[self.action]
        self.parameters = self.rule.get("parameters") or {}
        self.fault: tuple[str, str | None] | None = None
        self.applies = False
        match = {key: item for key, item in self.rule.get("match", {}).items() if key != "condition"}
        states = {key: key_state(key, wanted, request) for key, wanted in match.items()}
        malformed = [key.removesuffix("_range") for key, state in states.items() if state == MALFORMED]
        if False in states.values():
            return
        if malformed:
            self.fault = MALFORMED, malformed[0]
            return
        try:
            self.applies = self._condition(spec, request)
        except EvaluationError as error:
            skip = self.rule.get("on_missing", spec.get("on_missing", "error")) == "skip"
            self.fault = None if skip and error.kind == "missing" else (error.kind, error.attribute)

    def _condition(self, spec: dict[str, Any], request: Request) -> bool:
        sources = [self.rule.get("match", {}).get("condition"), self.rule.get("condition")]
        joined = " && ".join(f"({source})" for source in sources if source is not None)
        rule = Rule(index=0, action="", verb="", effect=Effect.DENY, parameters=self.parameters)
        kind = TypeSpec(name="", attributes=spec.get("attributes", {}))
        return not joined or bind(joined, rule, kind).evaluate(*request)

    @property
    def imposed(self) -> bool:
        return self.effect == RESTRICTIVE and self.fault is not None

    @property
    def denies(self) -> bool:
        return self.effect == DENY and (self.applies or self.fault is not None)

    @property
    def place(self) -> dict[str, Any]:
        return {"policy_id": self.policy["id"], "rule_index": self.index}

    @property
    def reason(self) -> str:
        name = self.policy.get("name") or self.policy["id"]
        text = f"policy `{name}` rule {self.index}: {self.rule.get('description') or self.action}"
        if self.fault is None:
            return text
        kind, path = self.fault
        return f"{text} ({kind})" if path is None else f"{text} (attribute `{path}`{TEXTS.get(kind, f': {kind}')})"

    def told(self) -> dict[str, Any]:
        return {
            "verb": VERBS.get(self.action, self.action),
            "action": self.action,
            **self.place,
            "parameters": self.parameters,
        }


def decide(document: dict[str, Any], policy_type: str, request: Request) -> dict[str, Any]:
    """Return what an outcome has to be."""
    spec = document.get("types", {}).get(policy_type, {})
    policies = [{"id": key, **item} for key, item in document["policies"].items() if item["type"] == policy_type]
    for path in spec.get("required", ()):
        if attribute(path, request) is None:
            fault = {"policy_id": None, "rule_index": None, "attribute": path, "kind": "missing"}
            reason = f"required attribute `{path}` is missing"
            return answer(reason, "missing_attribute", None, errors=[fault])
    enabled = [item for item in policies if item.get("enabled", True)]
    enforced = [item for item in enabled if item.get("mode") != "shadow"]
    outcome = judge(enforced, policy_type, spec, request)
    outcome["policies_checked"] = len(enforced)
    if len(enforced) < len(enabled):
        other = judge(enabled, policy_type, spec, request)
        names = ("allowed", "decision", "reason", "reason_code", "policy_id", "rule_index")
        outcome["shadow"] = {name: other[name] for name in names}
        outcome["shadow"]["differs"] = other["allowed"] is not outcome["allowed"]
    return outcome


def judge(policies: list[dict[str, Any]], name: str, spec: dict[str, Any], request: Request) -> dict[str, Any]:
    ordered = sorted(policies, key=lambda item: (-item.get("priority", 100), item["id"]))
    found = [Candidate(item, index, spec, request) for item in ordered for index in range(len(item["rules"]))]
    decisive = next((one for one in found if one.denies or (one.effect == ALLOW and one.applies)), None)
    if spec.get("combining") == "first-applicable":
        found = found if decisive is None else found[: found.index(decisive) + 1]
        named = decisive
    else:
        named = next((one for one in found if one.denies), None)
        for effects in ({ALLOW}, {DUTY, RESTRICTIVE}):
            named = named or next((one for one in found if one.effect in effects and one.applies), None)
    allowed = spec.get("default") == "allow" if named is None else named.effect != DENY
    if named is None:
        word = "allowed" if allowed else "denied"
        reason, code = (
            f"no rule of type `{name}` decides: {word} by default",
            f"default_{'allow' if allowed else 'deny'}",
        )
    else:
        reason, code = named.reason, "rule_allow" if named.effect == ALLOW else "duty_permit"
        if named.effect == DENY:
            code = "rule_error" if named.fault else "rule_deny"
    duties = [one for one in found if one.imposed or (one.applies and one.effect in {DUTY, RESTRICTIVE})]
    denies = [one for one in found if one.denies]
    faulty = [one for one in found if one.fault]
    return answer(
        reason,
        code,
        named,
        allowed=allowed,
        parameters=merge(found) | (named.parameters if named is not None and named.effect == DENY else {}),
        obligations=[
            {
                "id": f"{one.policy['id']}#{one.index}",
                **one.told(),
                "required": one.effect == RESTRICTIVE,
                "indeterminate": one.fault is not None,
            }
            for one in duties
            if allowed
        ],
        observations=[one.told() for one in found if one.effect == OBSERVE and one.applies],
        violations=[
            {**one.place, "action": one.action, "severity": one.rule.get("severity", "medium"), "reason": one.reason}
            for one in denies
            if not allowed
        ],
        errors=[{**one.place, "attribute": one.fault[1], "kind": one.fault[0]} for one in faulty if one.fault],
    )


def merge(found: list[Candidate]) -> dict[str, Any]:
    """Merge parameters from the weakest policy to the strongest, rule after rule within each."""
    merged: dict[str, Any] = {}
    policies = list(dict.fromkeys(one.policy["id"] for one in found))
    for policy_id in reversed(policies):
        for one in found:
            collected = one.imposed or (one.applies and one.effect in {ALLOW, DUTY, RESTRICTIVE})
            if one.policy["id"] == policy_id and collected:
                merged |= one.parameters
    return merged


def answer(reason: str, code: str, named: Candidate | None, **fields: Any) -> dict[str, Any]:
    allowed = fields.setdefault("allowed", False)
    empty: dict[str, Any] = {"parameters": {}, "obligations": [], "observations": [], "violations": [], "errors": []}
    return {
        **empty,
        "decision": "allow" if allowed else "deny",
        "reason": reason,
        "reason_code": code,
        "policy_id": None if named is None else named.policy["id"],
        "policy_name": None if named is None else named.policy.get("name") or named.policy["id"],
        "rule_index": None if named is None else named.index,
        "policies_checked": 0,
        "shadow": None,
        **fields,
    }
