"""Random policies of one type and random requests for them, with the odd values in both."""

from __future__ import annotations

import random
from typing import Any

from policy_engine.engine.context import normalise
from policy_engine.engine.program import Program, TypeProgram, compile_program
from policy_engine.language.document import read_document

TYPE = "kind"
ATTRIBUTES = {"level": "double", "count": "int", "any_number": "any"}

_ACTIONS = ("allow", "deny", "block", "configure", "throttle", "monitor")
_NUMBERS = ("level", "count", "any_number", "free", "client.score", "current_hour", "src_port")
_CONSTANTS = (0, 1, -1, 2.5, 0.1, 100, 1e30, -1e30, 2**53, "9223372036854775807", "-9223372036854775808")
_ODD: tuple[Any, ...] = (
    *(
        0,
        1,
        -1,
        2,
        0.1,
        2.5,
        99.999,
        100,
        101,
        1e30,
        -1e300,
        2**53 + 1,
        2**63 - 1,
        2**63,
        -(2**63),
        -(2**63) - 1,
        2**70,
    ),
    *(10**40, -(10**40), float("nan"), float("inf"), float("-inf"), -0.0, True, False, None, "", "1", "x", [], {}, [1]),
    {"a": 1},
)


def _port(drawn: random.Random) -> Any:
    low = drawn.choice((0, 1, 22, 80, 443, 8080, 65535))
    high = min(65535, low + drawn.choice((0, 1, 100, 60000)))
    return drawn.choice((low, str(low), f"{low}-{high}", [low, f"{low}-{high}"], f"{low},{low}-{high}", ["any", low]))


def _address(drawn: random.Random) -> Any:
    network = drawn.choice(("10.0.0.0/8", "10.1.0.0/16", "0.0.0.0/0", "::/0", "2001:db8::/32", "::ffff:10.0.0.0/104"))
    single = drawn.choice(("10.1.2.3", "255.255.255.255", "::", "2001:db8::1", "10.0.0.1-10.200.0.0", "*"))
    return drawn.choice((network, single, [network, single]))


_MATCH: dict[str, Any] = {
    "operation": lambda drawn: drawn.choice(("a", "b", ["a", "c"], "any", ["b", 1, True])),
    "flag": lambda drawn: drawn.choice((True, False, 1, 0, 1.5, [0, "x"], 2**53 - 1)),
    "protocol": lambda drawn: drawn.choice(("tcp", "UDP", ["tcp", "icmp"], "any")),
    "dst_port": _port,
    "dst_port_range": _port,
    "src_ip": _address,
    "src_ip_range": _address,
    "src_type": lambda drawn: drawn.choice(("fl-client", "fl-server", ["fl-client", "x"])),
    "client.region": lambda drawn: drawn.choice(("eu", ["eu", "us"], 7)),
}


def _comparison(drawn: random.Random) -> str:
    name, constant = drawn.choice(_NUMBERS), drawn.choice((*_CONSTANTS, drawn.randint(-200, 200), "bound"))
    operator = drawn.choice(("<", "<=", ">", ">=", "=="))
    return drawn.choice((f"{name} {operator} {constant}", f"{constant} {operator} {name}"))


def _condition(drawn: random.Random) -> str:
    kind = drawn.random()
    if kind < 0.55:
        return " && ".join(_comparison(drawn) for _ in range(drawn.randint(1, 3)))
    if kind < 0.7:
        return f"{_comparison(drawn)} || {_comparison(drawn)}"
    if kind < 0.8:
        return f"operation == 'a' && {_comparison(drawn)}"
    if kind < 0.9:
        return f"!({_comparison(drawn)})"
    return drawn.choice(("has(client.score)", "flag", "client.region in ['eu', 'us']", "free != 1", "free + 1 > 2"))


def _rule(drawn: random.Random) -> dict[str, Any]:
    keys = drawn.sample(sorted(_MATCH), drawn.choice((0, 1, 1, 2, 2, 3)))
    match: dict[str, Any] = {key: _MATCH[key](drawn) for key in keys}
    rule: dict[str, Any] = {"action": drawn.choice(_ACTIONS), "parameters": {"bound": drawn.choice((0, 1, 2.5, 50))}}
    if drawn.random() < 0.5:
        match["condition"] = _condition(drawn)
    if drawn.random() < 0.15:
        rule["condition"] = _condition(drawn)
    if drawn.random() < 0.2:
        rule["on_missing"] = "skip"
    if drawn.random() < 0.5:
        rule["parameters"][drawn.choice("xyz")] = drawn.randint(0, 9)
    if drawn.random() < 0.3:
        rule |= {"description": drawn.choice(("", "why")), "severity": drawn.choice(("low", "high"))}
    return {**rule, "match": match}


def document(drawn: random.Random) -> dict[str, Any]:
    """Return a document of a few policies, some in shadow mode, with 1 to 40 rules."""
    combining = drawn.choice(("first-applicable", "deny-overrides"))
    spec: dict[str, Any] = {
        "combining": combining,
        "default": drawn.choice(("allow", "deny")),
        "attributes": ATTRIBUTES,
    }
    if drawn.random() < 0.2:
        spec["on_missing"] = "skip"
    if drawn.random() < 0.1:
        spec["required"] = ["operation"]
    policies = {
        name: {
            "type": TYPE,
            "name": drawn.choice(("", f"the {name}")),
            "priority": drawn.choice((1, 2, 100)),
            "mode": "shadow" if drawn.random() < 0.1 else "enforce",
            "enabled": drawn.random() < 0.9,
            "rules": [_rule(drawn) for _ in range(drawn.randint(1, 10))],
        }
        for name in drawn.sample(("b", "a", "B", "a-1", "A.2", "z"), drawn.randint(1, 4))
    }
    return {"types": {TYPE: spec}, "policies": policies}


def program(drawn: random.Random) -> Program:
    """Return a random document, compiled."""
    return compile_program(read_document(document(drawn)).policy_set)


def _number(drawn: random.Random) -> Any:
    return drawn.choice((drawn.randint(-3, 110), drawn.uniform(-3, 110), drawn.choice(_ODD)))


_REQUEST: dict[str, Any] = {
    "operation": lambda drawn: drawn.choice(("a", "b", "c", "z", ["z", "a"], 1, True, None, {})),
    "flag": lambda drawn: drawn.choice((True, False, 1, 0, 1.0, 1.5, [1, True], 2**53, float("nan"), "x")),
    "protocol": lambda drawn: drawn.choice(("tcp", "TCP", "udp", "sctp", 6, ["x", "Udp"], [None], [])),
    "dst_port": lambda drawn: drawn.choice(
        (0, 22, 80, 81, 443, 8080, 65535, 65536, -1, "80", "080", "x", 80.0, True, [1, 22], [80, "x"], [], [[80]], None)
    ),
    "src_ip": lambda drawn: drawn.choice(
        (
            *("10.1.2.3", "10.255.0.1", "8.8.8.8", "255.255.255.255", "::", "::ffff:10.1.2.3", "2001:db8::1"),
            *("ten", 7, ["ten", "10.1.2.3"], ["8.8.8.8", "10.1.2.3"], [], None, "fe80::1%eth0"),
        )
    ),
    "src_type": lambda drawn: drawn.choice(("fl-client", "fl-server", 3, ["x"])),
    "client": lambda drawn: drawn.choice(
        ({"region": "eu"}, {"score": _number(drawn)}, {"score": 1, "region": 7}, 5, [])
    ),
    "bound": _number,
    **dict.fromkeys(("level", "count", "any_number", "free", "src_port", "current_hour"), _number),
}


def request(drawn: random.Random) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a context and facts."""
    keys = drawn.sample(sorted(_REQUEST), drawn.randint(0, len(_REQUEST)))
    context = normalise({key: _REQUEST[key](drawn) for key in keys})
    facts: dict[str, Any] = {"current_hour": drawn.randint(0, 23)} if drawn.random() < 0.8 else {}
    if drawn.random() < 0.2:
        facts["src_type"] = "fl-client"
    return context, facts


def types(compiled: Program) -> list[TypeProgram]:
    """Return the program of the type, with and without its shadow policies."""
    kind = compiled.types[TYPE]
    return [kind] if kind.shadow is None else [kind, kind.shadow]
