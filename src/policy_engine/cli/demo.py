"""`policy-engine demo`: see the engine at work on something small."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import click

from policy_engine.cli.output import fail
from policy_engine.simulation.attacks import ATTACKS
from policy_engine.trust.settings import TrustSettings

if TYPE_CHECKING:
    from policy_engine.simulation.duel import Duel

_LIBRARIES = ("numpy", "sklearn", "matplotlib", "rich")
_NAMES = 6


def _attacks() -> str:
    """Return the attacks with what they do, for the help."""
    return "\n".join(f"{attack.name:<19}{attack.description}" for attack in ATTACKS.values())


@click.group()
def demo() -> None:
    """See the engine at work on something small, in one process; nothing is served or stored."""


_HELP = f"""Attack a small federation, once without and once with the engine, and show both side by side.

Twenty clients train a small network on handwritten digits, unevenly spread; some of them attack. Without the engine
the server averages what it gets. With it, trust follows from what clients send: bad updates are rejected, long ones
are clipped, and who keeps sending bad ones is excluded. The end says what that was worth and who was excluded, and
a picture shows accuracy and the trust in every client by round. The same seed gives the same run.

\b
Attacks:
{_attacks()}

\b
Try:
  policy-engine demo federation                            two fifths of the clients negate their updates
  policy-engine demo federation --attackers 0              nobody attacks: is anybody hurt?
  policy-engine demo federation --attack adaptive_blend    who knows the engine captures the median,
      with --reference root                                but not a root set of clean samples
  policy-engine demo federation --attack backdoor          what the engine cannot see

Needs the extra `demo`. Exit code 2 when it is not installed or the picture cannot be written.
"""


@demo.command(help=_HELP)
@click.option(
    "--attack",
    type=click.Choice(list(ATTACKS)),
    default="sign_flip",
    show_default=True,
    metavar="NAME",
    help="What they do.",
)
@click.option(
    "--attackers",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.4,
    show_default=True,
    help="Which share of the clients does.",
)
@click.option("--clients", type=click.IntRange(3, 100), default=20, show_default=True, help="How many there are.")
@click.option("--rounds", type=click.IntRange(1, 1000), default=30, show_default=True, help="How many are played.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of everything that is random.")
@click.option(
    "--reference",
    type=click.Choice(["median", "root"]),
    default="median",
    show_default=True,
    help="What updates are compared with: their median, or what 100 clean samples give.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default="federation.png",
    show_default=True,
    help="The picture.",
)
def federation(
    *, attack: str, attackers: float, clients: int, rounds: int, seed: int, reference: str, output: Path
) -> None:
    """Run both, show them, and draw the picture."""
    _require_libraries()
    if not output.parent.is_dir():
        fail(f"cannot write `{output}`: there is no directory `{output.parent}`")
    from policy_engine.cli.display import shown  # noqa: PLC0415 - needs the extra
    from policy_engine.simulation.chart import draw  # noqa: PLC0415
    from policy_engine.simulation.duel import Duel  # noqa: PLC0415
    from policy_engine.simulation.federation import Scenario  # noqa: PLC0415

    scenario = Scenario(
        defence=f"engine_{reference}", attack=attack, attackers=attackers, clients=clients, rounds=rounds, seed=seed
    )
    duel = Duel(scenario)
    click.echo(f"{attack}, {len(duel.attackers)} of {clients} clients: {ATTACKS[attack].description}")
    with shown(duel) as show:
        for pair in duel.run():
            show(pair)
    _print_summary(duel)
    try:
        draw(duel, output, TrustSettings().exclude_below)
    except OSError as error:
        fail(f"cannot write `{output}`: {error.strerror}")
    click.echo(f"picture: {output}")


def _require_libraries() -> None:
    try:
        for name in _LIBRARIES:
            import_module(name)
    except ModuleNotFoundError as error:
        fail(f'`{error.name}` is not installed; the demonstration needs: pip install "flopynet-policy-engine[demo]"')


def _print_summary(duel: Duel) -> None:
    without, engine = duel.rounds[-1]
    click.echo()
    click.echo(f"accuracy after {engine.round} rounds: {_percent(without.accuracy)} without the engine, ", nl=False)
    click.echo(click.style(f"{_percent(engine.accuracy)} with it", fg="green", bold=True))
    if (duel.scenario.attack or "").startswith("backdoor"):
        click.echo(
            f"backdoor works: {_percent(without.backdoor)} without the engine, {_percent(engine.backdoor)} with it"
        )
    honest = len(duel.names) - len(duel.attackers)
    hit = len(engine.excluded & duel.attackers)
    wrong = len(engine.excluded) - hit
    click.echo(f"excluded at the end: {hit} of {len(duel.attackers)} attackers, {wrong} of {honest} honest clients")
    for number, names in duel.exclusions().items():
        click.echo(f"  round {number:>3}: {_named(names, duel)}")
    held = duel.held()
    if held:
        click.echo(
            f"held: {len(held)} rounds, the first is {held[0]}: so many updates were refused that the reference is not"
            " believed, and the model stayed"
        )
        if duel.scenario.defence == "engine_median":
            click.echo("  try --reference root: clean samples of the server's own are not captured")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _named(names: list[str], duel: Duel) -> str:
    told = [f"{name}{'' if name in duel.attackers else ' (honest!)'}" for name in names[:_NAMES]]
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    return f"{', '.join(told)}{more}"
