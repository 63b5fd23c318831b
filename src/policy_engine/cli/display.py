"""How far a duel is: a live table on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from policy_engine.simulation.duel import Duel, Pair

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress import Progress

_SHOWN_ROUNDS = 12
_BAR = 14
_LINE_EVERY = 5

Show = Callable[[Pair], None]


@contextmanager
def shown(duel: Duel) -> Iterator[Show]:
    """Give a function that is to be told of each round as it is over."""
    if not sys.stdout.isatty():
        yield lambda pair: _print_line(pair, duel)
        return
    from rich.live import Live  # noqa: PLC0415 - for terminals only
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    progress = Progress(TextColumn("rounds"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    task = progress.add_task("rounds", total=duel.scenario.rounds)
    with Live(_picture(duel, progress), refresh_per_second=10) as live:

        def show(pair: Pair) -> None:
            progress.update(task, completed=pair.engine.round)
            live.update(_picture(duel, progress))

        yield show


def _excluded(pair: Pair, duel: Duel) -> str:
    """Return how many attackers and how many others are excluded, and whether the round is held."""
    hit = len(pair.engine.excluded & duel.attackers)
    wrong = len(pair.engine.excluded) - hit
    who = f"{hit} attackers" + (f", {wrong} honest" if wrong else "") if hit or wrong else "nobody"
    return f"{who}; held" if pair.engine.held else who


def _print_line(pair: Pair, duel: Duel) -> None:
    number = pair.engine.round
    if number % _LINE_EVERY == 0 or number in {1, duel.scenario.rounds}:
        click.echo(
            f"round {number:>3}  without {100 * pair.without.accuracy:5.1f} %  with {100 * pair.engine.accuracy:5.1f} %"
            f"  excluded: {_excluded(pair, duel)}"
        )


def _picture(duel: Duel, progress: Progress) -> RenderableType:
    from rich.console import Group  # noqa: PLC0415 - for terminals only
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False)
    table.add_column("round", justify="right")
    for title in ("accuracy without", "with the engine", "excluded"):
        table.add_column(title, min_width=_BAR + 8, no_wrap=True)
    for pair in duel.rounds[-_SHOWN_ROUNDS:]:
        table.add_row(*_cells(pair, duel))
    return Group(progress, table)


def _cells(pair: Pair, duel: Duel) -> list[Any]:
    return [
        str(pair.engine.round),
        _bar(pair.without.accuracy, "red"),
        _bar(pair.engine.accuracy, "green"),
        _excluded(pair, duel),
    ]


def _bar(share: float, colour: str) -> str:
    length = round(_BAR * share)
    return f"[{colour}]{'━' * length}[/][dim]{'━' * (_BAR - length)}[/] {100 * share:5.1f} %"
