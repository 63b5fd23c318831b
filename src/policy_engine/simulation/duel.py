"""The same federation twice, without and with the engine, side by side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from policy_engine.simulation.federation import Federation, RoundResult, Scenario


class Pair(NamedTuple):
    """A round of both."""

    without: RoundResult
    engine: RoundResult


class Duel:
    """Two federations that differ in their defence alone.

    Attributes:
        scenario: Of the one with the engine.
        names: All clients.
        attackers: Those of them that attack.
        rounds: What was played so far.
    """

    def __init__(self, scenario: Scenario) -> None:
        """Set both up.

        Args:
            scenario: With the engine as defence; the other one averages plainly.
        """
        self.scenario = scenario
        self._engine = Federation(scenario)
        self._without = Federation(replace(scenario, defence="fedavg"))
        self.names = tuple(client.name for client in self._engine.clients)
        self.attackers = self._engine.attackers
        self.rounds: list[Pair] = []

    def run(self) -> Iterator[Pair]:
        """Yield each round of both, as it is over."""
        for without, engine in zip(self._without.run(), self._engine.run(), strict=True):
            self.rounds.append(Pair(without, engine))
            yield self.rounds[-1]

    def exclusions(self) -> dict[int, list[str]]:
        """Return who was excluded in which round; who came back and was excluded again is there twice."""
        before: frozenset[str] = frozenset()
        found: dict[int, list[str]] = {}
        for _, engine in self.rounds:
            if engine.excluded - before:
                found[engine.round] = sorted(engine.excluded - before)
            before = engine.excluded
        return found

    def held(self) -> list[int]:
        """Return the rounds that the engine held."""
        return [engine.round for _, engine in self.rounds if engine.held]
