"""What a process recorded lately, in memory."""

from __future__ import annotations

from random import Random

import pytest
from tests.store.stores import checked

from policy_engine.model.event import Event
from policy_engine.store.rings import Ring, Rings


@pytest.mark.parametrize("count", [0, 1, 3, 4, 10])
def test_the_last_items_are_held_oldest_first(count: int) -> None:
    ring: Ring[str] = Ring(3)
    for position in range(1, count + 1):
        ring.append(position, str(position))
    assert ring.items() == [(position, str(position)) for position in range(max(1, count - 2), count + 1)]
    assert ring.evicted == max(0, count - 3)


def test_evicted_is_the_highest_position_that_is_gone_in_whatever_order_they_came() -> None:
    choose = Random(1)
    positions = list(range(1, 200))
    choose.shuffle(positions)
    ring: Ring[int] = Ring(20)
    for count, position in enumerate(positions, 1):
        ring.append(position, position)
        gone = set(positions[:count]) - {at for at, _ in ring.items()}
        assert ring.evicted == max(gone, default=0)


def event(number: int) -> Event:
    item = checked()
    return Event(event_id=str(number), timestamp=item.decision.timestamp, event_type="ENGINE_START", details={})


def test_both_kinds_in_one_order() -> None:
    rings = Rings(5, 6, capacity=2)
    assert rings.of(management=True, decisions=True) == ([], 6)
    made: list[Event | bytes] = [event(10), b"11", event(12), b"13", b"14"]
    for position, item in enumerate(made, 10):
        if isinstance(item, Event):
            rings.management.append(position, item)
        else:
            rings.decisions.append(position, item)
    held, evicted = rings.of(management=True, decisions=True)
    assert held == [(10, made[0]), (12, made[2]), (13, made[3]), (14, made[4])]
    assert evicted == 11
    assert rings.of(management=True, decisions=False) == ([(10, made[0]), (12, made[2])], 5)
    assert rings.of(management=False, decisions=True) == ([(13, made[3]), (14, made[4])], 11)


def test_what_is_forgotten_counts_as_gone() -> None:
    rings = Rings(5, 20)
    rings.forget(10)
    assert (rings.management.evicted, rings.decisions.evicted) == (10, 20)
