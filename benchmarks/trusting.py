"""What trust costs: a round, a fact in a condition, and clients on record."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from random import Random
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.measure import microseconds
from benchmarks.report import Report
from benchmarks.servers import Server, proportional_memory, service
from policy_engine import PolicyEngine
from policy_engine.store import schema
from policy_engine.store.batch import insert_rows
from policy_engine.store.opened import Store
from policy_engine.store.options import StoreOptions
from policy_engine.store.subjects import seal
from policy_engine.store.trust_rows import standing_values
from policy_engine.trust.observation import ClientUpdate, RoundObservation
from policy_engine.trust.settings import TrustSettings
from policy_engine.trust.standing import Standing

ROUND = 1000
MANY = 100_000
MILLION = 1_000_000
TYPE = "trust_reputation"
CONDITIONS = {"without": "role == 'nobody'", "with": "client.trust_score < 0.3"}


def run(report: Report, *, quick: bool) -> None:
    """Measure a round of a thousand clients over HTTP, a fact, and a service with many clients on record."""
    print("trust (rounds of 1,000 clients over HTTP; clients on record)")
    _measure_fact(report)
    _measure_rounds(report, rounds=5 if quick else 15)
    base = _measure_start(report, 0)
    _measure_start(report, MANY)
    if not quick:
        memory = _measure_start(report, MILLION)
        report.add("trust: memory of 1,000,000 clients", memory - base, "MB")


def _measure_fact(report: Report) -> None:
    """Compare a check whose condition reads a fact of trust with one whose condition reads the request."""
    contexts = [{"client_id": f"client-{number}", "role": "member"} for number in range(ROUND)]
    times = {}
    for name, condition in CONDITIONS.items():
        rules = [{"action": "deny", "condition": condition}]
        engine = PolicyEngine.from_document({"policies": {"p": {"type": TYPE, "rules": rules}}})
        engine.observe(RoundObservation(federation="f", round=1, clients=tuple(_updates(1))))
        assert all(engine.check(TYPE, context).allowed for context in contexts)
        times[name] = microseconds(partial(engine.check, TYPE), contexts)
    report.add("trust: a check that reads a fact", times["with"], "us")
    report.add("trust: what the fact costs it", times["with"] - times["without"], "us")


def _updates(number: int) -> Iterator[ClientUpdate]:
    random = Random(number)
    for client in range(ROUND):
        yield ClientUpdate(
            client_id=f"client-{client}",
            norm=random.uniform(0.8, 1.2),
            cos_ref=random.uniform(0.4, 0.8),
            cos_prev=random.uniform(0.0, 0.5),
            max_pair_cos=random.uniform(0.0, 0.6),
            samples=600,
            loss=0.5,
        )


def _measure_rounds(report: Report, rounds: int) -> None:
    policies = {"policies": {"p": {"type": "security", "rules": [{"action": "deny", "condition": CONDITIONS["with"]}]}}}
    with TemporaryDirectory() as folder:
        file = Path(folder, "policies.json")
        file.write_text(json.dumps(policies), encoding="utf-8")
        with service(file, Path(folder, "data")) as server:
            times = [_observe(server, number) for number in range(1, rounds + 1)]
    report.add("trust: a round of 1,000 clients, median", median(times[1:]), "ms")
    report.add("trust: a round of 1,000 clients, slowest", max(times), "ms", "first")


def _observe(server: Server, number: int) -> float:
    """Send one round; return how many milliseconds the answer took."""
    clients: list[dict[str, Any]] = [
        {name: getattr(update, name) for name in update.__struct_fields__} for update in _updates(number)
    ]
    body = json.dumps({"federation": "f", "round": number, "clients": clients})
    connection = HTTPConnection("127.0.0.1", server.port, timeout=30)
    began = time.perf_counter()
    connection.request("POST", "/api/v1/trust/observations", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    answer = response.read()
    taken = (time.perf_counter() - began) * 1e3
    connection.close()
    assert response.status == 200, answer
    assert len(json.loads(answer)["clients"]) == ROUND
    return taken


def _measure_start(report: Report, clients: int) -> float:
    """Start a service with so many clients on record; return its memory in MB."""
    with TemporaryDirectory() as folder:
        policies = Path(folder, "policies.json")
        policies.write_text(json.dumps({"policies": {}}), encoding="utf-8")
        data = Path(folder, "data")
        with service(policies, data):
            pass
        _fill(data, clients)
        began = time.perf_counter()
        with service(policies, data) as server:
            if clients:
                report.add(f"trust: start with {clients:,} clients", time.perf_counter() - began, "s")
            return proportional_memory(server.pid)


def _fill(data: Path, clients: int) -> None:
    """Put clients on record, as rounds would have."""
    if not clients:
        return
    store = Store(StoreOptions(url=f"sqlite:///{data}/policy-engine.db", data_dir=data))
    standing = standing_values(Standing(recent=(0.85, 0.9, 0.91, 0.92, 0.93, 0.94), answered=6), TrustSettings())
    key = bytes(64)
    with store.database.write() as connection:
        for start in range(0, clients, ROUND):
            names = [f"client-{number:07}" for number in range(start, start + ROUND)]
            pseudonyms = [seal(key, name) for name in names]
            subjects = [("default", name, key, pseudonym) for name, pseudonym in zip(names, pseudonyms, strict=True)]
            insert_rows(connection, schema.subject, subjects)
            rows = [("default", "f", pseudonym, 1, *standing.values()) for pseudonym in pseudonyms]
            insert_rows(connection, schema.trust_standing, rows)
        insert_rows(connection, schema.trust_federation, [("default", "f", 1, 1, 0)])
    store.stop()
