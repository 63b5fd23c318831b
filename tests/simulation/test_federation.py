"""Federations in the simulation: they repeat, attacks do something, and the engine finds attackers."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

from policy_engine.simulation.attacks import ATTACKS
from policy_engine.simulation.client import Client, Collusion, Told, answer, train
from policy_engine.simulation.defences import DEFENCES
from policy_engine.simulation.digits import spread
from policy_engine.simulation.federation import Federation, RoundResult, Scenario, exclusions
from policy_engine.simulation.network import PARAMETERS, initial

SMALL = Scenario(clients=8, rounds=8, attackers=0.25)
SIGN_FLIP = Scenario(defence="engine_median", attack="sign_flip", clients=10, rounds=10, attackers=0.3)
CAPTURED = Scenario(defence="engine_median", attack="sign_flip", clients=8, rounds=14, attackers=0.75)


@lru_cache
def played(scenario: Scenario) -> tuple[Federation, tuple[RoundResult, ...]]:
    federation = Federation(scenario)
    return federation, tuple(federation.run())


@pytest.mark.parametrize("attack", [None, "adaptive_blend"])
@pytest.mark.parametrize("defence", DEFENCES)
def test_the_same_seed_gives_the_same_run(defence: str, attack: str | None) -> None:
    scenario = replace(SMALL, defence=defence, attack=attack, rounds=3)
    runs = [Federation(scenario) for _ in range(2)]
    assert list(runs[0].run()) == list(runs[1].run())
    assert np.array_equal(runs[0].params, runs[1].params)
    other = Federation(replace(scenario, seed=1))
    list(other.run())
    assert not np.array_equal(runs[0].params, other.params)


@pytest.mark.parametrize("attack", ATTACKS)
def test_each_attack_changes_what_its_attackers_send_and_nothing_else(attack: str) -> None:
    federation = Federation(replace(SMALL, attack=attack))
    assert len(federation.attackers) == 2
    start = initial(0)
    told = Told(10, start, 0.01 * np.random.default_rng(0).normal(size=PARAMETERS))  # a round in which all attack
    for client in federation.clients:
        sent = answer(told, client, federation.clients, 0)
        honest = train(start, client, told.round, 0)
        assert np.isfinite(sent).all()
        assert np.array_equal(sent, honest) == (client.name not in federation.attackers)


@pytest.mark.parametrize("attack", ["on_off", "cycling_on_off"])
def test_some_attackers_behave_at_first(attack: str) -> None:
    client = Client("a", 0, spread(8, 0).clients[0], ATTACKS[attack])
    told = Told(1, initial(0))
    assert np.array_equal(answer(told, client, [client], 0), train(told.params, client, 1, 0))


def test_attackers_send_the_same_whoever_computes_it() -> None:
    clients = Federation(replace(SMALL, attack="adaptive_labels")).clients
    told = Told(3, initial(0), train(initial(0), clients[0], 2, 0))
    shared = Collusion(told, [client for client in clients if client.attack], 0)
    for client in clients:
        assert np.array_equal(answer(told, client, clients, 0), answer(told, client, clients, 0, shared))


def test_a_backdoor_works_where_nothing_stops_it() -> None:
    plain = played(replace(SMALL, attack="backdoor_boosted", defence="fedavg"))[1][-1]
    engine = played(replace(SMALL, attack="backdoor_boosted", defence="engine_root"))[1][-1]
    assert plain.backdoor > 0.9
    assert engine.backdoor < 0.1


@pytest.mark.parametrize("reference", ["median", "root"])
def test_the_engine_excludes_attackers_and_nobody_else(reference: str) -> None:
    scenario = replace(SIGN_FLIP, defence=f"engine_{reference}")
    federation, rounds = played(scenario)
    assert rounds[-1].excluded == federation.attackers
    assert all(each.excluded <= federation.attackers and not each.held for each in rounds)
    plain = played(replace(scenario, defence="fedavg"))[1][-1]
    assert rounds[-1].accuracy > plain.accuracy + 0.05
    assert exclusions(scenario) == [each.excluded for each in rounds]
    assert rounds[-1].trust.keys() == {client.name for client in federation.clients}


def test_without_an_attack_nobody_is_excluded() -> None:
    for reference in ("median", "root"):
        rounds = played(replace(SIGN_FLIP, attack=None, defence=f"engine_{reference}"))[1]
        assert not any(each.excluded or each.held for each in rounds)


def test_a_round_that_is_held_leaves_the_model() -> None:
    federation = Federation(CAPTURED)
    held = []
    before = federation.params
    for each in federation.run():
        assert np.array_equal(federation.params, before) or not each.held
        before = federation.params
        held.append(each.held)
    assert any(held)
    patient = played(replace(CAPTURED, max_excluded_share=1.0))[1]
    assert not any(each.held for each in patient if len(each.excluded) < CAPTURED.clients)


def test_clients_get_all_samples_once() -> None:
    digits = spread(20, 3)
    counts = [len(samples.labels) for samples in digits.clients]
    assert sum(counts) + len(digits.test.labels) + len(digits.root.labels) == 1797
    assert min(counts) > 0
    assert min(len(samples.labels) for samples in spread(100, 0).clients) > 0


def test_defences_and_attacks_are_known_by_name() -> None:
    assert {"fedavg", "multi_krum", "trimmed_mean", "fltrust", "engine_median", "engine_root"} <= DEFENCES.keys()
    assert all(attack.description and attack.name == name for name, attack in ATTACKS.items())
