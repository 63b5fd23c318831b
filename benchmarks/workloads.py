"""Rules and requests to measure with: seeded, and the same for every engine.

Among network rules denies stand before allows, so first-applicable (this engine's networks) and deny-overrides (what
the peers do) give the same answers. Threshold rules are of every action in any order, deny-overrides for all.
"""

from __future__ import annotations

import ipaddress
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

TYPES = [f"component-{number}" for number in range(20)]
OPERATIONS = [f"operation_{number}" for number in range(20)]
ATTRIBUTES = [f"metric_{number}" for number in range(10)]
COMPARE: Mapping[str, Callable[[float, float], bool]] = {">=": operator.ge, ">": operator.gt, "<=": operator.le}


@dataclass(frozen=True, slots=True)
class NetworkRule:
    """One rule on flows, in a neutral form."""

    action: str
    protocol: str
    source: str
    target: str
    ports: tuple[int, int]
    network: str | None

    def match(self) -> dict[str, Any]:
        low, high = self.ports
        ports = {"dst_port": low} if low == high else {"dst_port_range": f"{low}-{high}"}
        network = {"src_ip": self.network} if self.network else {}
        return {"protocol": self.protocol, "src_type": self.source, "dst_type": self.target, **ports, **network}


def network_rules(count: int) -> list[NetworkRule]:
    """Return rules on protocol, component types, exact ports and ranges; a third also on a source network."""
    random = Random(f"network {count}")
    rules = []
    for number in range(count):
        low = random.randrange(1, 60_000)
        rules.append(
            NetworkRule(
                action="deny" if number < count // 5 else "allow",
                protocol=random.choice(["tcp", "udp"]),
                source=random.choice(TYPES),
                target=random.choice(TYPES),
                ports=(low, low if random.random() < 0.7 else low + random.randrange(1, 2000)),
                network=f"10.{random.randrange(256)}.{random.randrange(256)}.0/24" if random.random() < 0.3 else None,
            )
        )
    return rules


def network_document(rules: list[NetworkRule]) -> dict[str, Any]:
    """Return the policy file that says the same."""
    written = [
        {"action": rule.action, "description": f"flow {number}", "match": rule.match()}
        for number, rule in enumerate(rules)
    ]
    policy = {"id": "flows", "type": "network_security", "rules": written}
    return {"version": 2, "policies": {"flows": policy}}


def network_requests(rules: list[NetworkRule], count: int = 300, draw: int = 0) -> list[dict[str, Any]]:
    """Return requests, most of which come near some rule; another draw has others."""
    random = Random(f"requests {len(rules)}" + (f" {draw}" if draw else ""))
    requests = []
    for _ in range(count):
        rule = random.choice(rules)
        network = ipaddress.ip_network(rule.network or "10.1.2.0/24")
        requests.append(
            {
                "protocol": rule.protocol,
                "src_type": rule.source,
                "dst_type": rule.target,
                "src_ip": str(network[random.randrange(1, 255)]),
                "dst_ip": f"10.9.{random.randrange(256)}.{random.randrange(1, 255)}",
                "dst_port": rule.ports[1] if random.random() < 0.7 else random.randrange(1, 65_536),
            }
        )
    return requests


@dataclass(frozen=True, slots=True)
class Limit:
    """A comparison of a metric with a number, under the name the number has in the rule's parameters."""

    metric: str
    operator: str
    value: float
    name: str


@dataclass(frozen=True, slots=True)
class ThresholdRule:
    """One rule that compares one or two metrics of an operation with limits."""

    action: str
    operation: str
    limits: tuple[Limit, ...]

    def applies(self, request: dict[str, Any]) -> bool:
        """Whether the rule applies, said as plainly as can be."""
        return request["operation"] == self.operation and all(
            COMPARE[limit.operator](request[limit.metric], limit.value) for limit in self.limits
        )


def threshold_rules(count: int) -> list[ThresholdRule]:
    """Return rules of which about three apply to a request: of few rules many apply, of many rules few."""
    random = Random(f"thresholds {count}")
    operations = OPERATIONS[: min(len(OPERATIONS), max(2, count // 5))]
    share = min(0.5, 3 * len(operations) / count)
    rules = []
    for _ in range(count):
        action = random.choices(["allow", "configure", "deny"], [60, 25, 15])[0]
        limits = _limits(random, share * random.uniform(0.5, 1.5))
        rules.append(ThresholdRule(action, random.choice(operations), limits))
    return rules


def _limits(random: Random, share: float) -> tuple[Limit, ...]:
    """Return one or two comparisons that hold for a share of the requests, whose metrics are even in 0 to 100."""
    one, other = random.sample(ATTRIBUTES, 2)
    if random.random() < 0.6:
        return (Limit(one, ">=", round(100 * (1 - share), 3), "threshold"),)
    each = share**0.5
    return Limit(one, ">", round(100 * (1 - each), 3), "floor"), Limit(other, "<=", round(100 * each, 3), "ceiling")


def threshold_document(rules: list[ThresholdRule]) -> dict[str, Any]:
    """Return the policy file that says the same; the limits are parameters, as in real files."""
    written = [
        {
            "action": rule.action,
            "description": f"limit {number}",
            "match": {"operation": rule.operation},
            "condition": " && ".join(f"{limit.metric} {limit.operator} {limit.name}" for limit in rule.limits),
            "parameters": {limit.name: limit.value for limit in rule.limits},
        }
        for number, rule in enumerate(rules)
    ]
    return {"policies": [{"id": "limits", "type": "fl_security", "rules": written}]}


def threshold_requests(rules: list[ThresholdRule], count: int = 300, draw: int = 0) -> list[dict[str, Any]]:
    """Return requests with all ten metrics for the operations that have rules; another draw has others."""
    random = Random(f"threshold requests {len(rules)} {draw}")
    operations = sorted({rule.operation for rule in rules})
    return [
        {"operation": random.choice(operations), **{name: round(random.uniform(0, 100), 2) for name in ATTRIBUTES}}
        for _ in range(count)
    ]
