"""What verifying makes of checkpoints that were kept elsewhere, and of keys."""

from __future__ import annotations

import json
from base64 import b64decode

import pytest
from sqlalchemy import delete, select, update
from tests.store.forgery import checkpoints, cut_back, entry, exported, head, recompute
from tests.store.stores import Stores
from tests.store.trail import CHECKPOINTS, changed, checkpoint, opened, record_some, verified, write_trail

from policy_engine.model.errors import StateError
from policy_engine.signing import PublicKey, new_key
from policy_engine.store import schema
from policy_engine.store.checkpoints import add_checkpoint, endorse_key
from policy_engine.store.keys import KeyDirectory
from policy_engine.store.opened import Store
from policy_engine.store.options import DEFAULT_TENANT
from policy_engine.store.verify import verify


@pytest.fixture
def trail(stores: Stores) -> tuple[Store, Store]:
    return write_trail(stores)


@pytest.fixture
def keys(trail: tuple[Store, Store]) -> KeyDirectory:
    return trail[0].keys


def test_removed_checkpoints_are_found_with_an_exported_one(stores: Stores, keys: KeyDirectory) -> None:
    kept = exported(stores.url)
    with changed(stores.url) as connection:
        stated = checkpoints(connection)[-2]
        connection.execute(delete(schema.checkpoint).where(schema.checkpoint.c.number == CHECKPOINTS))
        covered = head(stated, "event", 1)
        body = json.loads(entry(connection, "event", 1, covered + 2)[1])
        body["details"] = {"policy_id": "never"}
        recompute(connection, "event", 1, covered + 2, json.dumps(body).encode())
    assert verified(stores.url, keys).ok, "without it nothing shows"
    missing, altered = verified(stores.url, keys, kept).faults
    assert (missing.what, missing.checkpoint) == ("checkpoint_missing", CHECKPOINTS)
    assert (altered.what, altered.stream, altered.writer) == ("altered", "event", 1)
    assert "exported checkpoint" in altered.text


def test_a_database_that_was_set_back_is_found_with_an_exported_checkpoint(stores: Stores, keys: KeyDirectory) -> None:
    kept = exported(stores.url)
    with changed(stores.url) as connection:
        stated = checkpoints(connection)[2]
        connection.execute(delete(schema.checkpoint).where(schema.checkpoint.c.number > 3))
        cut_back(connection, stated)
    assert verified(stores.url, keys).ok, "without it nothing shows"
    faults = verified(stores.url, keys, kept).faults
    assert faults[0].what == "checkpoint_missing"
    assert {fault.what for fault in faults[1:]} == {"missing"}


def test_an_exported_checkpoint_of_another_store(stores: Stores, keys: KeyDirectory) -> None:
    kept = exported(stores.url)
    with changed(stores.url) as connection:
        for name in ("decision", "event", "revision", "part", "block", "chain", "checkpoint", "writer"):
            connection.execute(delete(schema.metadata.tables[name]))
    faults = verified(stores.url, keys, kept).faults
    assert faults[0].what == "checkpoint_missing"
    assert len(faults) > 1


@pytest.mark.parametrize(
    "content", [b"", b"{}", b'{"payloadType": "a", "payload": "?", "signatures": []}', b'{"payload": 1}', b"\xff"]
)
def test_what_is_no_exported_checkpoint(stores: Stores, keys: KeyDirectory, content: bytes) -> None:
    with pytest.raises(StateError, match="not an exported checkpoint"):
        verified(stores.url, keys, content)


def test_an_exported_checkpoint_with_another_signature(stores: Stores, keys: KeyDirectory) -> None:
    envelope = json.loads(exported(stores.url))
    assert b64decode(envelope["payload"])
    envelope["signatures"][0]["sig"] = "AAAA"
    with pytest.raises(StateError, match="not signed by a trusted key"):
        verified(stores.url, keys, json.dumps(envelope).encode())


def test_what_an_old_exported_checkpoint_states(stores: Stores, trail: tuple[Store, Store], keys: KeyDirectory) -> None:
    old = exported(stores.url)
    record_some(trail[0], 20)
    checkpoint(trail[0])
    assert verified(stores.url, keys, old).ok


@pytest.mark.usefixtures("trail")
def test_the_first_key_is_enough_to_trust_those_after_it(stores: Stores) -> None:
    with opened(stores.url) as database, database.read() as connection:
        table = schema.audit_key
        rows = connection.execute(select(table).order_by(table.c.endorsed_by.is_not(None))).all()
        first, second = (PublicKey.of(bytes(row.public_key)) for row in rows)
        assert verify(connection, DEFAULT_TENANT, [first]).ok
        only_new = verify(connection, DEFAULT_TENANT, [second])
        nobody = verify(connection, DEFAULT_TENANT, [])
        stranger = verify(connection, DEFAULT_TENANT, [new_key().public])
    assert {fault.what for fault in only_new.faults} == {"key", "unsigned"}, "trust goes forward only"
    assert len([fault for fault in only_new.faults if fault.what == "unsigned"]) < CHECKPOINTS
    for report in (nobody, stranger):
        assert len([fault for fault in report.faults if fault.what == "unsigned"]) == CHECKPOINTS


@pytest.mark.parametrize("endorsed", ["by nobody", "by itself", "in the name of another"])
def test_a_foreign_key_that_signs_is_found(
    stores: Stores, trail: tuple[Store, Store], keys: KeyDirectory, endorsed: str
) -> None:
    foreign, table = new_key(), schema.audit_key
    with changed(stores.url) as connection:
        known = connection.execute(select(table).where(table.c.endorsed_by.is_(None))).one()
        endorse_key(connection, DEFAULT_TENANT, foreign.public, foreign)
        vouchers = {
            "by nobody": {"endorsed_by": None, "endorsement": None},
            "in the name of another": {"endorsed_by": known.key_id},
        }
        values = vouchers.get(endorsed)
        if values is not None:
            connection.execute(update(table).where(table.c.key_id == foreign.public.key_id).values(values))
        add_checkpoint(connection, DEFAULT_TENANT, trail[0].store_id, foreign)
    key, unsigned = verified(stores.url, keys).faults
    assert key.what == "key"
    assert foreign.public.key_id in key.text
    assert (unsigned.what, unsigned.checkpoint) == ("unsigned", CHECKPOINTS + 1)


def test_a_foreign_key_cannot_vouch_for_another_history(
    stores: Stores, trail: tuple[Store, Store], keys: KeyDirectory
) -> None:
    foreign = new_key()
    with changed(stores.url) as connection:
        covered = head(checkpoints(connection)[0], "event", 1)
        body = json.loads(entry(connection, "event", 1, covered)[1])
        body["details"] = {}
        recompute(connection, "event", 1, covered, json.dumps(body).encode())
        connection.execute(delete(schema.checkpoint))
        endorse_key(connection, DEFAULT_TENANT, foreign.public, foreign)
        add_checkpoint(connection, DEFAULT_TENANT, trail[0].store_id, foreign)
    assert {fault.what for fault in verified(stores.url, keys).faults} == {"key", "unsigned"}
