"""Other engines, each given the same rules in the fastest form it has a proper interface for.

- cedarpy: policies parsed once (`PolicySet`), types in the scope of each policy, the rest in `when`.
- datalogic-py: one compiled rule, "no deny matches and some allow does"; addresses are handed over as numbers, as JSON
  Logic has none.
- pycasbin: `Enforcer.enforce` with a matcher on the columns; the cheap tests stand first.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import casbin
import cedarpy
import datalogic_py

from benchmarks.workloads import NetworkRule, ThresholdRule

Decide: TypeAlias = Callable[[Any], bool]
"""From a prepared request to allow or deny."""
Prepare: TypeAlias = Callable[[dict[str, Any]], Any]


class Peer:
    """An engine with its rules loaded."""

    def __init__(self, name: str, decide: Decide, prepare: Prepare) -> None:
        self.name = name
        self.decide = decide
        self.prepare = prepare


def _number(address: str) -> int:
    return int(ipaddress.ip_address(address))


def cedar_network(rules: Sequence[NetworkRule]) -> Peer:
    policies = cedarpy.PolicySet.from_str("\n".join(_cedar_flow(rule) for rule in rules))
    entities = cedarpy.Entities.from_json_str("[]")

    def prepare(request: dict[str, Any]) -> dict[str, Any]:
        return {
            "principal": {"type": "Source", "id": request["src_type"]},
            "action": {"type": "Action", "id": request["protocol"]},
            "resource": {"type": "Target", "id": request["dst_type"]},
            "context": {"port": request["dst_port"], "ip": {"__extn": {"fn": "ip", "arg": request["src_ip"]}}},
        }

    return Peer("cedarpy", lambda request: bool(cedarpy.is_authorized(request, policies, entities).allowed), prepare)


def _cedar_flow(rule: NetworkRule) -> str:
    effect = "forbid" if rule.action == "deny" else "permit"
    low, high = rule.ports
    tests = [f"context.port >= {low}", f"context.port <= {high}"] if low < high else [f"context.port == {low}"]
    if rule.network:
        tests.append(f'context.ip.isInRange(ip("{rule.network}"))')
    principal, resource = f'principal == Source::"{rule.source}"', f'resource == Target::"{rule.target}"'
    scope = f'{principal}, action == Action::"{rule.protocol}", {resource}'
    return f"{effect}({scope}) when {{ {' && '.join(tests)} }};"


def cedar_threshold(rules: Sequence[ThresholdRule]) -> Peer:
    policies = cedarpy.PolicySet.from_str("\n".join(_cedar_limit(rule) for rule in rules))
    entities = cedarpy.Entities.from_json_str("[]")

    def prepare(request: dict[str, Any]) -> dict[str, Any]:
        metrics = {name: round(value * 1000) for name, value in request.items() if name != "operation"}
        return {
            "principal": {"type": "Client", "id": "c"},
            "action": {"type": "Action", "id": request["operation"]},
            "resource": {"type": "Model", "id": "m"},
            "context": metrics,
        }

    return Peer("cedarpy", lambda request: bool(cedarpy.is_authorized(request, policies, entities).allowed), prepare)


def _cedar_limit(rule: ThresholdRule) -> str:
    effect = "forbid" if rule.action == "deny" else "permit"
    tests = " && ".join(f"context.{name} >= {round(limit * 1000)}" for name, limit in rule.tests)
    return f'{effect}(principal, action == Action::"{rule.operation}", resource) when {{ {tests} }};'


def datalogic_network(rules: Sequence[NetworkRule]) -> Peer:
    def test(rule: NetworkRule) -> dict[str, Any]:
        low, high = rule.ports
        tests: list[dict[str, Any]] = [
            {"==": [{"var": "dst_type"}, rule.target]},
            {"==": [{"var": "src_type"}, rule.source]},
            {"==": [{"var": "protocol"}, rule.protocol]},
            {"<=": [low, {"var": "dst_port"}, high]},
        ]
        if rule.network:
            network = ipaddress.ip_network(rule.network)
            tests.append({"<=": [int(network[0]), {"var": "src"}, int(network[-1])]})
        return {"and": tests}

    def prepare(request: dict[str, Any]) -> dict[str, Any]:
        return {**request, "src": _number(request["src_ip"])}

    return _datalogic(rules, test, prepare)


def datalogic_threshold(rules: Sequence[ThresholdRule]) -> Peer:
    def test(rule: ThresholdRule) -> dict[str, Any]:
        limits = [{">=": [{"var": name}, limit]} for name, limit in rule.tests]
        return {"and": [{"==": [{"var": "operation"}, rule.operation]}, *limits]}

    return _datalogic(rules, test, lambda request: request)


def _datalogic(rules: Sequence[Any], test: Callable[[Any], dict[str, Any]], prepare: Prepare) -> Peer:
    denies = [test(rule) for rule in rules if rule.action == "deny"]
    allows = [test(rule) for rule in rules if rule.action != "deny"]
    some_deny: Any = {"or": denies} if denies else False
    rule = datalogic_py.Engine().compile({"and": [{"!": some_deny}, {"or": allows}]})
    return Peer("datalogic-py", lambda request: bool(rule.evaluate(request)), prepare)


_FLOW_MODEL = """
[request_definition]
r = s, d, q, port, ip
[policy_definition]
p = s, d, q, lo, hi, a, z, eft
[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))
[matchers]
m = r.d == p.d && r.s == p.s && r.q == p.q && r.port >= p.lo && r.port <= p.hi && r.ip >= p.a && r.ip <= p.z
"""


def casbin_network(rules: Sequence[NetworkRule]) -> Peer:
    model = casbin.Enforcer.new_model(text=_FLOW_MODEL)
    enforcer = casbin.Enforcer(model)
    rows = []
    for rule in rules:
        network = ipaddress.ip_network(rule.network or "0.0.0.0/0")
        numbers = [*rule.ports, int(network[0]), int(network[-1])]
        rows.append([rule.source, rule.target, rule.protocol, *(f"{number:010d}" for number in numbers), rule.action])
    enforcer.add_policies(rows)

    def prepare(request: dict[str, Any]) -> list[Any]:
        port, ip = f"{request['dst_port']:010d}", f"{_number(request['src_ip']):010d}"
        return [request["src_type"], request["dst_type"], request["protocol"], port, ip]

    return Peer("pycasbin", lambda request: bool(enforcer.enforce(*request)), prepare)
