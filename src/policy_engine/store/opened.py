"""A store, opened: the database with everything that reads and writes it."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable

from sqlalchemy import Connection, insert, select

from policy_engine.ids import PREFIX_BITS
from policy_engine.store import schema
from policy_engine.store.bundles import BundleStore
from policy_engine.store.checkpoints import Signer, register_key
from policy_engine.store.database import Database, serialise
from policy_engine.store.decisions import DecisionLog
from policy_engine.store.events import EventLog
from policy_engine.store.keys import KeyDirectory
from policy_engine.store.migrate import migrate
from policy_engine.store.options import StoreOptions
from policy_engine.store.redact import Redactor
from policy_engine.store.revisions import RevisionStore
from policy_engine.store.spool import Spool
from policy_engine.store.writer import Writer


class Store:
    """Everything that is kept.

    Attributes:
        decisions: The decision log, to read.
        events: The events of all processes.
        revisions: Every state of the policies.
        bundles: Which signed bundles were accepted.
        writer: Where everything that this process writes goes through.
    """

    def __init__(
        self, options: StoreOptions, *, told: Callable[[str, str | None], None] = lambda _code, _detail: None
    ) -> None:
        """Open the database, bring its tables up to date and take a writer's seat.

        Args:
            options: Where it is.
            told: Called with the code of a trouble and its text, or None when it is over.

        Raises:
            StateError: The database, the key or the data directory cannot be used.
        """
        self.options = options
        self.database = Database(options.url)
        self.keys = KeyDirectory(options.key_dir or options.data_dir / "keys")
        self.database.watch()
        try:
            migrate(self.database)
            self.store_id = identify(self.database, options.tenant, self.keys)
            self.signer = Signer(options.tenant, self.store_id, self.keys)
            self.writer = Writer(
                self.database,
                tenant=options.tenant,
                store_id=self.store_id,
                name=f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}",
                signer=self.signer,
                spool=Spool(options.data_dir / "spool", options.spool_bytes),
                redactor=Redactor(options.masked, options.personal),
                capacity=options.queue,
                keeps_decisions=options.keeps_decisions,
                told=told,
            )
            try:
                self.writer.adopt_orphans()
            except BaseException:
                self.writer.abandon()
                raise
        except BaseException:
            self.database.close()
            raise
        self.events = EventLog(self.database, options.tenant, self.store_id, self.writer)
        self.decisions = DecisionLog(self.database, options.tenant, self.store_id, options.personal)
        self.bundles = BundleStore(self.database, options.tenant, self.writer)
        self.revisions = RevisionStore(self.database, options.tenant, self.writer)

    def start(self) -> None:
        """Begin to write what is recorded."""
        self.writer.start()

    def stop(self) -> None:
        """Write what waits, and close."""
        self.writer.stop()
        self.database.close()


def identify(database: Database, tenant: str, keys: KeyDirectory) -> int:
    """Return the number that names a store; one that is new gets a name, and the key of this directory as its first.

    Raises:
        StateError: The database or the key cannot be used.
    """
    with database.read() as connection:
        known = _identity(connection, tenant)
    if known is not None:
        return known
    key = keys.make().public
    with database.write() as connection:
        serialise(connection)
        known = _identity(connection, tenant)
        if known is None:
            known = secrets.randbits(PREFIX_BITS)
            connection.execute(insert(schema.store).values(tenant=tenant, store_id=known, subject_generation=0))
            register_key(connection, tenant, key)
    return known


def _identity(connection: Connection, tenant: str) -> int | None:
    table = schema.store
    store_id: int | None = connection.execute(select(table.c.store_id).where(table.c.tenant == tenant)).scalar()
    return store_id
