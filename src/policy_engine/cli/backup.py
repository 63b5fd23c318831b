"""`policy-engine backup` and `restore`: everything of a store in one file, and back."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from policy_engine.cli.output import fail
from policy_engine.cli.stored import author, find_store, opened, plainly, refuse_own_files, store_options
from policy_engine.config import load_settings
from policy_engine.model.errors import PolicyEngineError
from policy_engine.store.backup import back_up
from policy_engine.store.backup import restore as restore_store
from policy_engine.store.keys import KeyDirectory
from policy_engine.store.options import DEFAULT_TENANT

_WAIT_SECONDS = 30.0


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@store_options
def backup(file: Path, **where: Any) -> None:
    """Write everything of a store to FILE: policies and their history, decisions, events, and the audit chain.

    The service goes on meanwhile; the backup is what was there at one moment. FILE is an SQLite database whatever the
    store is in. Keep it safe: it holds the keys of the pseudonyms, also of clients that are erased later. The key that
    signs checkpoints is not in it: keep `key_dir` apart from it.

    Exit code 2 when it could not be written.
    """
    settings = find_store(where)
    refuse_own_files(settings, file)
    try:
        with opened(settings) as database, _progress("backing up") as step:
            back_up(database, file, step)
    except (PolicyEngineError, OSError) as error:
        fail(plainly(error))
    click.echo(f"backed up to `{file}`: {file.stat().st_size:,} bytes")


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--replace", is_flag=True, help="Restore even over another store than the one that was backed up.")
@store_options
def restore(file: Path, *, yes: bool, replace: bool, **where: Any) -> None:
    """Replace everything of a store by the backup FILE, all or nothing.

    Services that run on the store go on: they take over the policies of the backup as a new revision within a second.
    What was decided and changed since the backup is gone; clients that were erased since stay erased.

    Exit code 2 when nothing was restored.
    """
    question = f"Replace everything in the store by `{file}`? What came since the backup is lost"
    if not yes and not click.confirm(question, err=True):
        fail("nothing was restored")
    try:
        settings = load_settings(os.environ, where).settings
        with opened(settings, _WAIT_SECONDS) as database, _progress("restoring") as step:
            done = restore_store(
                database,
                DEFAULT_TENANT,
                file,
                KeyDirectory(settings.key_path),
                author=author(),
                replace=replace,
                progress=step,
            )
    except (PolicyEngineError, OSError) as error:
        fail(plainly(error))
    click.echo(f"restored: the policies of version {done.backed_up} are in force as version {done.number}")


@contextmanager
def _progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """Show how far it is, on a terminal."""
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    with click.progressbar(length=1, label=label, file=sys.stderr) as bar:

        def step(done: int, total: int) -> None:
            bar.length = max(total, 1)
            bar.update(done - bar.pos)

        yield step
