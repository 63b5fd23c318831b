"""The targets of the fuzzers: each takes its seeds and what is left of them after damage, with and without atheris."""

from __future__ import annotations

import random

import pytest
from fuzz.every import TARGETS
from fuzz.targets import Target, register
from tests.language.test_mutations import damage_text

from fuzz import targets


@pytest.mark.parametrize("name", TARGETS)
def test_seeds(name: str) -> None:
    seeds = [*TARGETS[name].seeds()]
    assert len(seeds) > 5
    for seed in seeds:
        assert len(seed) <= TARGETS[name].longest
        TARGETS[name].run(seed)


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_seeds(name: str) -> None:
    drawn = random.Random(name)
    seeds = [seed for seed in TARGETS[name].seeds() if len(seed) < 4096]
    for _ in range(500):
        TARGETS[name].run(damage_text(drawn, drawn.choice(seeds)))


def test_what_takes_too_long_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "MOST_SECONDS", 0.0)
    with pytest.raises(AssertionError, match="it took"):
        TARGETS["conditions"].run(b"a == 1")


def test_another_target_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "TARGETS", {})
    target = Target(print, lambda: [b"x"], (), 10)
    register("more", target)
    assert [*targets.TARGETS.items()] == [("more", target)]
