"""A federation: some clients, some of them attackers, a defence, and what comes of it round by round."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from policy_engine.simulation.attacks import ATTACKS, BACKDOOR_TARGET, triggered
from policy_engine.simulation.client import Client, Collusion, Told, answer, train
from policy_engine.simulation.defences import DEFENCES, Received, Setting
from policy_engine.simulation.digits import spread
from policy_engine.simulation.network import accuracy, initial
from policy_engine.simulation.vector import Samples, Vector


@dataclass(frozen=True, kw_only=True, slots=True)
class Scenario:
    """What a federation is, all of it.

    Attributes:
        defence: A name in DEFENCES.
        attack: A name in ATTACKS; None when all are honest.
        attackers: Which share of the clients attacks.
        max_excluded_share: Above which share of excluded clients the engine holds a round.
    """

    defence: str = "fedavg"
    attack: str | None = None
    attackers: float = 0.0
    clients: int = 20
    rounds: int = 30
    seed: int = 0
    max_excluded_share: float = 0.5


class RoundResult(NamedTuple):
    """What a round came to.

    Attributes:
        accuracy: Of the global model after it, on the test set, 0 to 1.
        backdoor: Which share of other digits with the trigger is taken for the backdoor's target.
        excluded: Who is out after it; who has several names is told by the first.
        held: Whether the global model stayed because the round was not believed.
        trust: Client -> trust, where the defence has such a thing.
    """

    round: int
    accuracy: float
    backdoor: float
    excluded: frozenset[str]
    held: bool
    trust: Mapping[str, float]


class Federation:
    """One federation.

    Attributes:
        clients: All of them.
        attackers: The names of those that attack.
        params: The global model as it is, of shape (parameters,).
    """

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        digits = spread(scenario.clients, scenario.seed)
        self.clients = _clients(scenario, digits.clients)
        self.attackers = frozenset(client.name for client in self.clients if client.attack)
        self.params = initial(scenario.seed)
        self._step: Vector | None = None
        self._test = digits.test
        others = digits.test.labels != BACKDOOR_TARGET
        marked = triggered(digits.test.images[others])
        self._backdoored = Samples(marked, np.full(len(marked), BACKDOOR_TARGET))
        self._root = Client("root", scenario.clients, digits.root)
        self._defence = DEFENCES[scenario.defence](Setting(len(self.attackers), scenario.max_excluded_share))

    def run(self) -> Iterator[RoundResult]:
        """Yield the result of each round, as it is over."""
        for number in range(1, self.scenario.rounds + 1):
            yield self._play(number)

    def _play(self, number: int) -> RoundResult:
        names = {_name_in(number, client): client.name for client in self.clients}
        outcome = self._defence.aggregate(self._received(Told(number, self.params, self._step), names))
        if outcome.step is not None:
            self.params = self.params + outcome.step
            self._step = outcome.step
        return RoundResult(
            number,
            accuracy(self.params, self._test),
            accuracy(self.params, self._backdoored),
            frozenset(names[name] for name in outcome.excluded),
            outcome.held,
            {names[name]: trust for name, trust in outcome.trust.items()},
        )

    def _received(self, told: Told, names: Mapping[str, str]) -> Received:
        seed = self.scenario.seed
        invited = {names[name] for name in self._defence.invite(told.round, list(names))}
        collusion = Collusion(told, [client for client in self.clients if client.attack], seed)
        asked = {_name_in(told.round, client): client for client in self.clients if client.name in invited}
        return Received(
            told.round,
            {name: answer(told, client, self.clients, seed, collusion) for name, client in asked.items()},
            {name: len(client.samples.labels) for name, client in asked.items()},
            lambda: train(told.params, self._root, told.round, seed),
        )


def _name_in(round_number: int, client: Client) -> str:
    return client.attack.name_in(round_number, client.name) if client.attack else client.name


def _clients(scenario: Scenario, shares: tuple[Samples, ...]) -> tuple[Client, ...]:
    attack = ATTACKS[scenario.attack] if scenario.attack else None
    count = round(scenario.attackers * len(shares)) if attack else 0
    chosen = set(np.random.default_rng((scenario.seed, 4)).permutation(len(shares))[:count].tolist())
    width = len(str(len(shares)))
    return tuple(
        Client(f"client-{number + 1:0{width}}", number, samples, attack if number in chosen else None)
        for number, samples in enumerate(shares)
    )


def exclusions(scenario: Scenario) -> list[frozenset[str]]:
    """Run a federation and return who is excluded after each round."""
    return [result.excluded for result in Federation(scenario).run()]
