"""A client: what it sends in a round, as a pure function of what it is told."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from policy_engine.simulation.attacks import Attack
from policy_engine.simulation.network import trained
from policy_engine.simulation.vector import Matrix, Samples, Vector


class Client(NamedTuple):
    """One client.

    Attributes:
        number: From 0.
        samples: What it has; an attacker poisons them itself.
        attack: What it does; None when it is honest.
    """

    name: str
    number: int
    samples: Samples
    attack: Attack | None = None


class Told(NamedTuple):
    """What the server tells everybody at the start of a round.

    Attributes:
        round: The number of the round, from 1.
        params: The global model, of shape (parameters,).
        step: The last step that the global model made; None before the first.
    """

    round: int
    params: Vector
    step: Vector | None = None


def train(params: Vector, client: Client, round_number: int, seed: int) -> Vector:
    """Return the update that training on a client's samples as they are gives: the new parameters less the old ones."""
    return trained(params, client.samples, _random(client, round_number, seed)) - params


def _random(client: Client, round_number: int, seed: int, purpose: int = 0) -> np.random.Generator:
    return np.random.default_rng((seed, 2 + purpose, round_number, client.number))


class Collusion:
    """What all attackers of a round know together; each thing is computed when it is asked for."""

    def __init__(self, told: Told, attackers: Sequence[Client], seed: int) -> None:
        self._told = told
        self._attackers = attackers
        self._seed = seed
        self._own: dict[str, Vector] = {}
        self._honest: dict[str, Vector] = {}

    def own(self, client: Client) -> Vector:
        """Return the update that an attacker's poisoned data gives."""
        if client.name not in self._own:
            assert client.attack is not None  # noqa: S101 - an attacker
            poisoned = client._replace(samples=client.attack.poison(client.samples))
            self._own[client.name] = train(self._told.params, poisoned, self._told.round, self._seed)
        return self._own[client.name]

    def honest(self, client: Client) -> Vector:
        """Return the update that an attacker's clean data gives."""
        if client.name not in self._honest:
            self._honest[client.name] = train(self._told.params, client, self._told.round, self._seed)
        return self._honest[client.name]

    @cached_property
    def all_own(self) -> Matrix:
        """`own` of all attackers."""
        return np.stack([self.own(client) for client in self._attackers])

    @cached_property
    def all_honest(self) -> Matrix:
        """`honest` of all attackers."""
        return np.stack([self.honest(client) for client in self._attackers])


class _Attempt:
    """What one attacker knows in a round; see attacks.Attempt."""

    def __init__(self, told: Told, client: Client, collusion: Collusion, cohort: int, seed: int) -> None:
        self.round = told.round
        self.step = told.step
        self.cohort = cohort
        self.random = _random(client, told.round, seed, purpose=1)
        self.shared = np.random.default_rng((seed, 5))
        self._client = client
        self._collusion = collusion

    @property
    def own(self) -> Vector:
        return self._collusion.own(self._client)

    @property
    def honest(self) -> Vector:
        return self._collusion.honest(self._client)

    @property
    def all_own(self) -> Matrix:
        return self._collusion.all_own

    @property
    def all_honest(self) -> Matrix:
        return self._collusion.all_honest


def answer(
    told: Told, client: Client, clients: Sequence[Client], seed: int, collusion: Collusion | None = None
) -> Vector:
    """Return the update that a client sends; the same for the same arguments, in whatever process.

    Args:
        told: What the server tells.
        client: Whose update.
        clients: All of the federation; attackers among them collude.
        seed: Of the federation.
        collusion: Of this round, so that attackers need not compute what another one has; only that changes with it.
    """
    if client.attack is None:
        return train(told.params, client, told.round, seed)
    known = collusion or Collusion(told, [each for each in clients if each.attack is not None], seed)
    return client.attack.forge(_Attempt(told, client, known, len(clients), seed))
