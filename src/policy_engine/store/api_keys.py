"""API keys: who made them, what they allow, how long. What proves a key is kept as a hash alone."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, func, insert, select, update

from policy_engine.ids import uuid7
from policy_engine.model.errors import UnknownKeyError
from policy_engine.store import schema
from policy_engine.store.change import Transaction
from policy_engine.store.database import Database, serialise
from policy_engine.store.writer import Writer

_decode_roles = msgspec.json.Decoder(tuple[str, ...]).decode


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """One key. Times are seconds since 1970.

    Attributes:
        key_id: Names it in the API and in events.
        prefix: The part of it that is no secret.
        hash: What the whole is verified with.
        name: Whom or what it is for.
        roles: What it allows.
        client_id: The client that it is bound to.
        author: Who made it.
        last_used_at: To within a minute; None when it never was.
        revoked_at: None while it is valid.
    """

    key_id: str
    prefix: str
    hash: str
    name: str
    roles: tuple[str, ...]
    client_id: str | None
    author: str
    created_at: float
    expires_at: float | None = None
    last_used_at: float | None = None
    revoked_at: float | None = None

    def is_valid(self, now: float) -> bool:
        """Whether it may be used."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


class KeyPlace(NamedTuple):
    """Where the table stands: it is another one when any of these is."""

    generation: int
    seq: int
    keys: int


class ApiKeys:
    """The keys of one tenant, seen by all its processes."""

    def __init__(self, database: Database, tenant: str, writer: Writer) -> None:
        self._database = database
        self._tenant = tenant
        self._writer = writer

    def place(self) -> KeyPlace:
        """Return where the table stands.

        Raises:
            StoreUnavailableError: The store is away.
        """
        keys, store = schema.api_key, schema.store
        generation = select(store.c.subject_generation).where(store.c.tenant == self._tenant).scalar_subquery()
        query = select(generation, func.max(keys.c.seq), func.count()).where(keys.c.tenant == self._tenant)
        with self._database.read() as connection:
            row = connection.execute(query).one()
        return KeyPlace(row[0] or 0, row[1] or 0, row[2])

    def all(self) -> list[ApiKey]:
        """Return every key, the oldest first, revoked ones too.

        Raises:
            StoreUnavailableError: The store is away.
        """
        table = schema.api_key
        query = select(table).where(table.c.tenant == self._tenant).order_by(table.c.created_at, table.c.key_id)
        with self._database.read() as connection:
            return [_key_of(row) for row in connection.execute(query)]

    def create(
        self,
        prefix: str,
        hashed: str,
        *,
        name: str,
        roles: tuple[str, ...],
        author: str,
        client_id: str | None = None,
        expires_at: float | None = None,
    ) -> ApiKey:
        """Add a key.

        Raises:
            BusyError, StoreUnavailableError: As `Writer.transact`.
        """
        key = ApiKey(
            key_id=uuid7(),
            prefix=prefix,
            hash=hashed,
            name=name,
            roles=roles,
            client_id=client_id,
            author=author,
            created_at=round(time.time(), 3),
            expires_at=expires_at,
        )

        def apply(transaction: Transaction) -> ApiKey:
            serialise(transaction.connection, briefly=True)
            self._insert(transaction.connection, key)
            transaction.event("KEY_CREATED", {"author": author, **described(key)})
            return key

        return self._writer.transact(apply, 1)

    def create_first(self, prefix: str, hashed: str, *, name: str, roles: tuple[str, ...]) -> ApiKey | None:
        """Add a key if there has never been one; return it, None when there has.

        Raises:
            BusyError, StoreUnavailableError: As `Writer.transact`.
        """
        now = round(time.time(), 3)
        key = ApiKey(
            key_id=uuid7(),
            prefix=prefix,
            hash=hashed,
            name=name,
            roles=roles,
            client_id=None,
            author="serve",
            created_at=now,
        )

        def apply(transaction: Transaction) -> ApiKey | None:
            connection = transaction.connection
            serialise(connection, briefly=True)
            if self._next(connection) > 1:
                return None
            self._insert(connection, key)
            transaction.event("ADMIN_KEY_CREATED", {"author": key.author, **described(key)})
            return key

        return self._writer.transact(apply, 1)

    def change(self, key_id: str, changes: Mapping[str, Any], *, author: str) -> ApiKey:
        """Change the name, the roles or the end of a key; what changes nothing is no event.

        Raises:
            UnknownKeyError: There is no such key, or it is revoked.
            BusyError, StoreUnavailableError: As `Writer.transact`.
        """

        def apply(transaction: Transaction) -> ApiKey:
            connection = transaction.connection
            serialise(connection, briefly=True)
            before = self._get(connection, key_id)
            if before is None or before.revoked_at is not None:
                raise UnknownKeyError(key_id)
            after: ApiKey = msgspec.structs.replace(before, **changes)
            if after == before:
                return before
            self._update(connection, after)
            told = {"author": author, "key_id": key_id, "before": described(before), "after": described(after)}
            transaction.event("KEY_CHANGED", told)
            return after

        return self._writer.transact(apply, 1)

    def revoke(self, key_id: str, *, author: str) -> ApiKey:
        """Make a key invalid for good; one that is already stays as it is.

        Raises:
            UnknownKeyError: There is no such key.
            BusyError, StoreUnavailableError: As `Writer.transact`.
        """

        def apply(transaction: Transaction) -> ApiKey:
            connection = transaction.connection
            serialise(connection, briefly=True)
            before = self._get(connection, key_id)
            if before is None:
                raise UnknownKeyError(key_id)
            if before.revoked_at is not None:
                return before
            after: ApiKey = msgspec.structs.replace(before, revoked_at=round(time.time(), 3))
            self._update(connection, after)
            transaction.event("KEY_REVOKED", {"author": author, **described(after), "revoked_at": after.revoked_at})
            return after

        return self._writer.transact(apply, 1)

    def note_uses(self, used: Mapping[str, float]) -> None:
        """Write when keys were last used.

        Raises:
            BusyError, StoreUnavailableError: As `Writer.transact`.
        """
        table = schema.api_key

        def apply(transaction: Transaction) -> None:
            for key_id, moment in used.items():
                is_later = table.c.last_used_at.is_(None) | (table.c.last_used_at < moment)
                changed = update(table).where(*self._is(key_id), is_later).values(last_used_at=moment)
                transaction.connection.execute(changed)

        self._writer.transact(apply)

    def _is(self, key_id: str) -> tuple[ColumnElement[bool], ...]:
        table = schema.api_key
        return table.c.tenant == self._tenant, table.c.key_id == key_id

    def _get(self, connection: Connection, key_id: str) -> ApiKey | None:
        row = connection.execute(select(schema.api_key).where(*self._is(key_id))).one_or_none()
        return None if row is None else _key_of(row)

    def _next(self, connection: Connection) -> int:
        table = schema.api_key
        query = select(func.max(table.c.seq)).where(table.c.tenant == self._tenant)
        return (connection.execute(query).scalar() or 0) + 1

    def _insert(self, connection: Connection, key: ApiKey) -> None:
        values = {**_values(key), "tenant": self._tenant, "seq": self._next(connection)}
        connection.execute(insert(schema.api_key).values(values))

    def _update(self, connection: Connection, key: ApiKey) -> None:
        values = {**_values(key), "seq": self._next(connection)}
        del values["last_used_at"]  # another process may have written a later one
        connection.execute(update(schema.api_key).where(*self._is(key.key_id)).values(values))


def described(key: ApiKey) -> dict[str, Any]:
    """Return what events say of a key."""
    return {
        "key_id": key.key_id,
        "prefix": key.prefix,
        "name": key.name,
        "roles": list(key.roles),
        "client_id": key.client_id,
        "expires_at": key.expires_at,
    }


def _values(key: ApiKey) -> dict[str, Any]:
    return {**msgspec.structs.asdict(key), "roles": msgspec.json.encode(key.roles)}


def _key_of(row: Row[Any]) -> ApiKey:
    columns = {name: getattr(row, name) for name in ApiKey.__struct_fields__}
    return ApiKey(**{**columns, "roles": _decode_roles(bytes(row.roles))})
