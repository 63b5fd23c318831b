"""Rounds of a small federation, as somebody observes them."""

from __future__ import annotations

from random import Random
from typing import Any

from policy_engine.trust.observation import ClientUpdate, RoundObservation


def update(name: str, norm: float = 1.0, cos_ref: float = 0.6, **more: Any) -> ClientUpdate:
    return ClientUpdate(client_id=name, norm=norm, cos_ref=cos_ref, **more)


def observed(number: int, *updates: ClientUpdate, federation: str = "f") -> RoundObservation:
    return RoundObservation(federation=federation, round=number, clients=updates)


HONEST = tuple(update(f"h{number}", norm=0.9 + 0.02 * number, cos_ref=0.55 + 0.01 * number) for number in range(8))
ATTACK = update("x", norm=1.0, cos_ref=-0.7)


def random_round(seed: int, number: int, clients: int = 12, federation: str = "f") -> RoundObservation:
    """A round in which everybody behaves at random."""
    random = Random(f"{seed} {number}")
    made, left_out = [], []
    for client in range(clients):
        if random.random() < 0.15:
            made.append(ClientUpdate(client_id=f"c{client}", answered=False))
        elif random.random() < 0.9:
            more = {"cos_prev": random.uniform(-1, 1), "max_pair_cos": random.uniform(-0.2, 1)}
            made.append(update(f"c{client}", random.uniform(0.2, 4.0), random.uniform(-0.8, 1), **more))
        else:
            left_out.append(f"c{client}")
    return RoundObservation(federation=federation, round=number, clients=tuple(made), left_out=tuple(left_out))
