"""Which signed bundle was accepted last, so that no older one ever comes back."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, insert, select, update

from policy_engine.model.errors import SupersededError
from policy_engine.store import schema
from policy_engine.store.change import Transaction
from policy_engine.store.database import Database, serialise
from policy_engine.store.writer import Writer


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle that was accepted.

    Attributes:
        digest: The hash of its manifest, which names it.
        policies_digest: The digest of its policies, which the revision that holds them has too.
        signers: The ids of the trusted keys that signed it.
        policy_version: The revision that held its policies when it was accepted.
        author: Who brought it.
    """

    name: str
    version: int
    digest: str
    policies_digest: str
    signers: tuple[str, ...]
    created_at: datetime
    expires_at: datetime
    accepted_at: datetime
    policy_version: int
    author: str

    def details(self) -> dict[str, Any]:
        """Return what an event tells of it."""
        return {
            "name": self.name,
            "version": self.version,
            "digest": self.digest,
            "signers": list(self.signers),
            "expires_at": self.expires_at.isoformat(),
            "policy_version": self.policy_version,
            "author": self.author,
        }


_decode = msgspec.json.Decoder(Accepted).decode


class BundleStore:
    """The bundles of one tenant.

    The contract: what was accepted is remembered in the transaction that brings it into force, and the version of a
    name only rises, whichever processes accept at once.
    """

    def __init__(self, database: Database, tenant: str, writer: Writer) -> None:
        self._database = database
        self._tenant = tenant
        self._writer = writer

    def accepted(self, name: str) -> Accepted | None:
        """Return the bundle of a name that was accepted last.

        Raises:
            StoreUnavailableError: The database is away.
        """
        table = schema.bundle
        with self._database.read() as connection:
            body = connection.execute(select(table.c.body).where(*self._key(name))).scalar()
        return None if body is None else _decode(bytes(body))

    def remember(self, transaction: Transaction, accepted: Accepted) -> None:
        """Note, in a transaction that appends one entry, that a bundle is accepted, and tell of it.

        Raises:
            SupersededError: Another one was accepted first.
        """
        connection = transaction.connection
        serialise(connection, briefly=True)
        if self._version(connection, accepted.name) >= accepted.version:
            raise SupersededError("another process accepted a bundle first")
        self._note(transaction, accepted)

    def reinstate(self, transaction: Transaction, accepted: Accepted) -> None:
        """Note, as `remember` does, that the bundle which was accepted last is in force again.

        Raises:
            SupersededError: It is not the last one any more.
        """
        connection = transaction.connection
        serialise(connection, briefly=True)
        if self._version(connection, accepted.name) != accepted.version:
            raise SupersededError("another process accepted a bundle first")
        self._note(transaction, accepted)

    def _note(self, transaction: Transaction, accepted: Accepted) -> None:
        self._write(
            transaction.connection,
            accepted.name,
            version=accepted.version,
            digest=accepted.digest,
            body=msgspec.json.encode(accepted),
            refused="",
        )
        transaction.event("BUNDLE_ACTIVATED", accepted.details())

    def accept(self, accepted: Accepted) -> None:
        """Note that a bundle is accepted which holds the policies that are in force.

        Raises:
            SupersededError: Another one was accepted first.
            BusyError, StoreUnavailableError: As `Writer.transact`.
        """
        self._writer.transact(lambda transaction: self.remember(transaction, accepted), 1)

    def refuse(self, name: str, stamp: str, details: dict[str, Any]) -> bool:
        """Tell that a bundle is refused, unless the same was told last; return whether it was news.

        Args:
            name: What the bundle should have been called.
            stamp: What tells this refusal from others.
            details: Of the event.

        Raises:
            BusyError, StoreUnavailableError: As `Writer.transact`.
        """

        def apply(transaction: Transaction) -> bool:
            connection = transaction.connection
            serialise(connection, briefly=True)
            if self._refused(connection, name) == stamp:
                return False
            self._write(connection, name, refused=stamp)
            transaction.event("BUNDLE_REFUSED", details)
            return True

        with self._database.read() as connection:
            if self._refused(connection, name) == stamp:
                return False
        return self._writer.transact(apply, 1)

    def _key(self, name: str) -> tuple[Any, Any]:
        return schema.bundle.c.tenant == self._tenant, schema.bundle.c.name == name

    def _version(self, connection: Connection, name: str) -> int:
        return connection.execute(select(schema.bundle.c.version).where(*self._key(name))).scalar() or 0

    def _refused(self, connection: Connection, name: str) -> str | None:
        return connection.execute(select(schema.bundle.c.refused).where(*self._key(name))).scalar()

    def _write(self, connection: Connection, name: str, **values: Any) -> None:
        table = schema.bundle
        known = connection.execute(update(table).where(*self._key(name)).values(**values))
        if not known.rowcount:
            blank = {"version": 0, "digest": "", "body": None, "refused": ""}
            connection.execute(insert(table).values(tenant=self._tenant, name=name, **{**blank, **values}))
