"""Decisions in process, beside peers."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import peers
from benchmarks.measure import microseconds, seconds
from benchmarks.peers import Peer
from benchmarks.report import Report
from benchmarks.workloads import (
    network_document,
    network_requests,
    network_rules,
    threshold_document,
    threshold_requests,
    threshold_rules,
)
from policy_engine import PolicyEngine
from policy_engine.engine.decide import decide
from policy_engine.language.document import parse_document
from policy_engine.store.rings import EventLog

PEER_LIMIT = 1000
"""Peers are measured up to this many rules; beyond it some of them need seconds for one decision."""


def run(report: Report, *, quick: bool) -> None:
    """Measure network rules, threshold rules and the load of many rules."""
    print("network rules (microseconds of CPU a decision)")
    for count in (20, 100, 1000, 10_000):
        rules = network_rules(count)
        builders: Sequence[Callable[[Any], Peer]] = (
            peers.cedar_network,
            peers.datalogic_network,
            peers.casbin_network,
        )
        _measure(
            report,
            f"network {count}",
            "network_security",
            network_document(rules),
            network_requests(rules),
            [build(rules) for build in builders] if count <= PEER_LIMIT else [],
            quick=quick,
        )
    growth = report.figures["network 10000: decide"] / report.figures["network 20: decide"]
    report.add("network: growth from 20 to 10000", growth, "x")
    print("threshold conditions (microseconds of CPU a decision)")
    for size in (10, 100, 1000):
        limits = threshold_rules(size)
        others = [peers.cedar_threshold(limits), peers.datalogic_threshold(limits)]
        document = threshold_document(limits)
        _measure(report, f"threshold {size}", "fl_security", document, threshold_requests(), others, quick=quick)
    text = json.dumps(network_document(network_rules(10_000)))
    report.add("load of 10000 rules", seconds(lambda: PolicyEngine(parse_document(text).policy_set)), "s")


def _measure(  # noqa: PLR0917 - one row of the table
    report: Report,
    name: str,
    policy_type: str,
    document: dict[str, Any],
    requests: list[dict[str, Any]],
    others: Sequence[Peer],
    *,
    quick: bool,
) -> None:
    engine = PolicyEngine.from_document(document, listener=EventLog().record_decisions)
    program = engine.revision.program
    answers = [decide(program, policy_type, request, {}).allowed for request in requests]
    own = microseconds(lambda request: decide(program, policy_type, request, {}), requests, quick=quick)
    report.add(f"{name}: decide", own, "us")
    checked = microseconds(lambda request: engine.check(policy_type, request), requests, quick=quick)
    report.add(f"{name}: check", checked, "us")
    times = {peer.name: _measure_peer(peer, requests, answers, quick=quick) for peer in others}
    for peer_name, time in times.items():
        report.add(f"{name}: {peer_name}", time, f"us ({time / own:,.0f}x)")
    if times:
        report.add(f"{name}: best peer / decide", min(times.values()) / own, "x")


def _measure_peer(peer: Peer, requests: list[dict[str, Any]], answers: list[bool], *, quick: bool) -> float:
    """Return the time of a peer, once it has given the same answers."""
    prepared = [peer.prepare(request) for request in requests]
    given = [peer.decide(request) for request in prepared]
    if given != answers:
        different = next(number for number, answer in enumerate(given) if answer != answers[number])
        raise SystemExit(f"{peer.name} answers {given[different]} to {requests[different]}: the comparison is not fair")
    few = prepared[: 20 if quick else 100]
    return microseconds(peer.decide, few, quick=True)
