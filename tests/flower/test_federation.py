"""A federation of Flower with the engine in it: attackers are dropped, honest clients are not."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord
from flwr.serverapp.strategy import FedAdam, FedAvg, FedAvgM
from tests.flower.learning import accuracy, clients, flat, initial, record, trained
from tests.flower.pure import exclusions
from tests.flower.wrapping import counted, grid, wrapped

pytestmark = pytest.mark.flower


def test_attackers_are_dropped_and_honest_clients_are_not() -> None:
    members = clients(10, 3)
    strategy = wrapped()
    result = strategy.start(grid(members), record(initial()), num_rounds=12)
    attackers = {client.name for client in members if client.attack}
    assert counted(strategy, members)[-1] == attackers
    assert [dropped - attackers for dropped in counted(strategy, members)] == [set()] * 12
    plain = FedAvg().start(grid(members), record(initial()), num_rounds=12)
    assert accuracy(flat(result.arrays)) > accuracy(flat(plain.arrays))


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_exclusions_are_those_of_the_pure_loop(kind: str) -> None:
    members = clients(10, 3)
    strategy = wrapped()
    strategy.start(grid(members, kind), record(initial(), kind), num_rounds=12)
    assert counted(strategy, members) == exclusions(members, 12)


def test_exclusions_are_those_of_the_pure_loop_with_a_root_set() -> None:
    members = clients(10, 4)
    root = clients(11, 0)[-1]

    def root_update(arrays: ArrayRecord, config: ConfigRecord) -> ArrayRecord:
        params = flat(arrays)
        return record(params + trained(params, root, int(config["server-round"])))

    strategy = wrapped(root_update=root_update)
    strategy.start(grid(members), record(initial()), num_rounds=12)
    assert counted(strategy, members) == exclusions(members, 12, root)


@pytest.mark.parametrize("strategy", [FedAvgM(), FedAdam(eta=0.05)])
def test_other_strategies_can_be_wrapped(strategy: FedAvg) -> None:
    members = clients(8, 2)
    policed = wrapped(strategy)
    result = policed.start(grid(members), record(initial()), num_rounds=8)
    assert counted(policed, members)[-1] == {client.name for client in members if client.attack}
    assert np.isfinite(flat(result.arrays)).all()
