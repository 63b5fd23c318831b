"""The same federation without Flower: the authority on trust, the statistics, and NumPy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tests.flower.learning import Client, initial, trained

from policy_engine.authority import TrustAuthority
from policy_engine.trust.observation import RoundObservation
from policy_engine.trust.statistics import RoundStatistics, clipped

FEDERATION = "digits"


def exclusions(clients: Sequence[Client], rounds: int, root: Client | None = None) -> list[frozenset[str]]:
    """Run the federation and return whose update does not count, round by round, and who is not asked for one."""
    authority, statistics, params = TrustAuthority(), RoundStatistics(), initial()
    by_name = {client.name: client for client in clients}
    found = []
    for number in range(1, rounds + 1):
        selection = authority.select(FEDERATION, number, list(by_name))
        asked = [name for name in by_name if name in {*selection.invited, *selection.probed}]
        updates = {name: trained(params, by_name[name], number) for name in asked}
        clean = None if root is None else trained(params, root, number)
        observed = statistics.observe(updates, excluded=selection.probed, root=clean)
        advice = authority.observe(RoundObservation(federation=FEDERATION, round=number, clients=tuple(observed)))
        kept = [each for each in advice.clients if each.accept and each.client_id not in selection.probed]
        found.append(frozenset(by_name) - {each.client_id for each in kept})
        if not advice.held and kept:
            weights = np.array([each.weight_multiplier * len(by_name[each.client_id].labels) for each in kept])
            moved = np.stack([clipped(updates[each.client_id], each.clip_norm) for each in kept])
            step = weights @ moved / weights.sum()
            params = params + step
            statistics.accept(step)
    return found
