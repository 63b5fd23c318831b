"""The picture of a duel: accuracy and trust by round."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from policy_engine.simulation.duel import Duel

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ATTACKER, _HONEST, _PLAIN, _HELD = "#c0392b", "#2e86c1", "#7f8c8d", "#f5cba7"


def draw(duel: Duel, path: Path, exclude_below: float) -> None:
    """Write the picture as PNG.

    Args:
        duel: Of which all rounds were played.
        path: The file to write.
        exclude_below: The trust below which a client is excluded.

    Raises:
        OSError: The file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - takes a second
    from matplotlib.figure import Figure  # noqa: PLC0415 - the same

    figure = Figure(figsize=(9, 7), layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, sharex=True)
    scenario = duel.scenario
    who = f"{len(duel.attackers)} of {scenario.clients} clients"
    figure.suptitle(f"{scenario.attack or 'no attack'}: {who}, {scenario.defence}, seed {scenario.seed}")
    _draw_accuracy(upper, duel)
    _draw_trust(lower, duel, exclude_below)
    figure.savefig(path, format="png", dpi=120)


def _draw_accuracy(axes: Axes, duel: Duel) -> None:
    numbers = [pair.engine.round for pair in duel.rounds]
    for number in duel.held():
        axes.axvspan(number - 0.5, number + 0.5, color=_HELD, lw=0, label="held" if number == duel.held()[0] else None)
    axes.plot(numbers, [100 * pair.without.accuracy for pair in duel.rounds], color=_PLAIN, label="without the engine")
    axes.plot(numbers, [100 * pair.engine.accuracy for pair in duel.rounds], color=_HONEST, label="with the engine")
    axes.set_ylabel("accuracy on the test set, %")
    axes.set_ylim(0, 100)
    axes.legend(loc="lower right")
    axes.grid(alpha=0.3)


def _draw_trust(axes: Axes, duel: Duel, exclude_below: float) -> None:
    numbers = [pair.engine.round for pair in duel.rounds]
    named: set[bool] = set()
    for name in sorted(duel.names, key=lambda name: name in duel.attackers):
        is_attacker = name in duel.attackers
        label = None if is_attacker in named else ("attacker" if is_attacker else "honest client")
        named.add(is_attacker)
        axes.plot(
            numbers,
            [pair.engine.trust[name] for pair in duel.rounds],
            color=_ATTACKER if is_attacker else _HONEST,
            alpha=0.7,
            lw=1.2,
            label=label,
        )
    axes.axhline(exclude_below, color="black", ls=":", lw=1, label="excluded below")
    axes.set_xlabel("round")
    axes.set_ylabel("trust")
    axes.set_ylim(0, 1.02)
    axes.legend(loc="center right")
    axes.grid(alpha=0.3)
