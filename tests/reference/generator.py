"""Random policies and requests that hit them: seeded, and rich in what goes wrong."""

from __future__ import annotations

from random import Random
from typing import Any

from tests.reference.interpreter import ACTIONS

TYPES = [
    "network_security",
    "network_security",
    "fl_security",
    "security",
    "fl_client_training",
    "custom.first",
    "custom.lenient",
    "undeclared",
]
STRINGS = ["tcp", "UDP", "alpha", "beta", "fl-client", "fl-server", ""]
ADDRESSES = ["10.0.0.1", "10.0.1.7", "192.168.100.20", "2001:db8::1", "::ffff:10.0.0.1", "::1"]
NETWORKS = ["10.0.0.0/24", "10.0.0.0-10.0.1.9", "2001:db8::/32", "10.0.0.1,192.168.0.0/16", "0.0.0.0/0", "::/0"]
PORTS: list[Any] = [22, 80, 8080, "443", "1-100", "22-79,81-8079", "8080-8080", 0, 65535]
THRESHOLDS: list[Any] = [0, 1, 5, 5.0, 10, 10.5, 0.1, 30, 100, -3, 2**53 - 1, -(2**53) + 1, 1e300]
METRICS = ["score", "load", "client.rank", "round", "src_port"]
KEYS = ["operation", "kind", "flag", "level", "client.region", "protocol", "src_type", "dst_type", "source_type"]
SAME = {
    "source_type": "src_type",
    "src_type": "source_type",
    "destination_port": "dst_port",
    "dst_port": "destination_port",
}
"""Keys of which a rule may have one."""
NAMES = ["batch", "rate", "limit", "floor", "client"]


def policy_document(random: Random) -> dict[str, Any]:
    """Return a valid policy document."""
    count = random.randint(0, 6)
    long = random.random() < 0.06
    ids = random.sample(["a", "B", "c-1", "d.2", "e_3", "F9", "zz"], 1 if long else count)
    policies = {policy_id: _policy(random, policy_id, random.randint(60, 200) if long else None) for policy_id in ids}
    listed = random.random() < 0.5
    document: dict[str, Any] = {"policies": list(policies.values()) if listed else policies}
    if not listed:
        for policy in policies.values():
            if random.random() < 0.5:
                del policy["id"]
    if random.random() < 0.7:
        document["types"] = _types(random)
    return document


def _types(random: Random) -> dict[str, Any]:
    types: dict[str, Any] = {"custom.first": {"combining": "first-applicable"}, "custom.lenient": {"default": "allow"}}
    for name in ["network_security", "fl_security", "security", "custom.first", "*"]:
        if random.random() < 0.3:
            entry = types.setdefault(name, {})
            if random.random() < 0.4:
                entry["on_missing"] = random.choice(["skip", "error"])
            if random.random() < 0.3:
                entry["required"] = random.sample(["operation", "client.region", "source_ip", "level"], 1)
            if random.random() < 0.3:
                entry["default"] = random.choice(["allow", "deny"])
            if random.random() < 0.2:
                entry["combining"] = random.choice(["first-applicable", "deny-overrides"])
            if random.random() < 0.5:
                kinds = ["double", "int", "any", "string"]
                entry["attributes"] = {name: random.choice(kinds) for name in random.sample(METRICS, 2)}
    return types


def _policy(random: Random, policy_id: str, rules: int | None) -> dict[str, Any]:
    policy: dict[str, Any] = {"id": policy_id, "type": random.choice(TYPES)}
    if random.random() < 0.5:
        policy["name"] = f"policy {policy_id}"
    if random.random() < 0.6:
        policy["priority"] = random.choice([0, 100, 100, 500])
    if random.random() < 0.15:
        policy["enabled"] = random.random() < 0.3
    if random.random() < 0.15:
        policy["mode"] = random.choice(["shadow", "enforce"])
    if rules is None and random.random() < 0.06:
        policy["function_id"] = random.choice(["yes", "no", "broken", "absent"])
        return policy
    policy["rules"] = [_rule(random) for _ in range(rules or random.randint(0, 8))]
    return policy


def _rule(random: Random) -> dict[str, Any]:
    effects = ["allow", "allow", "deny", "deny", "duty", "restrictive", "observe"]
    effect = random.choice(effects)
    rule: dict[str, Any] = {"action": random.choice([word for word, (kind, _) in ACTIONS.items() if kind == effect])}
    match: dict[str, Any] = {}
    for _ in range(random.choice([0, 1, 1, 2, 2, 3])):
        key, value = _clause(random)
        if not {SAME.get(key), key} & match.keys():
            match[key] = value
    if random.random() < 0.5:
        parameters: dict[str, Any] = {name: random.choice([*THRESHOLDS, "x", True]) for name in random.sample(NAMES, 2)}
        if "client" in parameters:
            parameters["client"] = {"bound": random.choice(THRESHOLDS)}
        rule["parameters"] = random.choice([parameters, parameters, parameters, None])
    if random.random() < 0.5:
        match["condition"] = _condition(random, rule.get("parameters") or {})
    if random.random() < 0.1:
        rule["condition"] = _condition(random, rule.get("parameters") or {})
    if match or random.random() < 0.5:
        rule["match"] = match
    if random.random() < 0.5:
        rule["description"] = random.choice(["says something", ""])
    if random.random() < 0.15:
        rule["on_missing"] = random.choice(["skip", "error"])
    if random.random() < 0.3:
        rule["severity"] = random.choice(["low", "high", "critical"])
    return rule


def _clause(random: Random) -> tuple[str, Any]:
    form = random.random()
    if form < 0.2:
        key = random.choice(["dst_port", "dst_port_range", "src_port", "destination_port"])
        return key, _one_or_many(random, PORTS)
    if form < 0.35:
        return random.choice(["src_ip", "src_ip_range", "client_ip"]), _one_or_many(random, [*ADDRESSES, *NETWORKS])
    key = random.choice(KEYS)
    if random.random() < 0.06:
        return key, random.choice(["any", "*", ["all", "tcp"]])
    values: list[Any] = STRINGS if key == "protocol" else [*STRINGS, True, False, 1, 0, 1.0, 2, 2.5]
    return key, _one_or_many(random, values)


def _one_or_many(random: Random, values: list[Any]) -> Any:
    return random.choice(values) if random.random() < 0.7 else random.sample(values, 2)


def _literal(random: Random, parameters: dict[str, Any]) -> str:
    numbers = [name for name, value in parameters.items() if type(value) in {int, float}]
    if numbers and random.random() < 0.5:
        return random.choice(numbers)
    if "client" in parameters and random.random() < 0.5:
        return "client.bound"
    value = random.choice(THRESHOLDS)
    return f"{value:.1f}" if value == 1e300 else repr(value)


def _comparison(random: Random, parameters: dict[str, Any]) -> str:
    name = random.choice([*METRICS, *METRICS, "current_hour", "source_port"])
    sides = [name, _literal(random, parameters)]
    if random.random() < 0.15:
        sides.reverse()
    return f"{sides[0]} {random.choice(['<', '<=', '>', '>=', '==', '!='])} {sides[1]}"


def _atom(random: Random, parameters: dict[str, Any]) -> str:
    return random.choice(
        [
            "operation == 'alpha'",
            "operation != 'beta'",
            "kind in ['alpha', 'tcp', 1]",
            "has(client.region)",
            "has(client.bound) && client.region == 'alpha'",
            "size(tags) > 1",
            "'alpha' in tags",
            "tags[1] == 'alpha'",
            "operation.startsWith('al')",
            "flag",
            "flag == true",
            "score + load > 10",
            "round * round < 50",
            "round / level == 2",
            "round % level == 1",
            "-round < 0",
            "level == null",
            "client.region.contains('l')",
            "dst_type == 'fl-server'",
            "source_type == 'fl-client'",
            "client.rank.deep > 1",
            "score - 1 > limit",
            "rate > load",
            f"(flag ? {_comparison(random, parameters)} : level == 1)",
        ]
    )


def _condition(random: Random, parameters: dict[str, Any]) -> str:
    form = random.random()
    if form < 0.45:
        return " && ".join(_comparison(random, parameters) for _ in range(random.choice([1, 1, 2, 3])))
    parts = [
        _comparison(random, parameters) if random.random() < 0.5 else f"({_atom(random, parameters)})"
        for _ in range(random.choice([1, 2, 2, 3]))
    ]
    parts = [f"NOT {part}" if random.random() < 0.15 else part for part in parts]
    return "".join(
        part if number == 0 else random.choice([" AND ", " && ", " OR ", " || "]) + part
        for number, part in enumerate(parts)
    )


def request(random: Random, document: dict[str, Any]) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Return a type, a context and the facts of one request."""
    policies = document["policies"]
    used = [policy["type"] for policy in (policies.values() if isinstance(policies, dict) else policies)]
    policy_type = random.choice(used) if used and random.random() < 0.9 else random.choice([*TYPES, "no_such_type"])
    context: dict[str, Any] = {}
    for name, values in _VALUES.items():
        if random.random() < 0.75:
            context[name] = _value(random, values)
    if random.random() < 0.85:
        context["client"] = {name: _value(random, values) for name, values in _CLIENT.items() if random.random() < 0.8}
    elif random.random() < 0.5:
        context["client"] = random.choice(["x", None, [1], 5])
    if random.random() < 0.1:
        context["destination_port"] = random.choice([22, context.get("dst_port", 80)])
    if random.random() < 0.1:
        context["source_type"] = random.choice(["fl-client", context.get("src_type", "beta")])
    if random.random() < 0.01:
        context["a.b"] = 1
    facts: dict[str, Any] = {
        "current_hour": random.randrange(24),
        "current_minute": 30,
        "current_day_of_week": 2,
        "current_timestamp": 1.5e9,
    }
    for name in ("src_type", "dst_type"):
        if random.random() < 0.2:
            facts[name] = random.choice(["fl-client", "fl-server", "alpha"])
    if random.random() < 0.1:
        context["current_hour"] = random.randrange(24)
    return policy_type, context, facts


_NUMBERS: list[Any] = [0, 1, 2, 5, 5.5, 10, 10.5, 30, 31, 99.9, 100, 1e300, 2**53 - 1, 2**53, 2**53 + 1, -(2**53) - 1]
_VALUES: dict[str, list[Any]] = {
    "operation": STRINGS,
    "kind": [*STRINGS, 1, True],
    "flag": [True, False, True, 1],
    "level": [1, 2, 0, 1.0, True, None],
    "tags": [["alpha", "beta"], [], ["x"], [1, "alpha"]],
    "protocol": ["tcp", "TCP", "udp", "alpha"],
    "src_type": STRINGS,
    "dst_type": STRINGS,
    "dst_port": [22, 80, 8080, 443, 1, 101, 79, 81, 0, 65535, "22", "8080"],
    "src_port": [*_NUMBERS, 22, "80"],
    "src_ip": [*ADDRESSES, "10.0.0.255", "10.0.1.10", "8.8.8.8", "192.168.1.1", "fe80::1"],
    "client_ip": ADDRESSES,
    "score": _NUMBERS,
    "load": _NUMBERS,
    "round": [1, 2, 5, 7, 30, 31, -1],
}
_CLIENT: dict[str, list[Any]] = {
    "region": STRINGS,
    "rank": [*_NUMBERS, {"deep": 2}],
    "bound": [1, 2],
}
_ODD: list[Any] = [
    None,
    "abc",
    "007",
    65536,
    -1,
    True,
    8080.0,
    "",
    "1.2.3",
    "fe80::1%eth0",
    "10.0.0.0/8",
    2**63,
    -(2**63) - 1,
    2**63 - 1,
    [],
    {},
    [None],
    ["x", [1]],
    {"deep": [2**70]},
]


def _value(random: Random, usual: list[Any]) -> Any:
    form = random.random()
    if form < 0.07:
        return random.choice(_ODD)
    if form < 0.12:
        return [random.choice([*usual, *_ODD]) for _ in range(random.randint(1, 3))]
    return random.choice(usual)
