"""Figures, thresholds, and the table of both."""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

THRESHOLDS = Path(__file__).with_name("thresholds.toml")


@dataclass(frozen=True, slots=True)
class Threshold:
    """What a figure has to keep to."""

    description: str
    max: float | None = None
    min: float | None = None

    def holds(self, figure: float) -> bool:
        return (self.max is None or figure <= self.max) and (self.min is None or figure >= self.min)

    def __str__(self) -> str:
        return f"<= {self.max:,g}" if self.max is not None else f">= {self.min:,g}"


def read_thresholds(path: Path = THRESHOLDS) -> dict[str, Threshold]:
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    return {name: Threshold(**entry) for name, entry in content.items()}


def suite_of(name: str) -> str:
    """Return the suite a figure belongs to: its first word."""
    return name.partition(":")[0].partition(" ")[0]


class Report:
    """The figures of one run."""

    def __init__(self, thresholds: Path = THRESHOLDS) -> None:
        self.figures: dict[str, float] = {}
        self._units: dict[str, str] = {}
        self._thresholds = read_thresholds(thresholds)

    def add(self, name: str, figure: float, unit: str = "", remark: str = "") -> None:
        """Note a figure and print it beside its threshold."""
        self.figures[name] = figure
        self._units[name] = unit
        threshold = self._thresholds.get(name)
        verdict = "" if threshold is None else f"{threshold!s:>12}  {'ok' if threshold.holds(figure) else 'FAIL'}"
        print(f"  {name:<46}{figure:>12,.2f} {f'{unit} {remark}':<14}{verdict}".rstrip(), flush=True)

    def failures(self, suites: Collection[str]) -> list[str]:
        """Return what does not hold in the suites that ran; a threshold that was not measured does not hold."""
        return [
            name if name in self.figures else f"{name} (not measured)"
            for name, threshold in self._thresholds.items()
            if suite_of(name) in suites and (name not in self.figures or not threshold.holds(self.figures[name]))
        ]

    def as_json(self) -> dict[str, dict[str, Any]]:
        """Return every figure with its unit and, where there is one, its threshold and whether it holds."""
        entries: dict[str, dict[str, Any]] = {}
        for name, figure in self.figures.items():
            entries[name] = {"median": figure, "unit": self._units[name]}
            threshold = self._thresholds.get(name)
            if threshold is not None:
                entries[name] |= {"threshold": str(threshold), "ok": threshold.holds(figure)}
        return entries
