"""datalogic-py: JSON Logic, in Rust.

One compiled rule over all rules, "no deny holds and some allow does", evaluated in a session, which reuses its memory.
Within a rule the test that rules out most comes first; JSON Logic stops at the first that fails. JSON Logic has no
addresses, so they are handed over as numbers. Its other ways in (JSON text, data handles) are not faster
by more than a few per cent.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from typing import Any

import datalogic_py

from benchmarks.peers.peer import Peer, Prepare
from benchmarks.workloads import NetworkRule, ThresholdRule


def network(rules: Sequence[NetworkRule]) -> Peer:
    def prepare(request: dict[str, Any]) -> dict[str, Any]:
        return {**request, "src": int(ipaddress.ip_address(request["src_ip"]))}

    return _peer(rules, _flow, prepare)


def threshold(rules: Sequence[ThresholdRule]) -> Peer:
    return _peer(rules, _limit, lambda request: request)


def _peer(rules: Sequence[Any], test: Callable[[Any], dict[str, Any]], prepare: Prepare) -> Peer:
    denies = [test(rule) for rule in rules if rule.action == "deny"]
    allows = [test(rule) for rule in rules if rule.action != "deny"]
    some_deny: Any = {"or": denies} if denies else False
    engine = datalogic_py.Engine()
    rule = engine.compile({"and": [{"!": some_deny}, {"or": allows}]})
    session = engine.session()
    return Peer("datalogic-py", lambda request: bool(session.evaluate(rule, request)), prepare)


def _flow(rule: NetworkRule) -> dict[str, Any]:
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


def _limit(rule: ThresholdRule) -> dict[str, Any]:
    limits = [{limit.operator: [{"var": limit.metric}, limit.value]} for limit in rule.limits]
    return {"and": [{"==": [{"var": "operation"}, rule.operation]}, *limits]}
