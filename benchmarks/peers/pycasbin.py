"""pycasbin, in Python.

`FastEnforcer` keeps its rules in a dictionary by the columns that a request has to equal, and only the rules of that
bucket meet the matcher; the plain `Enforcer` tries all rules and is over thirty times slower at 1,000. Casbin's values
are texts, so ports and addresses are decimal numbers of ten digits, which compare as texts do. Limits are a function of
the matcher (`add_function`) with every rule's comparisons parsed beforehand: the `eval()` of Casbin's own
attribute-based models parses them again on every request.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

import casbin
from casbin.model import FastModel

from benchmarks.peers.peer import Peer
from benchmarks.workloads import COMPARE, NetworkRule, ThresholdRule

_MODEL = """
[request_definition]
r = {request}
[policy_definition]
p = {policy}, eft
[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))
[matchers]
m = {matcher}
"""
_FLOWS = _MODEL.format(
    request="s, d, q, port, ip",
    policy="s, d, q, lo, hi, a, z",
    matcher="r.port >= p.lo && r.port <= p.hi && r.ip >= p.a && r.ip <= p.z && r.s == p.s && r.d == p.d && r.q == p.q",
)
_LIMITS = _MODEL.format(
    request="kind, op, metrics", policy="kind, op, rule", matcher="meets(r.metrics, p.rule) && r.op == p.op"
)


def network(rules: Sequence[NetworkRule]) -> Peer:
    enforcer = _enforcer(_FLOWS, equal=[0, 1, 2])
    enforcer.add_policies([_flow(rule) for rule in rules])

    def prepare(request: dict[str, Any]) -> list[str]:
        address = _digits(int(ipaddress.ip_address(request["src_ip"])))
        return [request["src_type"], request["dst_type"], request["protocol"], _digits(request["dst_port"]), address]

    return Peer("pycasbin", lambda request: bool(enforcer.enforce(*request)), prepare)


def threshold(rules: Sequence[ThresholdRule]) -> Peer:
    limits = {
        str(number): [(limit.metric, COMPARE[limit.operator], limit.value) for limit in rule.limits]
        for number, rule in enumerate(rules)
    }

    def meets(metrics: dict[str, float], rule: str) -> bool:
        return all(holds(metrics[metric], value) for metric, holds, value in limits[rule])

    enforcer = _enforcer(_LIMITS, equal=[0, 1])
    enforcer.add_function("meets", meets)
    rows = [["limits", rule.operation, str(number), _effect(rule.action)] for number, rule in enumerate(rules)]
    enforcer.add_policies(rows)
    return Peer(
        "pycasbin",
        lambda request: bool(enforcer.enforce(*request)),
        lambda request: ["limits", request["operation"], request],
    )


def _enforcer(text: str, equal: list[int]) -> Any:
    """Return an enforcer whose rules are kept by the columns that have to be equal."""
    model = FastModel(equal)
    model.load_model_from_text(text)
    return casbin.FastEnforcer(model, cache_key_order=equal)


def _flow(rule: NetworkRule) -> list[str]:
    network = ipaddress.ip_network(rule.network or "0.0.0.0/0")
    numbers = [*rule.ports, int(network[0]), int(network[-1])]
    return [rule.source, rule.target, rule.protocol, *map(_digits, numbers), _effect(rule.action)]


def _effect(action: str) -> str:
    return "deny" if action == "deny" else "allow"


def _digits(number: int) -> str:
    return f"{number:010d}"
