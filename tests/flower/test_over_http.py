"""An engine over HTTP decides as the one in process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.client.serving import engine_behind, serving
from tests.flower.learning import clients, flat, initial, record
from tests.flower.wrapping import document, grid, wrapped
from tests.service.running import Running

from policy_engine import PolicyEngine
from policy_engine.client import PolicyClient
from policy_engine.integrations.decider import FederationEngine
from policy_engine.integrations.step import Step

pytestmark = pytest.mark.flower

MEMBERS = clients(8, 2)


def run(engine: FederationEngine) -> tuple[list[Step], list[float]]:
    strategy = wrapped(engine=engine)
    result = strategy.start(grid(MEMBERS), record(initial()), num_rounds=8)
    return strategy.steps, flat(result.arrays).tolist()


def normal(steps: list[Step]) -> list[tuple[object, ...]]:
    """Steps without the order of clients, which Flower draws."""
    return [(step.round, step.kind, set(step.passed), dict(step.refused), step.detail) for step in steps]


def test_the_client_decides_as_the_engine_in_process() -> None:
    steps, model = run(PolicyEngine.from_document(document()))
    with serving(engine_behind(PolicyEngine.from_document(document()))) as server, PolicyClient(server.url) as client:
        over_http, same_model = run(client)
    assert normal(over_http) == normal(steps)
    assert same_model == pytest.approx(model, abs=1e-9)


def test_so_does_the_service(tmp_path: Path) -> None:
    policies = tmp_path / "policies.json"
    policies.write_text(json.dumps(document()))
    running = Running.start(tmp_path, {"POLICY_FILE": str(policies)})
    try:
        with PolicyClient(f"http://127.0.0.1:{running.port}") as client:
            over_http, same_model = run(client)
    finally:
        running.stop()
    steps, model = run(PolicyEngine.from_document(document()))
    assert normal(over_http) == normal(steps)
    assert same_model == pytest.approx(model, abs=1e-9)


def test_an_engine_that_dies_in_the_middle_ends_the_run_or_does_not(tmp_path: Path) -> None:
    policies = tmp_path / "policies.json"
    policies.write_text(json.dumps(document()))
    for way, rounds in (("closed", 2), ("open", 5)):
        running = Running.start(tmp_path, {"POLICY_FILE": str(policies)})
        done: list[int] = []

        def look(step: Step, running: Running = running, done: list[int] = done) -> None:
            if step.kind == "replies":
                done.append(step.round)
            if step.kind == "evaluation" and step.round == 2:
                running.stop()

        with PolicyClient(f"http://127.0.0.1:{running.port}") as client:
            strategy = wrapped(engine=client, on_unavailable=way, on_step=look, federation=way)
            strategy.start(grid(MEMBERS), record(initial()), num_rounds=5)
        assert len(done) == rounds
        assert (strategy.stopped is None) == (way == "open")
