"""Decisions in process, beside peers."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.measure import REPEATS, microseconds, microseconds_once, seconds
from benchmarks.peers import Peer, cedar, datalogic, pycasbin
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
from policy_engine.store.opened import Store
from policy_engine.store.options import StoreOptions

Request = dict[str, Any]

MAX_LOAD_SECONDS = 60
MAX_DECISION_SECONDS = 2
PEER_REPEATS = 3
ONE_SIDED = 0.1
"""A workload whose rarer answer is rarer than this could not tell engines apart."""


@dataclass(frozen=True, slots=True)
class Case:
    """One policy file with requests, and how to load the peers with the same rules.

    Attributes:
        draw: Returns the given number of requests of the draw with the given number.
    """

    name: str
    policy_type: str
    document: dict[str, Any]
    draw: Callable[[int, int], list[Request]]
    peers: Sequence[Callable[[], Peer]]


def run_network(report: Report, *, quick: bool) -> None:
    """Measure network rules."""
    print("network rules (microseconds of CPU a decision)")
    for count in (20, 100, 1000, 10_000):
        _measure(report, _network_case(count), quick=quick)
    growth = report.figures["network 10000: decide"] / report.figures["network 20: decide"]
    report.add("network: growth from 20 to 10000", growth, "x")


def run_threshold(report: Report, *, quick: bool) -> None:
    """Measure rules with threshold conditions."""
    print("threshold conditions (microseconds of CPU a decision)")
    for count in (10, 100, 1000):
        rules = threshold_rules(count)
        applicable = fmean(sum(rule.applies(request) for rule in rules) for request in threshold_requests(rules))
        report.add(f"threshold {count}: rules that apply, mean", applicable)
        _measure(report, _threshold_case(count), quick=quick)


def run_load(report: Report, *, quick: bool) -> None:
    """Measure the way from the text of a policy file to a program."""
    text = json.dumps(network_document(network_rules(10_000)))
    loading = seconds(lambda: PolicyEngine(parse_document(text).policy_set), repeats=1 if quick else 5)
    report.add("load of 10000 rules", loading, "s")
    text = json.dumps(threshold_document(threshold_rules(10_000)))
    loading = seconds(lambda: PolicyEngine(parse_document(text).policy_set), repeats=1 if quick else 5)
    report.add("load of 10000 rules with conditions", loading, "s")


def _network_case(count: int) -> Case:
    rules = network_rules(count)
    return Case(
        name=f"network {count}",
        policy_type="network_security",
        document=network_document(rules),
        draw=lambda size, number: network_requests(rules, size, number),
        peers=[partial(load, rules) for load in (cedar.network, datalogic.network, pycasbin.network)],
    )


def _threshold_case(count: int) -> Case:
    rules = threshold_rules(count)
    return Case(
        name=f"threshold {count}",
        policy_type="fl_security",
        document=threshold_document(rules),
        draw=lambda size, number: threshold_requests(rules, size, number),
        peers=[partial(load, rules) for load in (cedar.threshold, datalogic.threshold, pycasbin.threshold)],
    )


def _measure(report: Report, case: Case, *, quick: bool) -> None:
    with TemporaryDirectory() as folder:
        # Events, but no log: what the log costs is another suite.
        store = Store(StoreOptions(url=f"sqlite:///{folder}/x.db", data_dir=Path(folder), keeps_decisions=False))
        try:
            _measure_with(report, case, store, quick=quick)
        finally:
            store.stop()


def _measure_with(report: Report, case: Case, store: Store, *, quick: bool) -> None:
    engine = PolicyEngine.from_document(case.document, listener=store.writer.record_decisions)
    program, policy_type = engine.revision.program, case.policy_type

    def own_decide(request: Request) -> bool:
        return decide(program, policy_type, request, {}).allowed

    repeats = PEER_REPEATS if quick else REPEATS
    requests = case.draw(60 if quick else 300, 0)
    answers = [own_decide(request) for request in requests]
    _check_mix(case.name, answers)
    peers = list(_loaded(case, requests, answers))
    gc.collect()
    gc.freeze()  # as the service does with its programs; and what peers hold is not ours to collect
    own = microseconds(own_decide, requests, repeats=repeats)
    report.add(f"{case.name}: decide", own, "us")
    lists = [case.draw(500 if quick else 3000, 1 + number) for number in range(1 + repeats)]
    report.add(f"{case.name}: decide, no request twice", microseconds_once(own_decide, lists), "us")
    checked = microseconds(lambda request: engine.check(policy_type, request), requests, repeats=repeats)
    report.add(f"{case.name}: check", checked, "us")
    times = {}
    for peer in peers:
        prepared = [peer.prepare(request) for request in requests]
        times[peer.name] = microseconds(peer.decide, prepared, repeats=PEER_REPEATS)
        report.add(f"{case.name}: {peer.name}", times[peer.name], "us", f"({times[peer.name] / own:,.0f}x)")
    if times:
        report.add(f"{case.name}: best peer / decide", min(times.values()) / own, "x")


def _check_mix(name: str, answers: Sequence[bool]) -> None:
    share = sum(answers) / len(answers)
    if not ONE_SIDED <= share <= 1 - ONE_SIDED:
        raise SystemExit(f"{name}: {share:.0%} of the requests are allowed; such a workload cannot tell engines apart")


def _loaded(case: Case, requests: Sequence[Request], answers: Sequence[bool]) -> Iterator[Peer]:
    """Yield the peers that are quick enough to be measured and give the same answers."""
    for load in case.peers:
        began = time.perf_counter()
        peer = load()
        loading = time.perf_counter() - began
        prepared = [peer.prepare(request) for request in requests]
        began = time.perf_counter()
        peer.decide(prepared[0])
        first = time.perf_counter() - began
        if loading > MAX_LOAD_SECONDS or first > MAX_DECISION_SECONDS:
            print(f"  {case.name}: {peer.name} is left out: {loading:.1f} s to load, {first:.1f} s for one decision")
            continue
        _compare(peer, prepared, requests, answers)
        yield peer


def _compare(peer: Peer, prepared: Sequence[Any], requests: Sequence[Request], answers: Sequence[bool]) -> None:
    for form, request, answer in zip(prepared, requests, answers, strict=True):
        given = peer.decide(form)
        if given is not answer:
            raise SystemExit(f"{peer.name} answers {given}, the engine {answer}, to {request}: nothing was compared")
