"""Figures, thresholds, and the table of both."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

THRESHOLDS = Path(__file__).with_name("thresholds.toml")


@dataclass(frozen=True, slots=True)
class Threshold:
    """What a figure has to keep to."""

    description: str
    at_most: float | None = None
    at_least: float | None = None

    def holds(self, figure: float) -> bool:
        return (self.at_most is None or figure <= self.at_most) and (self.at_least is None or figure >= self.at_least)

    def __str__(self) -> str:
        return f"<= {self.at_most:g}" if self.at_most is not None else f">= {self.at_least:g}"


def read_thresholds() -> dict[str, Threshold]:
    content = tomllib.loads(THRESHOLDS.read_text(encoding="utf-8"))
    return {name: Threshold(**entry) for name, entry in content.items()}


class Report:
    """The figures of one run."""

    def __init__(self) -> None:
        self.figures: dict[str, float] = {}
        self._thresholds = read_thresholds()

    def add(self, name: str, figure: float, unit: str = "") -> None:
        """Note a figure and print it beside its threshold."""
        self.figures[name] = figure
        threshold = self._thresholds.get(name)
        verdict = "" if threshold is None else f"{threshold!s:>12}  {'ok' if threshold.holds(figure) else 'FAIL'}"
        print(f"  {name:<46}{figure:>12,.2f} {unit:<12}{verdict}", flush=True)

    def failures(self) -> list[str]:
        """Return the names of the figures that were measured and do not hold."""
        return [
            name
            for name, figure in self.figures.items()
            if name in self._thresholds and not self._thresholds[name].holds(figure)
        ]
