"""`policy-engine erase`: make a client's personal data unreadable for good."""

from __future__ import annotations

from typing import Any

import click

from policy_engine.cli.output import DENIED, fail
from policy_engine.cli.stored import BUSY_SECONDS, author, find_store, plainly, store_options, transact, written
from policy_engine.config import Settings
from policy_engine.model.errors import PolicyEngineError
from policy_engine.store.change import Transaction
from policy_engine.store.options import DEFAULT_TENANT
from policy_engine.store.subjects import erase as erase_subject


@click.command()
@click.argument("client")
@click.option("--yes", is_flag=True, help="Do not ask.")
@store_options
def erase(client: str, *, yes: bool, **where: Any) -> None:
    """Erase CLIENT: delete the key under which the store keeps its personal data.

    The entries stay, and with them the proof that nothing was altered; nobody can read any more whom they are about.
    Backups of the database still hold the key.

    Exit code 1 when there is no such client, 2 when it could not be erased.
    """
    settings = find_store(where)
    if not yes and not click.confirm(
        f"Delete the key of `{client}`? Its personal data cannot be read ever again", err=True
    ):
        fail("nothing was erased")
    try:
        pseudonym = _erase(settings, client)
    except (PolicyEngineError, OSError) as error:
        fail(plainly(error))
    if pseudonym is None:
        click.echo(f"policy-engine: there is no client `{client}`", err=True)
        raise SystemExit(DENIED)
    click.echo(f"`{client}` is erased; what is stored names `{pseudonym}`")


def _erase(settings: Settings, client: str) -> str | None:
    """Delete a key and say so in the log; return the pseudonym, None when there is no such client."""

    def apply(transaction: Transaction) -> str | None:
        pseudonym = erase_subject(transaction.connection, DEFAULT_TENANT, client)
        if pseudonym is not None:
            transaction.event("CLIENT_ERASED", {"pseudonym": pseudonym, "author": author()})
        return pseudonym

    with written(settings) as store:
        pseudonym = transact(store, apply, 1)
        if not store.database.scrub("subject", BUSY_SECONDS):
            click.echo(
                "policy-engine: the key is deleted, but still on the disk until the service is stopped", err=True
            )
        return pseudonym
