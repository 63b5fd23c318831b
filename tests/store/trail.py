"""An audit trail to verify: two writers, all streams, several checkpoints, a key that was replaced."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from typing import Any

from sqlalchemy import Connection
from tests.store.stores import Stores, checked, flush, patiently

from policy_engine.signing import new_key
from policy_engine.store.checkpoints import endorse_key
from policy_engine.store.database import Database
from policy_engine.store.faults import Fault
from policy_engine.store.keys import KeyDirectory
from policy_engine.store.opened import Store
from policy_engine.store.options import DEFAULT_TENANT
from policy_engine.store.revisions import Documents, Revision, make_parts
from policy_engine.store.verify import Report, verify

CHECKPOINTS = 6
CLIENTS = ("north", "south", "east", "west")


def write_trail(stores: Stores) -> tuple[Store, Store]:
    """Write a trail with two stores, which are left open; a few entries come after the last checkpoint."""
    one, two = stores(name="one"), stores(name="two")
    for store in (one, two):
        only_when_told(store)
    for number in range(CHECKPOINTS):
        record_some(one, number)
        record_some(two, number)
        commit_revision(one if number % 2 else two, number)
        if number == CHECKPOINTS // 2:
            replace_key(one)
        checkpoint(two if number % 2 else one)
    record_some(one, CHECKPOINTS)
    record_some(two, CHECKPOINTS)
    return one, two


def only_when_told(store: Store) -> None:
    """Let a store make no checkpoint of its own accord until it ends."""
    store.signer._last = inf


def checkpoint(store: Store) -> None:
    """Make a checkpoint over what all stores have written."""
    assert patiently(lambda: store.writer.transact(lambda transaction: store.signer.sign(transaction.connection)))


def record_some(store: Store, number: int) -> None:
    """Record a few entries of each kind, and wait until they are written."""
    for client in CLIENTS:
        port = 22 if client == "east" else 8000 + number
        store.writer.record_decisions([checked(client_id=client, dst_port=port)], "10.0.0.1")
        store.events.record("POLICY_UPDATED", {"policy_id": f"{client}-{number}"})
    store.writer.record_decisions([checked("fl_client_training", operation="cheat", client_id="north")])
    store.writer.record_decisions([checked(dst_port=port, client_id=CLIENTS[port % 4]) for port in range(20, 26)])
    flush(store)


def commit_revision(store: Store, number: int) -> None:
    """Add the revision that follows: a policy comes, the one before changes, the one before that goes."""
    policies = [_policies(at) for at in (number, number + 1)]
    parts, documents = make_parts(
        *(Documents(these, {"door": {"default": "deny"}} if n else {}) for n, these in enumerate(policies))
    )
    revision = Revision(
        number=number + 1,
        parent=number or None,
        digest=f"sha256:{number:064x}",
        author="tests",
        reason="to have one",
        time=round(time.time(), 3),
        source="api",
        language_version=1,
        parts=parts,
    )
    patiently(lambda: store.revisions.commit(revision, documents, events=[("POLICY_CREATED", {"number": number})]))


def _policies(number: int) -> dict[str, dict[str, Any]]:
    return {
        f"policy-{at}": {"type": "door", "rules": [{"action": "allow"}], "priority": number}
        for at in range(max(0, number - 2), number)
    }


def replace_key(store: Store) -> None:
    """Sign with another key from now on."""
    old, key = store.keys.current(), new_key()
    patiently(
        lambda: store.writer.transact(
            lambda transaction: endorse_key(transaction.connection, DEFAULT_TENANT, key.public, old)
        )
    )
    store.keys.rotate(key)


def verified(url: str, keys: KeyDirectory, exported: bytes | None = None) -> Report:
    """Verify a store as it is."""
    with opened(url) as database, database.read() as connection:
        return verify(connection, DEFAULT_TENANT, keys.trusted(), exported=exported)


@contextmanager
def opened(url: str) -> Iterator[Database]:
    database = Database(url, busy_seconds=5)
    try:
        yield database
    finally:
        database.close()


@contextmanager
def changed(url: str) -> Iterator[Connection]:
    """Change a database as somebody would who has got hold of it."""
    with opened(url) as database, database.write() as connection:
        yield connection


def texts(faults: list[Fault]) -> str:
    return "\n".join(f"{fault.what}: {fault.text}" for fault in faults)
