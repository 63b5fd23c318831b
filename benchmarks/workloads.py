"""Rules and requests to measure with: seeded, and the same for every engine.

Denies stand before allows, so first-applicable (this engine's networks) and deny-overrides (what the peers do) give
the same answers.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from random import Random
from typing import Any

TYPES = [f"component-{number}" for number in range(20)]
OPERATIONS = [f"operation_{number}" for number in range(20)]
ATTRIBUTES = [f"metric_{number}" for number in range(10)]


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


def network_requests(rules: list[NetworkRule], count: int = 300) -> list[dict[str, Any]]:
    """Return requests, most of which come near some rule."""
    random = Random(f"requests {len(rules)}")
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
class ThresholdRule:
    """One rule that compares one or two metrics with limits."""

    action: str
    operation: str
    tests: tuple[tuple[str, float], ...]


def threshold_rules(count: int) -> list[ThresholdRule]:
    """Return rules of which a typical request meets a few."""
    random = Random(f"thresholds {count}")
    rules = []
    for _ in range(count):
        metrics = random.sample(ATTRIBUTES, 1 if random.random() < 0.7 else 2)
        tests = tuple((metric, round(random.uniform(55, 100), 3)) for metric in metrics)
        action = random.choice(["deny", "allow", "allow", "allow"])
        rules.append(ThresholdRule(action, random.choice(OPERATIONS), tests))
    return rules


def threshold_document(rules: list[ThresholdRule]) -> dict[str, Any]:
    """Return the policy file that says the same; the limits are parameters, as in real files."""
    written = []
    for number, rule in enumerate(rules):
        names = ("limit", "floor")
        condition = " AND ".join(f"{metric} >= {name}" for (metric, _), name in zip(rule.tests, names, strict=False))
        parameters = {name: limit for (_, limit), name in zip(rule.tests, names, strict=False)}
        match = {"operation": rule.operation, "condition": condition}
        written.append(
            {"action": rule.action, "description": f"limit {number}", "match": match, "parameters": parameters}
        )
    return {"policies": [{"id": "limits", "type": "fl_security", "rules": written}]}


def threshold_requests(count: int = 300) -> list[dict[str, Any]]:
    """Return requests with all ten metrics."""
    random = Random("threshold requests")
    return [
        {"operation": random.choice(OPERATIONS), **{name: round(random.uniform(0, 62), 2) for name in ATTRIBUTES}}
        for _ in range(count)
    ]
