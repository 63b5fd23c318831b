"""cedarpy: Amazon's Cedar, in Rust.

Policies and (no) entities are parsed once into handles, as its documentation asks for. What can stand in the scope of a
policy (principal, action, resource) does, as Cedar tests that first; the rest is in `when`. Requests come as structured
ids and a context that is JSON text already, which spares it a `json.dumps`. There is no schema: it would only add a
validation. Cedar has no floating-point numbers, so metrics are thousandths.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import cedarpy

from benchmarks.peers.peer import Peer, Prepare
from benchmarks.workloads import NetworkRule, ThresholdRule


def network(rules: Sequence[NetworkRule]) -> Peer:
    def prepare(request: dict[str, Any]) -> dict[str, Any]:
        address = {"__extn": {"fn": "ip", "arg": request["src_ip"]}}
        context = {"port": request["dst_port"], "ip": address}
        return _request(
            ("Source", request["src_type"]), ("Action", request["protocol"]), ("Target", request["dst_type"]), context
        )

    return _peer(map(_flow, rules), prepare)


def threshold(rules: Sequence[ThresholdRule]) -> Peer:
    def prepare(request: dict[str, Any]) -> dict[str, Any]:
        context = {name: _thousandths(value) for name, value in request.items() if name != "operation"}
        return _request(("Client", "c"), ("Action", request["operation"]), ("Model", "m"), context)

    return _peer(map(_limit, rules), prepare)


def _peer(policies: Iterable[str], prepare: Prepare) -> Peer:
    parsed = cedarpy.PolicySet.from_str("\n".join(policies))
    entities = cedarpy.Entities.from_json_str("[]")
    return Peer("cedarpy", lambda request: bool(cedarpy.is_authorized(request, parsed, entities).allowed), prepare)


def _request(
    principal: tuple[str, str], action: tuple[str, str], resource: tuple[str, str], context: dict[str, Any]
) -> dict[str, Any]:
    names = {"principal": principal, "action": action, "resource": resource}
    ids = {name: {"type": kind, "id": own} for name, (kind, own) in names.items()}
    return {**ids, "context": json.dumps(context)}


def _thousandths(value: float) -> int:
    return round(value * 1000)


def _flow(rule: NetworkRule) -> str:
    low, high = rule.ports
    tests = [f"context.port >= {low}", f"context.port <= {high}"] if low < high else [f"context.port == {low}"]
    if rule.network:
        tests.append(f'context.ip.isInRange(ip("{rule.network}"))')
    principal, resource = f'principal == Source::"{rule.source}"', f'resource == Target::"{rule.target}"'
    return _policy(rule.action, f'{principal}, action == Action::"{rule.protocol}", {resource}', tests)


def _limit(rule: ThresholdRule) -> str:
    tests = [f"context.{limit.metric} {limit.operator} {_thousandths(limit.value)}" for limit in rule.limits]
    return _policy(rule.action, f'principal, action == Action::"{rule.operation}", resource', tests)


def _policy(action: str, scope: str, tests: Sequence[str]) -> str:
    effect = "forbid" if action == "deny" else "permit"
    return f"{effect}({scope}) when {{ {' && '.join(tests)} }};"
