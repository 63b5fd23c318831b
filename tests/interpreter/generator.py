"""Random policy documents, and random requests that come close to what the documents say."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

from tests.interpreter.interpreter import ACTIONS

TYPES = (
    "network_security",
    "fl_security",
    "security",
    "fl_client_training",
    "custom_first",
    "custom_overrides",
    "undeclared",
)
ADDRESSES = ("10.0.0.0", "10.0.0.1", "10.0.0.9", "10.1.0.7", "192.168.1.1", "fd00::1", "fd00::ff", "2001:db8::5")
NEARBY = ("9.255.255.255", "10.0.0.10", "10.2.0.0", "::ffff:10.0.0.1", "FD00::1", "fcff::1", "::1", "2001:db8::6")
BAD_ADDRESSES: tuple[Any, ...] = (
    "10.0.0.01",
    "10.0.0",
    "fd00::1%eth0",
    "10.0.0.0/8",
    " 10.0.0.1",
    "",
    "any",
    167772161,
    True,
    {},
    1.5,
)
BLOCKS = (
    "10.0.0.0/8",
    "10.0.0.0/30",
    "10.0.0.1-10.0.0.9",
    "10.0.0.9 - 10.1.0.7",
    "fd00::/8",
    "fd00::1-fd00::ff",
    "2001:db8::/32",
    "::ffff:10.0.0.0/104",
    "0.0.0.0/0",
    "::/0",
    "10.0.0.1, fd00::/16",
    "::ffff:10.0.0.9",
)
PORTS = (0, 22, 80, 81, 443, 1024, 8080, 65535)
PORT_RANGES = ("22-79,81-8079", "80", "443-443", "0-1023", "1024-65535", "22, 80-81", "8080-8081,443")
BAD_PORTS: tuple[Any, ...] = (-1, 65536, "080", "", "x", " 80", "80.0", 80.0, True, False, {}, 2**70, "65536", "\u0664")
PROTOCOLS = ("tcp", "udp", "TCP", "icmp", "Udp")
WORDS = ("eu", "us", "train", "evaluate", "admin", "eu-west", "1", "true", "")
SCALARS = (*WORDS, 0, 1, 2, 5, 1.0, 0.5, 2.5, True, False)
INTEGERS = (0, 1, 2, 5, 10, -3)
DOUBLES = (0.0, 0.3, 0.5, 0.9, 5.0, -1.5)
ODD: tuple[Any, ...] = (
    None,
    "1",
    "5",
    True,
    [],
    {},
    [1],
    2**63,
    -(2**63) - 1,
    2**63 - 1,
    "x",
    1e300,
    {"x": 2**64},
    [2**65],
    "007",
)

PORT_KEYS = ("dst_port", "src_port", "port", "flow.port", "flow.peer_port")
ADDRESS_KEYS = ("src_ip", "dst_ip", "ip", "flow.node_ip")
PROTOCOL_KEYS = ("protocol", "protocol", "flow.protocol")
OTHER_KEYS = (
    "operation",
    "stage",
    "client.region",
    "client.tier",
    "verified",
    "level",
    "src_type",
    "dst_type",
    "current_hour",
    "current_day_of_week",
    "client.sub.x",
    "client",
)
SPELLINGS = {
    "src_ip": ("source_ip",),
    "src_port": ("source_port",),
    "src_type": ("source_type",),
    "dst_ip": ("destination_ip", "dest_ip"),
    "dst_port": ("destination_port", "dest_port"),
    "dst_type": ("destination_type", "dest_type"),
}
INT_NAMES = ("rounds", "client.tier", "level", "dst_port", "current_hour", "destination_port", "active", "client.sub.x")
DOUBLE_NAMES = ("accuracy", "load", "client.trust", "threat", "current_timestamp")
STRING_NAMES = ("operation", "stage", "client.region", "protocol", "src_type", "source_ip")
BOOL_NAMES = ("verified", "client.active", "urgent")
HAS_PATHS = (
    "client.region",
    "client.tier",
    "client.nothing",
    "client.sub.x",
    "client.sub.y",
    "flow.port",
    "bounds.low",
    "bounds.high",
)
LIST_NAMES = ("labels", "scores")
CONTEXT_NAMES = {
    *INT_NAMES,
    *DOUBLE_NAMES,
    *STRING_NAMES,
    *BOOL_NAMES,
    *LIST_NAMES,
    *PORT_KEYS,
    *ADDRESS_KEYS,
    *PROTOCOL_KEYS,
    *OTHER_KEYS,
} - {"destination_port", "source_ip", "client"}
PARAMETERS = ("limit", "rate", "mode", "bounds", "level", "kbps", "client")
BOUNDARIES = (2**53, 2**53 + 1, 2.0**53, 2**63 - 1, -(2**63), 2.0**63)


def broken(_: dict[str, Any]) -> Any:
    raise ValueError("broken")


def by_rank(context: dict[str, Any]) -> Any:
    return {"allowed": context.get("rounds") in (1, 2, 5), "reason": f"rank {context.get('rounds')}"}


FUNCTIONS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "yes": lambda _: {"allowed": True, "parameters": {"limit": 7, "said": "yes"}},
    "no": lambda _: {"allowed": False, "reason": "not today", "parameters": {"limit": 8}},
    "by_rank": by_rank,
    "by_hour": lambda context: {"allowed": context["current_hour"] < 12},
    "broken": broken,
    "vague": lambda _: {"allowed": 1},
}


def chance(rng: random.Random, probability: float) -> bool:
    return rng.random() < probability


# --- conditions


def integer(rng: random.Random, depth: int) -> str:
    roll = rng.random()
    if (depth > 0 or chance(rng, 0.3)) and roll < 0.2:
        operator = rng.choice("+-*//%")
        return f"({integer(rng, depth - 1)} {operator} {integer(rng, depth - 1)})"
    if roll < 0.25:
        return f"size({rng.choice((*LIST_NAMES, *STRING_NAMES))})"
    if roll < 0.28:
        return f"int({rng.choice((*DOUBLE_NAMES, 'stage', 'operation', 'rounds'))})"
    if roll < 0.34:
        return rng.choice(("limit", "bounds.low", "bounds.high"))
    if roll < 0.36:
        return f"{rng.choice(LIST_NAMES)}[{rng.choice((0, 1, 2, 'rounds', repr('eu'), repr('us')))}]"
    if roll < 0.38:
        return f"-{rng.choice(INT_NAMES)}"
    if roll < 0.7:
        return rng.choice(INT_NAMES)
    return str(rng.choice((*INTEGERS, 9223372036854775807)) if chance(rng, 0.1) else abs(rng.choice(INTEGERS)))


def double(rng: random.Random, depth: int) -> str:
    roll = rng.random()
    if (depth > 0 or chance(rng, 0.3)) and roll < 0.2:
        return f"({double(rng, depth - 1)} {rng.choice('+-*/')} {double(rng, depth - 1)})"
    if roll < 0.25:
        return f"double({rng.choice((*INT_NAMES, 'stage', 'operation'))})"
    if roll < 0.3:
        return "rate"
    if roll < 0.7:
        return rng.choice(DOUBLE_NAMES)
    return str(rng.choice(DOUBLES))


def text(rng: random.Random) -> str:
    roll = rng.random()
    if roll < 0.5:
        return rng.choice(STRING_NAMES)
    if roll < 0.6:
        return "mode"
    if roll < 0.65:
        return f"({rng.choice(STRING_NAMES)} + '-west')"
    return repr(rng.choice(WORDS))


def comparison(rng: random.Random) -> str:
    """A threshold on one of few attributes: what an index would be made of."""
    operator = rng.choice(("<", "<=", ">", ">=", "==", "!="))
    if chance(rng, 0.05):
        return f"{rng.choice(BOOL_NAMES)} {operator} {rng.choice((*BOOL_NAMES, 'true', 'false'))}"
    if chance(rng, 0.06):
        parameter = rng.choice(("limit", "rate", "mode", "level", "bounds.low", "client.tier"))
        return f"{parameter} {operator} {rng.choice((*STRING_NAMES, *INT_NAMES, *DOUBLE_NAMES))}"
    if chance(rng, 0.15):
        return f"{rng.choice(STRING_NAMES)} {rng.choice(('==', '!='))} {rng.choice(WORDS)!r}"
    if chance(rng, 0.5):
        sides = [rng.choice(INT_NAMES), str(rng.choice((*INTEGERS, 5.0, 0.5)))]
        if chance(rng, 0.04):
            sides[1] = rng.choice(("9007199254740993", "9007199254740992.0", "9223372036854775807", "1e300"))
    else:
        sides = [rng.choice(DOUBLE_NAMES), str(rng.choice((*DOUBLES, 1, 0)))]
    if chance(rng, 0.15):
        sides[1] = rng.choice(("limit", "rate", "bounds.low", "bounds.high"))
    if chance(rng, 0.2):
        sides.reverse()
    return f"{sides[0]} {operator} {sides[1]}"


def membership(rng: random.Random) -> str:
    roll = rng.random()
    if roll < 0.3:
        return f"{rng.choice(STRING_NAMES)} in [{', '.join(repr(word) for word in rng.sample(WORDS, 3))}]"
    if roll < 0.6:
        return f"{rng.choice(INT_NAMES)} in [{', '.join(str(rng.choice((*PORTS, *INTEGERS))) for _ in range(3))}]"
    if roll < 0.8:
        return f"{rng.choice(('1', '0.5', repr('eu'), 'rounds', 'stage'))} in {rng.choice(LIST_NAMES)}"
    return f"'{rng.choice(('region', 'tier', 'x'))}' in client"


def atom(rng: random.Random, depth: int) -> str:
    roll = rng.random()
    if roll < 0.4:
        return comparison(rng)
    operator = rng.choice(("<", "<=", ">", ">=", "==", "!="))
    if roll < 0.5:
        return f"{integer(rng, depth)} {operator} {integer(rng, depth)}"
    if roll < 0.58:
        return f"{double(rng, depth)} {operator} {double(rng, depth)}"
    if roll < 0.68:
        return f"{text(rng)} {operator} {text(rng)}"
    if roll < 0.76:
        return membership(rng)
    if roll < 0.82:
        receiver = rng.choice(STRING_NAMES)
        return f"{receiver}.{rng.choice(('startsWith', 'endsWith', 'contains'))}({text(rng)})"
    if roll < 0.87:
        return f"has({rng.choice(HAS_PATHS)})"
    if roll < 0.9:
        names = (*STRING_NAMES, *INT_NAMES, *BOOL_NAMES, "client", "labels")
        return f"{rng.choice(names)} {rng.choice(('==', '!='))} {rng.choice((*names, 'null', 'true', '[1]'))}"
    if roll < 0.92:
        return rng.choice((*STRING_NAMES, *INT_NAMES))
    return rng.choice(BOOL_NAMES)


def expression(rng: random.Random, depth: int) -> str:
    roll = rng.random()
    if depth <= 0 or roll < 0.35:
        return atom(rng, depth)
    if roll < 0.65:
        operator = rng.choice((" && ", " AND "))
        return operator.join(operand(rng, depth - 1) for _ in range(rng.choice((2, 2, 3))))
    if roll < 0.8:
        operator = rng.choice((" || ", " OR "))
        return operator.join(operand(rng, depth - 1) for _ in range(rng.choice((2, 2, 3))))
    if roll < 0.92:
        return f"{rng.choice(('!', 'NOT '))}({expression(rng, depth - 1)})"
    return f"{operand(rng, depth - 1)} ? {operand(rng, depth - 1)} : {operand(rng, depth - 1)}"


def operand(rng: random.Random, depth: int) -> str:
    return f"({expression(rng, depth)})" if depth > 0 or chance(rng, 0.5) else comparison(rng)


def condition(rng: random.Random) -> str:
    roll = rng.random()
    if roll < 0.35:
        return comparison(rng)
    if roll < 0.55:
        return " && ".join(comparison(rng) for _ in range(rng.choice((2, 3))))
    return expression(rng, rng.choice((0, 1, 2, 2)))


# --- documents


def port_value(rng: random.Random) -> Any:
    return rng.choice((rng.choice(PORTS), rng.choice(PORTS), str(rng.choice(PORTS)), rng.choice(PORT_RANGES)))


def address_value(rng: random.Random) -> Any:
    return rng.choice((rng.choice(ADDRESSES), rng.choice(BLOCKS)))


def other_value(rng: random.Random, key: str) -> Any:
    if key.startswith("current_"):
        return rng.choice((0, 1, 2, 5, 12))
    if key.endswith("_type"):
        return rng.choice(("fl-client", "fl-server", "eu"))
    return rng.choice(SCALARS)


def several(rng: random.Random, draw: Callable[[], Any]) -> Any:
    """One value, a list, or a wildcard."""
    roll = rng.random()
    if roll < 0.65:
        return draw()
    if roll < 0.92:
        return [draw() for _ in range(rng.choice((1, 2, 3)))]
    return rng.choice(("any", "all", "*", [draw(), "*"]))


def match_keys(rng: random.Random) -> dict[str, Any]:
    found: dict[str, Any] = {}
    taken: set[str] = set()
    for _ in range(rng.choice((0, 1, 1, 2, 2, 3))):
        roll = rng.random()
        if roll < 0.28:
            key = rng.choice((*PORT_KEYS, "dst_port", "dst_port"))
            value = several(rng, lambda: port_value(rng))
        elif roll < 0.5:
            key = rng.choice((*ADDRESS_KEYS, "src_ip"))
            value = several(rng, lambda: address_value(rng))
        elif roll < 0.65:
            key = rng.choice(PROTOCOL_KEYS)
            value = several(rng, lambda: rng.choice(PROTOCOLS))
        else:
            key = rng.choice(OTHER_KEYS)
            value = several(rng, partial(other_value, rng, key))
        if key.endswith(("_port", "_ip")) and chance(rng, 0.3):
            key += "_range"
        if key in taken:
            continue
        taken.add(key)
        found[rng.choice(SPELLINGS[key]) if key in SPELLINGS and chance(rng, 0.2) else key] = value
    return found


def rule_parameters(rng: random.Random) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in rng.sample(PARAMETERS, rng.choice((0, 1, 2, 3))):
        if name == "bounds":
            found[name] = {"low": rng.choice(INTEGERS), "high": rng.choice(DOUBLES)}
            if chance(rng, 0.3):
                del found[name]["high"]
        elif name == "client":
            found[name] = rng.choice(({"tier": rng.choice(INTEGERS)}, {"region": "eu", "sub": {"x": 1}}, {"sub": {}}))
        elif name == "rate":
            found[name] = rng.choice(DOUBLES)
        elif name == "mode":
            found[name] = rng.choice(WORDS)
        else:
            found[name] = rng.choice(INTEGERS)
    return found


def rule(rng: random.Random) -> dict[str, Any]:
    effect = rng.choice(("allow", "allow", "deny", "deny", "duty", "restrictive", "observe"))
    words = [word for verb, others in ACTIONS[effect].items() for word in (verb, *others.split())]
    found: dict[str, Any] = {"action": rng.choice(words)}
    if chance(rng, 0.04):
        return found
    keys = match_keys(rng)
    if chance(rng, 0.3):
        keys["condition"] = condition(rng)
    if keys or chance(rng, 0.5):
        found["match"] = keys
    if chance(rng, 0.3):
        found["condition"] = condition(rng)
    if chance(rng, 0.5):
        found["parameters"] = rule_parameters(rng) if chance(rng, 0.9) else None
    if chance(rng, 0.4):
        found["description"] = rng.choice(("what for", "", "because"))
    if chance(rng, 0.3):
        found["severity"] = rng.choice(("low", "medium", "high", "critical"))
    if chance(rng, 0.3):
        found["on_missing"] = rng.choice(("skip", "skip", "error"))
    return found


def themed_rule(rng: random.Random, theme: int) -> dict[str, Any]:
    """A rule like its many neighbours: the same attributes, other values."""
    effect = rng.choice(("allow", "deny", "duty", "restrictive", "observe"))
    found: dict[str, Any] = {"action": rng.choice(list(ACTIONS[effect])), "match": {}}
    low, number = rng.randint(0, 60), rng.randint(0, 40)
    if theme == 0:
        found["match"]["dst_port"] = f"{low}-{low + rng.choice((0, 1, 20))}"
        found["match"]["protocol"] = rng.choice(PROTOCOLS)
    elif theme == 1:
        found["match"]["src_ip"] = rng.choice((f"10.0.0.{low}-10.0.0.{low + 9}", f"10.0.{low % 3}.0/24", "fd00::/8"))
    elif theme == 2:
        found["condition"] = f"rounds {rng.choice(('<', '<=', '>', '>=', '=='))} {number} && accuracy < {number / 20}"
        found["on_missing"] = rng.choice(("skip", "error"))
    elif theme == 3:
        found["match"]["operation"] = several(rng, lambda: rng.choice(WORDS))
        found["condition"] = f"{number / 20} {rng.choice(('<', '<=', '>', '>='))} accuracy"
    else:
        found["condition"] = f"rounds {rng.choice(('<', '>='))} limit"
        found["parameters"] = {"limit": rng.choice((number, number / 2)), "kbps": number}
    if chance(rng, 0.15):
        found["match"] |= {key: value for key, value in match_keys(rng).items() if key in OTHER_KEYS}
    return found


def policy(rng: random.Random, policy_type: str, rules: int) -> dict[str, Any]:
    found: dict[str, Any] = {"type": policy_type}
    if chance(rng, 0.7):
        found["priority"] = rng.choice((0, 50, 100, 100, 200, 1000))
    if chance(rng, 0.4):
        found["name"] = rng.choice(("the first", "twin", "b", ""))
    if chance(rng, 0.1):
        found["enabled"] = False
    if chance(rng, 0.2):
        found["mode"] = rng.choice(("shadow", "shadow", "enforce"))
    if chance(rng, 0.07):
        return {**found, "function_id": rng.choice((*FUNCTIONS, "yes", "by_hour", "nowhere"))}
    if chance(rng, 0.01):
        return {**found, "function_code": "def evaluate_policy(context): return True"}
    theme = rng.choice((0, 1, 2, 3, 4, None))
    if rules < 20 or theme is None:
        return {**found, "rules": [rule(rng) for _ in range(rules)]}
    return {**found, "rules": [themed_rule(rng, theme) for _ in range(rules)]}


def type_fields(rng: random.Random) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if chance(rng, 0.3):
        found["default"] = rng.choice(("allow", "deny"))
    if chance(rng, 0.2):
        found["combining"] = rng.choice(("first-applicable", "deny-overrides"))
    if chance(rng, 0.3):
        found["on_missing"] = rng.choice(("skip", "error"))
    if chance(rng, 0.35):
        found["required"] = rng.sample(
            ("protocol", "client.region", "source_ip", "operation", "current_hour"), rng.choice((0, 1, 1, 2))
        )
    if chance(rng, 0.5):
        known = {
            **dict.fromkeys((*DOUBLE_NAMES, "rounds"), "double"),
            **dict.fromkeys(("active", "client.tier", "destination_port"), "int"),
            **dict.fromkeys(("operation", "client.region", "source_ip"), "string"),
            "verified": "bool",
            "labels": "list",
            "client": "map",
            "stage": "any",
        }
        found["attributes"] = {name: known[name] for name in rng.sample(sorted(known), rng.choice((1, 3, 5)))}
    return found


def types(rng: random.Random) -> dict[str, Any]:
    found: dict[str, Any] = {
        "custom_first": {"combining": "first-applicable", "default": rng.choice(("allow", "deny"))},
        "custom_overrides": {"combining": "deny-overrides"},
    }
    for name in ("custom_first", "custom_overrides", "security", "network_security"):
        if name in found or chance(rng, 0.35):
            found[name] = {**found.get(name, {}), **type_fields(rng)}
    if chance(rng, 0.25):
        found["*"] = type_fields(rng)
    return found


def policy_document(rng: random.Random) -> dict[str, Any]:
    """A document whose form is right; a condition in it may be one that can never have a value."""
    common = rng.choice(TYPES)
    large = chance(rng, 0.05)
    policies = {}
    for number in range(rng.randint(1, 6)):
        name = rng.choice(("p", "P", "a-", "z.")) + str(number)
        rules = rng.randint(60, 200) if large and not number else rng.choice((0, *range(1, 9), *range(1, 9)))
        policies[name] = policy(rng, common if chance(rng, 0.75) else rng.choice(TYPES), rules)
    document: dict[str, Any] = {"policies": policies}
    if chance(rng, 0.5):
        document["policies"] = [{"id": name, **fields} for name, fields in policies.items()]
    if chance(rng, 0.8):
        document["types"] = types(rng)
    if chance(rng, 0.3):
        document["version"] = rng.choice((1, 2))
    return document


# --- requests


def near(rng: random.Random, value: Any) -> Any:
    """A value of a request that the value of a match key may hold for."""
    value = rng.choice(value) if isinstance(value, list) else value
    if isinstance(value, str) and value[:1].isalnum() and any(mark in value for mark in ",-/") and value[0] != "e":
        part = rng.choice(value.split(","))
        value = rng.choice(part.split("-")).strip().partition("/")[0]
        if value.isdigit():
            value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and chance(rng, 0.2):
        return value + rng.choice((-1, 1))
    return value


def any_value(rng: random.Random, name: str) -> Any:
    last = name.rsplit(".", maxsplit=1)[-1]
    if chance(rng, 0.04):
        return rng.choice((*ODD, *BOUNDARIES))
    if chance(rng, 0.2) and name in ("rounds", "accuracy", "dst_port", "src_ip"):
        number = rng.randint(-1, 62)
        return {
            "rounds": number,
            "accuracy": number / 20,
            "dst_port": number,
            "src_ip": f"10.0.{number % 4}.{number + 1}",
        }[name]
    if last.endswith("port"):
        return rng.choice((rng.choice(PORTS), str(rng.choice(PORTS)), rng.choice(PORTS) + 1, rng.choice(BAD_PORTS)))
    if last.endswith("ip"):
        pool = rng.choice((ADDRESSES, ADDRESSES, NEARBY, BAD_ADDRESSES))
        return rng.choice(pool)
    if last == "protocol":
        return rng.choice((*PROTOCOLS, "gre", 6, True, {}))
    if last.endswith("_type"):
        return rng.choice(("fl-client", "fl-server", "eu", 5))
    if name in LIST_NAMES:
        return rng.choice(([], [1, 2], [0.5, "eu"], ["eu", None], [[1]], "eu", {"eu": 1}))
    if name in BOOL_NAMES:
        return rng.choice((True, False, True, False, 1, "true"))
    if name in DOUBLE_NAMES:
        return rng.choice((*DOUBLES, 0, 1, 5, "0.5"))
    if name in INT_NAMES:
        number = rng.choice(INTEGERS)
        return rng.choice((number, number, number, number + 1, number - 1, float(number), str(number)))
    return rng.choice(SCALARS)


def as_list(rng: random.Random, name: str, value: Any) -> list[Any]:
    others: list[Any] = [
        rng.choice((None, [], any_value(rng, name), any_value(rng, name))) for _ in range(rng.choice((0, 1, 2)))
    ]
    elements = [value, *others] if chance(rng, 0.8) else others
    rng.shuffle(elements)
    return elements


def put(context: dict[str, Any], path: str, value: Any) -> None:
    *outer, last = path.split(".")
    for segment in outer:
        inner = context.setdefault(segment, {})
        if not isinstance(inner, dict):
            return
        context = inner
    context[last] = value


def wanted_values(rng: random.Random, policy_type: str, document: dict[str, Any]) -> dict[str, Any]:
    """Values that hold for the match keys of one rule of the type."""
    policies = document["policies"].values() if isinstance(document["policies"], dict) else document["policies"]
    rules = [rule for policy in policies if policy["type"] == policy_type for rule in policy.get("rules", [])]
    if not rules:
        return {}
    keys = rng.choice(rules).get("match", {})
    names = {other: name for name, others in SPELLINGS.items() for other in others}
    found = {}
    for key, value in keys.items():
        attribute = key.removesuffix("_range")
        if key != "condition":
            found[names.get(attribute, attribute)] = near(rng, value)
    return found


def spoilt(rng: random.Random, context: dict[str, Any]) -> Any:
    """A context that may be one that cannot be normalised."""
    roll = rng.random()
    if roll < 0.1:
        return rng.choice(([], None, "x", 5))
    if roll < 0.4:
        return {
            **context,
            rng.choice(("labels", "extra")): rng.choice(([{"a.b": 1}], {"x": {"a.": 1}}, {"": {"y": []}})),
        }
    if roll < 0.5:
        return {**context, "client.region": "eu"}
    if roll < 0.7:
        deep: Any = 1
        for _ in range(rng.choice((30, 31, 32))):
            deep = [deep] if chance(rng, 0.5) else {"a": deep}
        return {**context, "extra": deep}
    name = rng.choice(sorted(SPELLINGS))
    value = any_value(rng, name)
    return {**context, name: value, rng.choice(SPELLINGS[name]): rng.choice((value, any_value(rng, name)))}


def values_of(rng: random.Random, policy_type: str, document: dict[str, Any]) -> dict[str, Any]:
    """Values by attribute, some of them lists or null."""
    values = {name: any_value(rng, name) for name in sorted(CONTEXT_NAMES) if chance(rng, 0.6)}
    if chance(rng, 0.8):
        values["protocol"] = rng.choice(PROTOCOLS)
    if chance(rng, 0.8):
        values.update(wanted_values(rng, policy_type, document))
    for name in list(values):
        roll = rng.random()
        if roll < 0.06:
            del values[name]
        elif roll < 0.09:
            values[name] = None
        elif roll < 0.17:
            values[name] = as_list(rng, name, values[name])
    return values


def context_of(rng: random.Random, values: dict[str, Any]) -> dict[str, Any]:
    context: dict[str, Any] = {}
    for name, value in values.items():
        put(context, name, value)
    if chance(rng, 0.03):
        context[rng.choice(("client", "flow"))] = rng.choice((None, 5, "x", [], {}))
    for name in ("limit", "rate", "mode", "bounds", "kbps"):
        if chance(rng, 0.2):
            context[name] = rng.choice((1, 5, 0.5, "eu", {"low": 1, "high": 0.5}, {"low": "x"}))
    for name in [name for name in context if name in SPELLINGS and chance(rng, 0.2)]:
        context[rng.choice(SPELLINGS[name])] = context.pop(name) if chance(rng, 0.8) else context[name]
    return context


def facts_of(rng: random.Random) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "current_hour": rng.choice((0, 1, 2, 5, 12, 23)),
        "current_minute": rng.randint(0, 59),
        "current_day_of_week": rng.randint(0, 6),
        "current_timestamp": 1700000000.5,
    }
    if chance(rng, 0.03):
        facts.clear()
    for name in ("src_type", "dst_type"):
        if chance(rng, 0.3):
            facts[name] = rng.choice(("fl-client", "fl-server"))
    return facts


def request(rng: random.Random, document: dict[str, Any]) -> tuple[str, Any, dict[str, Any]]:
    """A type, a context and facts."""
    policies = document["policies"].values() if isinstance(document["policies"], dict) else document["policies"]
    policy_type = rng.choice([policy["type"] for policy in policies])
    if chance(rng, 0.05):
        policy_type = rng.choice((*TYPES, "nothing", "*"))
    context = context_of(rng, values_of(rng, policy_type, document))
    return policy_type, spoilt(rng, context) if chance(rng, 0.05) else context, facts_of(rng)
