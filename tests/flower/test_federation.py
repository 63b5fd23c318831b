"""A federation of Flower with the engine in it: attackers are dropped, honest clients are not."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAdam, FedAvg, FedAvgM
from tests.flower.grid import LocalGrid
from tests.flower.learning import accuracy, clients, flat, initial, record
from tests.flower.wrapping import counted, document, grid, wrapped

from policy_engine import PolicyEngine
from policy_engine.integrations.step import Step
from policy_engine.simulation.client import Client, Told, answer, train
from policy_engine.simulation.digits import spread
from policy_engine.simulation.federation import Federation, Scenario, exclusions
from policy_engine.simulation.vector import Vector
from policy_engine.trust.settings import TrustSettings
from policy_engine.trust.standing import Band

pytestmark = pytest.mark.flower

ROUNDS = 12
ATTACKS = [("sign_flip", 0.4), ("label_flip", 0.4), ("free_rider_replay", 0.2), ("cycling_on_off", 0.4), (None, 0.0)]


def test_attackers_are_dropped_and_honest_clients_are_not() -> None:
    members = clients(10, 3)
    strategy = wrapped()
    result = strategy.start(grid(members), record(initial()), num_rounds=12)
    attackers = {client.name for client in members if client.attack}
    assert counted(strategy, members)[-1] == attackers
    assert [dropped - attackers for dropped in counted(strategy, members)] == [set()] * 12
    plain = FedAvg().start(grid(members), record(initial()), num_rounds=12)
    assert accuracy(flat(result.arrays)) > accuracy(flat(plain.arrays))


@pytest.mark.parametrize("strategy", [FedAvgM(), FedAdam(eta=0.05)])
def test_other_strategies_can_be_wrapped(strategy: FedAvg) -> None:
    members = clients(8, 2)
    policed = wrapped(strategy)
    result = policed.start(grid(members), record(initial()), num_rounds=8)
    assert counted(policed, members)[-1] == {client.name for client in members if client.attack}
    assert np.isfinite(flat(result.arrays)).all()


# The same federation as the simulation


class Mirrored:
    """A federation of the simulation, with Flower in the place of its loop."""

    def __init__(self, scenario: Scenario, kind: str) -> None:
        self.federation = Federation(scenario)
        self.names = {number: client.name for number, client in enumerate(self.federation.clients)}
        self._kind = kind
        self._params = [self.federation.params.astype(kind).astype(np.float64)]

    def start(self) -> list[frozenset[str]]:
        """Run it and return who is excluded after each round."""
        scenario = self.federation.scenario
        uses_root = scenario.defence == "engine_root"
        settings = TrustSettings(
            reference="root" if uses_root else "median", max_excluded_share=scenario.max_excluded_share
        )
        engine = PolicyEngine.from_document(document(), trust={"*": settings})
        found: list[frozenset[str]] = []

        def look(step: Step) -> None:
            if step.kind == "observation":
                known = {name: engine.trust.known(name, "digits").band for name in self.names.values()}
                found.append(frozenset(name for name, band in known.items() if band == Band.EXCLUDED.value))

        strategy = wrapped(
            FedAvg(fraction_evaluate=0.0),
            engine=engine,
            name_of=self.names.__getitem__,
            root_update=self._root_update if uses_root else None,
            on_step=look,
        )
        apps = {number: partial(self._answer, client) for number, client in enumerate(self.federation.clients)}
        strategy.start(LocalGrid(apps), self._record(self._params[0]), num_rounds=scenario.rounds)
        return found

    def _answer(self, client: Client, message: Message) -> RecordDict:
        told = self._told(message.content["arrays"], message.content["config"])
        update = answer(told, client, self.federation.clients, self.federation.scenario.seed)
        metrics = MetricRecord({"num-examples": len(client.samples.labels)})
        return RecordDict({"arrays": self._record(told.params + update), "metrics": metrics})

    def _root_update(self, arrays: ArrayRecord, config: ConfigRecord) -> ArrayRecord:
        told, scenario = self._told(arrays, config), self.federation.scenario
        root = Client("root", scenario.clients, spread(scenario.clients, scenario.seed).root)
        return self._record(told.params + train(told.params, root, told.round, scenario.seed))

    def _told(self, arrays: ArrayRecord, config: ConfigRecord) -> Told:
        params = arrays["params"].numpy().astype(np.float64)
        if not (params == self._params[-1]).all():
            self._params.append(params)
        step = self._params[-1] - self._params[-2] if len(self._params) > 1 else None
        return Told(int(config["server-round"]), params, step)

    def _record(self, params: Vector) -> ArrayRecord:
        return ArrayRecord({"params": Array(params.astype(self._kind))})


@pytest.mark.parametrize("kind", ["float64", "float32"])
@pytest.mark.parametrize("defence", ["engine_median", "engine_root"])
@pytest.mark.parametrize(("attack", "share"), ATTACKS)
def test_exclusions_are_those_of_the_simulation(attack: str | None, share: float, defence: str, kind: str) -> None:
    scenario = Scenario(defence=defence, attack=attack, attackers=share, rounds=ROUNDS, seed=1)
    mirrored = Mirrored(scenario, kind)
    found = mirrored.start()
    assert found == exclusions(scenario)
    if attack == "sign_flip":
        assert found[-1] == mirrored.federation.attackers
