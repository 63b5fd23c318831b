"""`policy-engine keys`: make, list and revoke API keys, beside a service or without one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

from policy_engine.cli.output import DENIED, fail, print_json
from policy_engine.cli.stored import BUSY_SECONDS, author, find_store, plainly, store_options, written
from policy_engine.config import Settings
from policy_engine.identity.principal import MAX_NAME
from policy_engine.identity.role import ROLES, client_problem
from policy_engine.keyring import Keyring
from policy_engine.model.errors import BusyError, PolicyEngineError, StoreUnavailableError, UnknownKeyError
from policy_engine.store.api_keys import ApiKey, ApiKeys, described
from policy_engine.store.options import DEFAULT_TENANT

T = TypeVar("T")

_DAY_SECONDS = 86_400


@click.group()
def keys() -> None:
    """Make, list and revoke API keys.

    A running service takes them up within a second.
    """


@keys.command()
@click.argument("name")
@click.option(
    "--role",
    "roles",
    type=click.Choice(list(ROLES)),
    multiple=True,
    required=True,
    metavar="ROLE",
    help=f"What it allows: {', '.join(ROLES)}; may be given again.",
)
@click.option("--client-id", help="The client that the role `client` is bound to.")
@click.option("--expires-in-days", type=click.FloatRange(0, min_open=True), help="When it ends.  [default: never]")
@store_options
def create(
    name: str, roles: tuple[str, ...], client_id: str | None, expires_in_days: float | None, **where: Any
) -> None:
    """Make a key for NAME, a person or a component, and print it: it cannot be shown again.

    Exit code 2 when there is no new key.
    """
    problem = client_problem(roles, client_id)
    if not name.strip() or len(name) > MAX_NAME or not name.isprintable():
        problem = f"a name has 1 to {MAX_NAME} printable characters"
    if problem:
        fail(problem)
    ends = None if expires_in_days is None else round(time.time() + expires_in_days * _DAY_SECONDS, 3)
    with _ring(find_store(where)) as ring:
        given = tuple(dict.fromkeys(roles))
        key, text = _patiently(lambda: ring.create(name, given, author=author(), client_id=client_id, expires_at=ends))
    click.echo(f"key `{key.key_id}` for {key.name}; it is shown this once:", err=True)
    click.echo(text)


@keys.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
@store_options
def list_keys(*, as_json: bool, **where: Any) -> None:
    """List all keys, revoked ones too; their secrets are kept nowhere.

    Exit code 2 when they cannot be read.
    """
    with _ring(find_store(where)) as ring:
        found = ring.all()
    if as_json:
        print_json([_shown(key) for key in found])
        return
    for key in found:
        click.echo(f"{key.key_id}  pe_{key.prefix}_...  {_state(key):<24}  {','.join(key.roles)}  {key.name}")


@keys.command()
@click.argument("key_id")
@store_options
def revoke(key_id: str, **where: Any) -> None:
    """Make the key KEY_ID invalid for good.

    Exit code 1 when there is no such key, 2 when it could not be revoked.
    """
    with _ring(find_store(where)) as ring:
        try:
            key = _patiently(lambda: ring.revoke(key_id, author=author()))
        except UnknownKeyError as error:
            click.echo(str(error), err=True)
            raise SystemExit(DENIED) from None
    click.echo(f"the key of {key.name} is revoked")


def _shown(key: ApiKey) -> dict[str, Any]:
    times = {"created_at": key.created_at, "last_used_at": key.last_used_at, "revoked_at": key.revoked_at}
    return {**described(key), "author": key.author, **times}


def _state(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return "revoked"
    if key.expires_at is None:
        return "valid"
    ends = datetime.fromtimestamp(key.expires_at, UTC).isoformat(" ", "minutes")
    return f"{'until' if key.is_valid(time.time()) else 'ended'} {ends[:16]}Z"


@contextmanager
def _ring(settings: Settings) -> Iterator[Keyring]:
    try:
        with written(settings) as store:
            yield Keyring(ApiKeys(store.database, DEFAULT_TENANT, store.writer))
    except (PolicyEngineError, OSError) as error:
        fail(plainly(error))


def _patiently(act: Callable[[], T]) -> T:
    """Change something; where others are writing, try again for a while.

    Raises:
        BusyError, StoreUnavailableError: Nothing was changed.
    """
    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return act()
        except (BusyError, StoreUnavailableError):
            if time.monotonic() > end:
                raise
