"""Emergency stops in the store: they outlive the process that was told of them, and bind all others."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import msgspec
from sqlalchemy import Connection, delete, insert, select

from policy_engine.model.errors import TooManyFreezesError, UnknownFreezeError
from policy_engine.model.freeze import MAX_FREEZES, Freeze
from policy_engine.store import schema
from policy_engine.store.change import Transaction
from policy_engine.store.database import Database, serialise
from policy_engine.store.privacy_rows import wake_others
from policy_engine.store.revisions import CHANNEL
from policy_engine.store.writer import Writer

_decode = msgspec.json.Decoder(Freeze).decode


class FreezeStore:
    """The emergency stops of one tenant.

    The contract: what a call returned for has reached the disk, with the event that tells of it; a call that raises
    has changed nothing. Whoever expires or lifts one first writes the event, nobody else does.
    """

    def __init__(self, database: Database, tenant: str, writer: Writer, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._tenant = tenant
        self._writer = writer
        self._clock = clock

    def stored(self) -> list[Freeze]:
        """Return those in force and those that have expired and were not cleared away yet, oldest first.

        Raises:
            StoreUnavailableError: The database is away.
        """
        with self._database.read() as connection:
            return self._read(connection)

    def add(self, freeze: Freeze) -> None:
        """Bring one into force.

        Raises:
            TooManyFreezesError: As many as there may be are in force.
            BusyError, StoreUnavailableError: As `Writer.transact`.
        """

        def apply(transaction: Transaction) -> None:
            connection = transaction.connection
            serialise(connection, briefly=True)
            if len(self._read(connection)) >= MAX_FREEZES:
                raise TooManyFreezesError(MAX_FREEZES)
            row = {"tenant": self._tenant, "freeze_id": freeze.freeze_id, "body": msgspec.json.encode(freeze)}
            connection.execute(insert(schema.emergency_stop), row)
            transaction.event("FREEZE_SET", msgspec.to_builtins(freeze))
            wake_others(connection, CHANNEL)

        self._writer.transact(apply, 1)

    def lift(self, freeze_id: str, *, author: str, reason: str) -> Freeze:
        """End one before its time and return it.

        Raises:
            UnknownFreezeError: There is none of that id.
            BusyError, StoreUnavailableError: As `Writer.transact`.
        """

        def apply(transaction: Transaction) -> Freeze:
            found = next((each for each in self._read(transaction.connection) if each.freeze_id == freeze_id), None)
            if found is None or not self._remove(transaction.connection, freeze_id):
                raise UnknownFreezeError(freeze_id)
            details = {"freeze_id": freeze_id, "scope": found.scope, "author": author, "reason": reason}
            transaction.event("FREEZE_LIFTED", {**details, "frozen_because": found.reason})
            wake_others(transaction.connection, CHANNEL)
            return found

        return self._writer.transact(apply, 1)

    def clear_away(self) -> int:
        """Remove those that have expired, and say so in the log; return how many that were.

        Raises:
            BusyError, StoreUnavailableError: As `Writer.transact`.
        """
        now = self._clock()
        expired = [each for each in self.stored() if not each.holds_at(now)]
        if not expired:
            return 0
        return self._writer.transact(lambda transaction: self._expire(transaction, expired), len(expired))

    def _expire(self, transaction: Transaction, expired: Sequence[Freeze]) -> int:
        removed = [each for each in expired if self._remove(transaction.connection, each.freeze_id)]
        for each in removed:
            details = {"freeze_id": each.freeze_id, "scope": each.scope, "frozen_because": each.reason}
            transaction.event("FREEZE_EXPIRED", details)
        return len(removed)

    def _remove(self, connection: Connection, freeze_id: str) -> bool:
        table = schema.emergency_stop
        of_this = (table.c.tenant == self._tenant, table.c.freeze_id == freeze_id)
        return connection.execute(delete(table).where(*of_this)).rowcount > 0

    def _read(self, connection: Connection) -> list[Freeze]:
        table = schema.emergency_stop
        rows = connection.execute(select(table.c.body).where(table.c.tenant == self._tenant)).scalars()
        return sorted((_decode(bytes(row)) for row in rows), key=lambda each: (each.at, each.freeze_id))
