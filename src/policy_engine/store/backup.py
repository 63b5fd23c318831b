"""Backups: everything of a store in one SQLite file, whatever database the store is in."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec
from sqlalchemy import Connection, Table, create_engine, delete, func, insert, select, update
from sqlalchemy.exc import DBAPIError

from policy_engine.ids import SequenceIds
from policy_engine.model.errors import StateError
from policy_engine.store import schema
from policy_engine.store.batch import Batch, FencedError, insert_rows, open_block
from policy_engine.store.chain import Link
from policy_engine.store.change import Transaction
from policy_engine.store.checkpoints import add_checkpoint, knows_key
from policy_engine.store.database import Database, serialise, translated
from policy_engine.store.keys import KeyDirectory
from policy_engine.store.ledger import register_writer, start_chain
from policy_engine.store.migrate import migrate
from policy_engine.store.position import Positions
from policy_engine.store.revisions import Revision, announce
from policy_engine.store.seat import is_in_use, take_seat

_ROWS = 1000
_HEADER_BYTES = 20
_WAL_MODE = b"\x02\x02"
_PAGES = 2000

Progress = Callable[[int, int], None]
"""Called with what is done and what there is to do."""


class Restored(NamedTuple):
    """What a restore did.

    Attributes:
        number: The revision that holds the policies of the backup now.
        backed_up: The revision that held them in the backup.
    """

    number: int
    backed_up: int


def back_up(database: Database, target: Path, progress: Progress) -> None:
    """Write everything to a file, as it is at one moment, while others go on writing.

    The file can be read by its owner alone: it holds the keys of the pseudonyms.

    Raises:
        StateError: The database cannot be read, or the file cannot be written; there is no file then.
    """
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        try:
            if database.path is not None:
                _copy_pages(database.path, draft, progress)
            else:
                _copy_tables(database, draft, progress)
            _sync(draft)
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise StateError(f"cannot write `{target}`: {error.strerror or error}") from error
    except sqlite3.Error as error:
        raise StateError(f"cannot write `{target}`: {error}") from error


def _copy_pages(source: Path, target: Path, progress: Progress) -> None:
    with _closing(source) as reader, _closing(target) as writer:
        reader.backup(writer, pages=_PAGES, progress=lambda _, left, total: progress(total - left, total))
        writer.execute("PRAGMA journal_mode=DELETE").close()


@contextmanager
def _closing(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(path, timeout=30)
    try:
        yield connection
    finally:
        connection.close()


def _copy_tables(database: Database, target: Path, progress: Progress) -> None:
    copy = Database(f"sqlite:///{target}", busy_seconds=30)
    try:
        migrate(copy)
        with copy.write() as writer, database.read() as reader:
            _copy_rows(reader, writer, copy.url, _tables(), progress)
    finally:
        copy.close()
    with _closing(target) as connection:
        connection.execute("PRAGMA journal_mode=DELETE").close()


def _copy_rows(reader: Connection, writer: Connection, target: str, tables: list[Table], progress: Progress) -> None:
    counts = {table: reader.execute(select(func.count()).select_from(table)).scalar_one() for table in tables}
    done, total = 0, sum(counts.values())
    for table in tables:
        rows = reader.execution_options(yield_per=_ROWS).execute(select(table))
        for part in rows.partitions(_ROWS):
            with translated(target):
                insert_rows(writer, table, [tuple(row) for row in part])
            done += len(part)
            progress(done, total)


def _tables() -> list[Table]:
    return list(schema.metadata.sorted_tables)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def restore(
    database: Database, tenant: str, source: Path, keys: KeyDirectory, *, author: str, replace: bool, progress: Progress
) -> Restored:
    """Replace everything in a store by a backup, all or nothing, while services may be running on it.

    What was recorded since the backup is gone. The policies come into force as a new revision, so that numbers rise.
    Clients that were erased since stay erased, and no bundle older than the last that was accepted comes back.

    Args:
        database: The database of the store; one that is new is made.
        tenant: Whose content it is.
        source: The backup.
        keys: Where the key is that signs checkpoints.
        author: Who wants it.
        replace: Whether the store may be another one than the one that was backed up.
        progress: Called as it goes on.

    Raises:
        StateError: The backup cannot be read or is not one, or the database cannot be written; nothing was changed.
    """
    if not source.is_file():
        raise StateError(f"there is no backup `{source}`")
    _check_file(source)
    engine = create_engine("sqlite://", creator=lambda: _read_only(source))
    try:
        migrate(database)
        with engine.connect() as reader, database.write() as writer:
            serialise(writer)
            if _check(reader, writer, tenant, source, replace=replace) and is_in_use(database):
                raise StateError("a service uses the store: stop it before another store takes its place")
            return _Restoration(reader, writer, tenant).run(database, keys, author, progress)
    except (DBAPIError, FencedError, TypeError, ValueError) as error:
        raise StateError(f"`{source}` is not a whole backup; nothing was restored") from error
    finally:
        engine.dispose()


def _read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1", uri=True)


def _check_file(source: Path) -> None:
    """Refuse what is not a file that `back_up` wrote: a copy of a database in use is not whole without its log."""
    with source.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    log = source.with_name(f"{source.name}-wal")
    if header[18:20] == _WAL_MODE or (log.exists() and log.stat().st_size):
        raise StateError(f"`{source}` is a copy of a database, not a backup: make one with `policy-engine backup`")


def _check(reader: Connection, writer: Connection, tenant: str, source: Path, *, replace: bool) -> bool:
    """Refuse what cannot be restored; return whether it would turn the store into another one."""
    try:
        backed_up = reader.execute(select(schema.store.c.store_id).where(schema.store.c.tenant == tenant)).scalar()
    except DBAPIError as error:
        raise StateError(f"`{source}` is not a backup of a store") from error
    if backed_up is None:
        raise StateError(f"`{source}` is not a backup of a store")
    present = writer.execute(select(schema.store.c.store_id).where(schema.store.c.tenant == tenant)).scalar()
    if reader.execute(select(func.max(schema.revision.c.number))).scalar() is None:
        raise StateError(f"`{source}` is not a whole backup: it holds no revision")
    if present is not None and present != backed_up and not replace:
        raise StateError(f"`{source}` is a backup of another store than the one in this database")
    return present is not None and present != backed_up


class _Restoration:
    """One restore, inside its transaction."""

    def __init__(self, reader: Connection, writer: Connection, tenant: str) -> None:
        self._reader = reader
        self._writer = writer
        self._tenant = tenant

    def run(self, database: Database, keys: KeyDirectory, author: str, progress: Progress) -> Restored:
        head = self._head(self._writer)
        erased, revoked = self._erased(), self._revoked()
        held = self._writer.execute(select(schema.emergency_stop)).all()
        known_keys = self._writer.execute(select(schema.audit_key)).all()
        bundles = self._writer.execute(select(schema.bundle)).all()
        last = self._writer.execute(select(func.max(schema.chain.c.position))).scalar() or 0
        generation = self._generation()
        for table in reversed(_tables()):
            self._writer.execute(delete(table))
        _copy_rows(self._reader, self._writer, database.url, _tables(), progress)
        self._keep_keys(known_keys)
        self._keep_bundles(bundles)
        self._keep_frozen(held)
        self._erase_again(erased)
        self._revoke_again(revoked)
        self._forget_keys(generation)
        return self._add_revision(database, keys, author, head, last)

    def _forget_keys(self, before: int) -> None:
        """Let running processes forget the keys that they know: the generation becomes one that none has seen."""
        following = max(before, self._generation()) + 1
        table = schema.store
        self._writer.execute(update(table).where(table.c.tenant == self._tenant).values(subject_generation=following))

    def _generation(self) -> int:
        table = schema.store
        query = select(table.c.subject_generation).where(table.c.tenant == self._tenant)
        return self._writer.execute(query).scalar() or 0

    def _head(self, connection: Connection) -> int:
        return connection.execute(select(func.max(schema.revision.c.number))).scalar() or 0

    def _erased(self) -> list[str]:
        """Return the pseudonyms of clients that were erased here."""
        return list(self._writer.execute(select(schema.erased.c.pseudonym)).scalars())

    def _erase_again(self, pseudonyms: list[str]) -> None:
        """Delete the keys of clients that were erased since the backup."""
        known = set(self._erased())
        rows = [{"tenant": self._tenant, "pseudonym": name} for name in pseudonyms if name not in known]
        if rows:
            self._writer.execute(insert(schema.erased), rows)
        gone = select(schema.erased.c.pseudonym)
        self._writer.execute(delete(schema.subject).where(schema.subject.c.pseudonym.in_(gone)))

    def _revoked(self) -> list[Any]:
        """Return the API keys that were revoked here."""
        table = schema.api_key
        query = select(table.c.key_id, table.c.revoked_at).where(table.c.revoked_at.is_not(None))
        return list(self._writer.execute(query))

    def _revoke_again(self, rows: list[Any]) -> None:
        """Let API keys that were revoked since the backup stay so."""
        table = schema.api_key
        for row in rows:
            still = table.c.key_id == row.key_id, table.c.revoked_at.is_(None)
            self._writer.execute(update(table).where(*still).values(revoked_at=row.revoked_at))

    def _keep_frozen(self, rows: Any) -> None:
        """Keep emergency stops: going back to a backup lifts none."""
        table = schema.emergency_stop
        present = set(self._writer.execute(select(table.c.freeze_id)).scalars())
        missing = [dict(row._mapping) for row in rows if row.freeze_id not in present]  # noqa: SLF001 - its public name
        if missing:
            self._writer.execute(insert(table), missing)

    def _keep_keys(self, rows: Any) -> None:
        """Keep keys that came after the backup: they may be in use."""
        table = schema.audit_key
        present = set(self._writer.execute(select(table.c.key_id)).scalars())
        missing = [dict(row._mapping) for row in rows if row.key_id not in present]  # noqa: SLF001 - its public name
        if missing and present:
            self._writer.execute(insert(table), missing)

    def _keep_bundles(self, rows: Any) -> None:
        """Keep what was accepted since the backup: no bundle before it may come back."""
        table = schema.bundle
        for row in rows:
            key = (table.c.tenant == row.tenant, table.c.name == row.name)
            version = self._writer.execute(select(table.c.version).where(*key)).scalar()
            if version is None or version < row.version:
                self._writer.execute(delete(table).where(*key))
                self._writer.execute(insert(table), [dict(row._mapping)])  # noqa: SLF001 - its public name

    def _add_revision(self, database: Database, keys: KeyDirectory, author: str, head: int, last: int) -> Restored:
        """Make the policies of the backup the newest revision, and say in the log that there was a restore."""
        backed_up = self._head(self._writer)
        number = max(head, backed_up) + 1
        seat = take_seat(database)
        try:
            register_writer(self._writer, self._tenant, seat.number, f"restore by {author}")
            links = self._links(seat.number)
            positions = Positions(seat.number, max(last, *(link.position for link in links.values())))
            end = positions.take(2)
            batch = Batch(
                self._writer,
                self._tenant,
                seat.number,
                links,
                open_block(self._writer, self._tenant, seat.number, links["decision"]),
            )
            store_id = _number(self._writer, schema.store.c.store_id)
            transaction = Transaction(batch, [end - (1 << 10), end], SequenceIds(store_id))
            if backed_up:
                self._append_revision(transaction, backed_up, number, author)
            details = {"author": author, "policy_version": number, "backed_up_version": backed_up}
            transaction.event("STORE_RESTORED", details)
            batch.write()
            self._sign(keys, store_id)
            announce(self._writer, number)
        finally:
            seat.release()
        return Restored(number, backed_up)

    def _sign(self, keys: KeyDirectory, store_id: int) -> None:
        """Add a checkpoint; where the key is not at hand, the first service that has it does so."""
        try:
            key = keys.current()
        except StateError:
            return
        if knows_key(self._writer, self._tenant, key.public):
            add_checkpoint(self._writer, self._tenant, store_id, key)

    def _append_revision(self, transaction: Transaction, backed_up: int, number: int, author: str) -> None:
        table = schema.revision
        row = self._writer.execute(
            select(table.c.digest, table.c.language_version).where(table.c.number == backed_up)
        ).one()
        revision = Revision(
            number=number,
            parent=backed_up,
            digest=row.digest,
            author=author,
            reason="restored from a backup",
            time=round(time.time(), 3),
            source="restore",
            language_version=row.language_version,
            parts=[],
        )
        columns = (number, row.digest, row.language_version)
        transaction.batch.append("revision", transaction.position(), msgspec.json.encode(revision), columns)

    def _links(self, writer: int) -> dict[str, Link]:
        chain = schema.chain
        rows = self._writer.execute(select(chain).where(chain.c.tenant == self._tenant, chain.c.writer == writer))
        links = {row.stream: Link(row.seq, row.position, bytes(row.hash), row.items) for row in rows}
        for stream in schema.STREAMS:
            if stream not in links:
                links[stream] = start_chain(self._writer, self._tenant, writer, stream)
        return links


def _number(connection: Connection, column: Any) -> int:
    """Return a number of the one row that describes a store."""
    return int(connection.execute(select(column)).scalar_one())
