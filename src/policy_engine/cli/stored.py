"""What the commands share that work on a store: where it is, and who is using them."""

from __future__ import annotations

import getpass
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from policy_engine.cli.output import fail
from policy_engine.config import Settings, load_settings
from policy_engine.model.errors import BusyError, SettingsError, StoreUnavailableError
from policy_engine.store.change import Transaction
from policy_engine.store.database import Database
from policy_engine.store.opened import Store

C = TypeVar("C", bound=Callable[..., None])
T = TypeVar("T")

BUSY_SECONDS = 5.0
"""How long a command waits for other writers."""


def store_options(command: C) -> C:
    """Give a command the options that say where a store is."""
    for option in (
        click.option(
            "--key-dir",
            type=click.Path(),
            help="Where the audit keys are.  [default: keys in the data directory; POLICY_KEY_DIR]",
        ),
        click.option("--data-dir", type=click.Path(), help="Where state is kept.  [default: data; POLICY_DATA_DIR]"),
        click.option(
            "--database", help="The database as a URL.  [default: a file in the data directory; POLICY_DATABASE]"
        ),
    ):
        command = option(command)
    return command


def find_store(where: dict[str, Any]) -> Settings:
    """Return the settings of a store that is there already; a command never makes one."""
    try:
        loaded = load_settings(os.environ, where)
        settings = loaded.settings
        url = make_url(settings.database_url)
    except SettingsError as error:
        fail(str(error))
    except ArgumentError:
        fail("the database URL is not one such as `sqlite:///data/policy-engine.db`")
    for warning in loaded.warnings:
        click.echo(f"policy-engine: {warning}", err=True)
    if url.get_backend_name() == "sqlite" and not (url.database and Path(url.database).is_file()):
        fail(f"there is no database `{url.database or ''}`")
    return settings


def refuse_own_files(settings: Settings, target: Path) -> None:
    """Refuse to write where the store itself lives."""
    url = make_url(settings.database_url)
    wanted = target.resolve()
    own = [settings.key_path.resolve(), (settings.data_path / "spool").resolve()]
    if url.get_backend_name() == "sqlite" and url.database:
        database = Path(url.database).resolve()
        own.append(database.with_name(f"{database.name}-writers"))
        own += [database.with_name(f"{database.name}{suffix}") for suffix in ("", "-wal", "-shm")]
    if any(wanted == path or path in wanted.parents for path in own):
        fail(f"`{target}` belongs to the store itself")


def author() -> str:
    """Return who uses the command."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as containers have them
        return str(os.getuid())


@contextmanager
def opened(settings: Settings, busy_seconds: float = BUSY_SECONDS) -> Iterator[Database]:
    """Give the database of a store; nobody waits for one that does not answer.

    Raises:
        StateError: It cannot be used.
    """
    database = Database(settings.database_url, busy_seconds=busy_seconds)
    database.watch()
    try:
        yield database
    finally:
        database.close()


@contextmanager
def written(settings: Settings) -> Iterator[Store]:
    """Open a store to write to it, beside a service that may do so too.

    Raises:
        StateError: It cannot be used.
    """
    store = Store(settings.store_options)
    store.start()
    try:
        yield store
    finally:
        store.stop()


def transact(store: Store, apply: Callable[[Transaction], T], positions: int) -> T:
    """Carry out a transaction; where others are writing, try again for a while.

    Raises:
        BusyError, StoreUnavailableError: Nothing was changed.
    """
    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return store.writer.transact(apply, positions)
        except (BusyError, StoreUnavailableError):
            if time.monotonic() > end:
                raise


def plainly(error: Exception) -> str:
    """Return what an error is about; one of the system names the file."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"cannot use `{os.fspath(error.filename)}`: {error.strerror}"
    return str(error)
