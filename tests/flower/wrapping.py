"""Engines and wrapped strategies to test with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flwr.serverapp.strategy import FedAvg
from tests.flower.grid import LocalGrid
from tests.flower.learning import Client, app

from policy_engine import PolicyEngine
from policy_engine.integrations.decider import FederationEngine
from policy_engine.integrations.flower import PolicyStrategy
from policy_engine.integrations.gate import Asking
from policy_engine.integrations.step import Step
from policy_engine.model.errors import EngineUnavailableError
from policy_engine.model.record import Checked

FEDERATION = "digits"
ADMITTING: dict[str, Any] = {"type": "fl_client_start", "rules": [{"action": "allow", "match": {}}]}


def document(**policies: Any) -> dict[str, Any]:
    """Policies that admit everybody, and others by type: a rule or several."""
    rules = {name: rule if isinstance(rule, list) else [rule] for name, rule in policies.items()}
    others = {name: {"type": name, "rules": found} for name, found in rules.items()}
    return {"policies": {"admission": ADMITTING, **others}}


class Asked:
    """Remembers what an engine decided."""

    def __init__(self, **policies: Any) -> None:
        self.checked: list[Checked] = []
        self.engine = PolicyEngine.from_document(document(**policies), listener=self.checked.extend, reuse_seconds=60)

    def contexts(self, policy_type: str) -> list[dict[str, Any]]:
        return [each.context for each in self.checked if each.decision.policy_type == policy_type]


class Failing:
    """An engine that gives no answer to some questions."""

    def __init__(self, engine: FederationEngine, *questions: str) -> None:
        self._engine = engine
        self.questions = set(questions)
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        self.asked += 1
        if name in self.questions:
            raise EngineUnavailableError("it is away")
        return getattr(self._engine, name)


def wrapped(strategy: FedAvg | None = None, **options: Any) -> PolicyStrategy:
    defaults = {"federation": FEDERATION, "on_unavailable": "closed", "asking": Asking(attempts=2, wait_seconds=0)}
    engine = options.pop("engine", None) or PolicyEngine.from_document(document())
    return PolicyStrategy(strategy or FedAvg(), engine, **{**defaults, **options})


def grid(members: Sequence[Client], kind: str = "float64") -> LocalGrid:
    return LocalGrid({client.node: app(client, kind) for client in members})


def counted(strategy: PolicyStrategy, members: Sequence[Client]) -> list[frozenset[str]]:
    """Return whose update did not count, round by round."""
    names = frozenset(client.name for client in members)
    return [names - set(step.passed) for step in strategy.steps if step.kind == "aggregation"]


def steps(strategy: PolicyStrategy, kind: str) -> list[Step]:
    return [step for step in strategy.steps if step.kind == kind]
