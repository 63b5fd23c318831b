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
_BAR = 20
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


def excluded_line(pair: Pair, duel: Duel) -> str:
    """Return how many are excluded, and how many of those are attackers."""
    excluded = pair.engine.excluded
    return f"{len(excluded)} ({len(excluded & duel.attackers)} of them attackers)" if excluded else "nobody"


def _print_line(pair: Pair, duel: Duel) -> None:
    number = pair.engine.round
    if number % _LINE_EVERY == 0 or number in {1, duel.scenario.rounds}:
        held = "  held" if pair.engine.held else ""
        click.echo(
            f"round {number:>3}  without {100 * pair.without.accuracy:5.1f} %  with {100 * pair.engine.accuracy:5.1f} %"
            f"  excluded: {excluded_line(pair, duel)}{held}"
        )


def _picture(duel: Duel, progress: Progress) -> RenderableType:
    from rich.console import Group  # noqa: PLC0415 - for terminals only
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False)
    table.add_column("round", justify="right")
    for title in ("accuracy without the engine", "with the engine", "excluded"):
        table.add_column(title, min_width=_BAR + 8)
    for pair in duel.rounds[-_SHOWN_ROUNDS:]:
        table.add_row(*_cells(pair, duel))
    return Group(progress, table)


def _cells(pair: Pair, duel: Duel) -> list[Any]:
    held = " [yellow]held[/]" if pair.engine.held else ""
    return [
        str(pair.engine.round),
        _bar(pair.without.accuracy, "red"),
        _bar(pair.engine.accuracy, "green"),
        f"{excluded_line(pair, duel)}{held}",
    ]


def _bar(share: float, colour: str) -> str:
    length = round(_BAR * share)
    return f"[{colour}]{'━' * length}[/][dim]{'━' * (_BAR - length)}[/] {100 * share:5.1f} %"
