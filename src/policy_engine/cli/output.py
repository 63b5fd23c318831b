"""What the commands print."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn

import click
import msgspec

from policy_engine.model.diagnostic import Diagnostic

DENIED = 1
FAILED = 2


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def print_diagnostics(title: str, diagnostics: Iterable[Diagnostic], colour: str) -> None:
    """Print diagnostics, each with its place and its hint."""
    for item in diagnostics:
        click.echo(f"{click.style(title, fg=colour)} {item.pointer or '/'}: {item.detail}")
        if item.excerpt:
            click.echo("".join(f"  {line}\n" for line in item.excerpt.splitlines()), nl=False)
        if item.hint:
            click.echo(f"  hint: {item.hint}")


def fail(message: str) -> NoReturn:
    """End the command because it could not be carried out."""
    click.echo(f"policy-engine: {message}", err=True)
    raise SystemExit(FAILED)
