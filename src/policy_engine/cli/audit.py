"""`policy-engine audit`: prove what was stored, keep checkpoints elsewhere, replace the key."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from policy_engine.cli.output import DENIED, fail, print_json
from policy_engine.cli.stored import (
    author,
    find_store,
    opened,
    plainly,
    refuse_own_files,
    store_options,
    transact,
    written,
)
from policy_engine.config import Settings
from policy_engine.model.errors import PolicyEngineError, StateError
from policy_engine.signing import PublicKey, SigningKey, new_key, read_public_key
from policy_engine.store.atomic import write_atomically
from policy_engine.store.change import Transaction
from policy_engine.store.checkpoints import endorse_key, knows_key, latest
from policy_engine.store.keys import PRIVATE, KeyDirectory
from policy_engine.store.opened import Store
from policy_engine.store.options import DEFAULT_TENANT
from policy_engine.store.verify import Report
from policy_engine.store.verify import verify as verify_trail

_SHOWN_FAULTS = 10


@click.group()
def audit() -> None:
    """Prove what was decided and stored.

    Every entry is chained to the one before it, and signed checkpoints state where the chains stand.
    """


@audit.command()
@click.option(
    "--checkpoint",
    "exported",
    type=click.Path(path_type=Path),
    help="A checkpoint that `audit export` wrote: the store must still hold what it states.",
)
@click.option(
    "--key",
    "key_files",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A public key to trust, PEM; may be given again.  [default: those in the key directory]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@store_options
def verify(exported: Path | None, key_files: tuple[Path, ...], *, as_json: bool, **where: Any) -> None:
    """Verify the audit trail: every entry, every checkpoint, every signature.

    It finds what somebody without the key altered, removed or reordered below the last checkpoint; with a checkpoint
    that was kept elsewhere also what somebody with the key did below that one. It may run while the service writes.

    Exit code 0 when everything is as it was stored, 1 when it is not, 2 when nothing could be verified.
    """
    settings = find_store(where)
    try:
        report = _verify(settings, _roots(settings, key_files), exported, quiet=as_json)
    except OSError as error:
        fail(plainly(error))
    if as_json:
        print_json(report)
    else:
        _print_report(report)
    raise SystemExit(0 if report.ok else DENIED)


@audit.command()
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@store_options
def export(file: Path, **where: Any) -> None:
    """Write the latest checkpoint to FILE, or - for standard output, to be kept where nobody can change it.

    Exit code 2 when there is none, or it cannot be written.
    """
    settings = find_store(where)
    refuse_own_files(settings, file)
    try:
        with opened(settings) as database, database.read() as connection:
            envelope = latest(connection, DEFAULT_TENANT)
        if envelope is None:
            fail("there is no checkpoint yet")
        if str(file) == "-":
            sys.stdout.buffer.write(envelope)
        else:
            write_atomically(file, envelope)
    except OSError as error:
        fail(plainly(error))


@audit.command("rotate-key")
@store_options
def rotate_key(**where: Any) -> None:
    """Sign with a new key from now on; the old one vouches for it and is then deleted.

    Running services take up the new key by themselves. Every public key stays in the key directory: keep copies where
    the operator of the service cannot change them.

    Exit code 2 when the key could not be replaced.
    """
    settings = find_store(where)
    keys = KeyDirectory(settings.key_path)
    try:
        if not (settings.key_path / PRIVATE).exists():
            fail(f"there is no audit key in `{settings.key_path}`")
        old, new = keys.current(), new_key()
        with written(settings) as store:
            _endorse(store, new, old)
            keys.rotate(new)
    except (PolicyEngineError, OSError) as error:
        fail(plainly(error))
    click.echo(f"checkpoints are signed with `{new.public.key_id}` from now on, and not with `{old.public.key_id}`")


def _endorse(store: Store, new: SigningKey, old: SigningKey) -> None:
    """Let the old key vouch for the new one in the store.

    Raises:
        StateError: The old key is none of the store, or the database cannot be used.
        BusyError: Others are writing.
    """

    def apply(transaction: Transaction) -> None:
        if not knows_key(transaction.connection, DEFAULT_TENANT, old.public):
            raise StateError(f"the audit key `{old.public.key_id}` is not one of this store")
        endorse_key(transaction.connection, DEFAULT_TENANT, new.public, old)
        details = {"key_id": new.public.key_id, "endorsed_by": old.public.key_id, "author": author()}
        transaction.event("AUDIT_KEY_ROTATED", details)

    transact(store, apply, 1)


def _verify(settings: Settings, roots: list[PublicKey], exported: Path | None, *, quiet: bool) -> Report:
    """Verify a store.

    Raises:
        StateError: Nothing could be verified.
        OSError: The exported checkpoint cannot be read.
    """
    content = exported.read_bytes() if exported else None
    with opened(settings) as database, database.read() as connection, _progress(quiet=quiet) as progress:
        return verify_trail(connection, DEFAULT_TENANT, roots, exported=content, progress=progress)


def _roots(settings: Settings, files: tuple[Path, ...]) -> list[PublicKey]:
    roots = [read_public_key(path) for path in files] or KeyDirectory(settings.key_path).trusted()
    if not roots:
        fail(f"there is no public key in `{settings.key_path}`; name one with --key")
    return roots


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Give what shows progress on a terminal, None where there is no terminal."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=1, label="verifying", file=sys.stderr) as bar:

        def show(done: int, total: int) -> None:
            bar.length = max(total, 1)
            bar.update(max(done, total == 0) - bar.pos)

        yield show


def _print_report(report: Report) -> None:
    for fault in report.faults[:_SHOWN_FAULTS]:
        click.echo(f"{click.style(fault.what.replace('_', ' '), fg='red')}: {fault.text}")
    if len(report.faults) > _SHOWN_FAULTS:
        click.echo(f"and {len(report.faults) - _SHOWN_FAULTS} more; --json lists them")
    verdict = "verified" if report.ok else "not as it was stored"
    colour = "green" if report.ok else "red"
    click.echo(
        f"{click.style(verdict, fg=colour, bold=True)}: {report.entries} entries, {report.checkpoints} checkpoints;"
        f" {report.uncovered} entries are covered by no checkpoint yet"
    )
