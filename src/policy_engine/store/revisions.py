"""Revisions: every state of all policies, types and functions, append-only."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, and_, func, insert, select, update

from policy_engine.model.errors import ConflictError, UnknownRevisionError
from policy_engine.model.frozen import EMPTY
from policy_engine.store import schema
from policy_engine.store.change import Transaction
from policy_engine.store.database import Database, serialise
from policy_engine.store.writer import Writer

POLICY = "policy"
TYPE = "type"
FUNCTION = "function"
CHANNEL = "policy_engine"
"""The PostgreSQL channel on which a new revision is announced."""

FUNCTIONS_PATH = "functions:"
"""What stands before the path of a directory of functions, to tell its imports from those of policy files."""

_MAX = (1 << 63) - 1


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What a revision did to one policy, type or function.

    Attributes:
        kind: "policy", "type" or "function".
        action: "created", "updated" or "deleted".
        sha256: Of the stored document, "" when it was deleted.
    """

    kind: str
    name: str
    action: str
    sha256: str


class Revision(msgspec.Struct, frozen=True, kw_only=True):
    """One revision, as it is stored and chained.

    Attributes:
        parent: The number of the one before; None for the first.
        digest: `sha256:` and the digest of the canonical JSON of all policies, types and, if there are any, functions.
        time: Seconds since 1970.
        source: What kind of change it was: "api", "file", "import", "bundle", "rollback", "restore".
        parts: What changed.
    """

    number: int
    parent: int | None
    digest: str
    author: str
    reason: str
    time: float
    source: str
    language_version: int
    parts: list[Part]


class Head(NamedTuple):
    """The newest revision, in short."""

    number: int
    digest: str
    language_version: int


class Documents(NamedTuple):
    """All policies, types and functions of one revision, as they were written."""

    policies: dict[str, dict[str, Any]]
    types: dict[str, Any]
    functions: dict[str, dict[str, Any]] = EMPTY

    def of(self, kind: str) -> dict[str, Any]:
        """Return those of one kind."""
        return {POLICY: self.policies, TYPE: self.types, FUNCTION: self.functions}[kind]


class Import(NamedTuple):
    """What was taken last from a policy file, and which revision held it then."""

    fingerprint: str
    number: int


_decode = msgspec.json.Decoder(Revision).decode


class RevisionReader:
    """The revisions of one tenant, to read."""

    def __init__(self, database: Database, tenant: str) -> None:
        self._database = database
        self._tenant = tenant

    def head(self) -> Head | None:
        """Return the newest revision, None in an empty store.

        Raises:
            StoreUnavailableError: The database is away.
        """
        with self._database.read() as connection:
            return _head(connection, self._tenant)

    def documents(self, number: int | None = None) -> tuple[Head, Documents]:
        """Return a revision, the newest by default, with all that it holds.

        Raises:
            UnknownRevisionError: There is none of that number.
            StoreUnavailableError: The database is away.
        """
        table = schema.revision
        with self._database.read() as connection:
            if number is None:
                head = _head(connection, self._tenant)
            else:
                query = select(table.c.number, table.c.digest, table.c.language_version)
                row = connection.execute(
                    query.where(table.c.tenant == self._tenant, table.c.number == _bounded(number))
                ).first()
                head = Head(*row) if row else None
            if head is None:
                raise UnknownRevisionError(number or 0)
            return head, _documents(connection, self._tenant, head.number)

    def get(self, number: int) -> Revision:
        """Return what is known of one revision.

        Raises:
            UnknownRevisionError: There is none of that number.
            StoreUnavailableError: The database is away.
        """
        table = schema.revision
        with self._database.read() as connection:
            query = select(table.c.body).where(table.c.tenant == self._tenant, table.c.number == _bounded(number))
            body = connection.execute(query).scalar()
        if body is None:
            raise UnknownRevisionError(number)
        return _decode(bytes(body))

    def newest(self, *, before: int | None = None, limit: int = 100) -> list[Revision]:
        """Return revisions, newest first, below a number.

        Raises:
            StoreUnavailableError: The database is away.
        """
        table = schema.revision
        query = select(table.c.body).where(table.c.tenant == self._tenant)
        if before is not None:
            query = query.where(table.c.number < _bounded(before))
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(table.c.number.desc()).limit(_bounded(limit))).scalars().all()
        return [_decode(bytes(body)) for body in rows]

    def of_policy(
        self, policy_id: str, *, before: int | None = None, limit: int = 100
    ) -> list[tuple[Revision, dict[str, Any] | None]]:
        """Return the revisions that changed a policy, newest first, each with the policy as it was then.

        Raises:
            StoreUnavailableError: The database is away.
        """
        part, revision = schema.part, schema.revision
        same = and_(revision.c.tenant == part.c.tenant, revision.c.number == part.c.number)
        query = (
            select(revision.c.body, part.c.document)
            .join(revision, same)
            .where(part.c.tenant == self._tenant, part.c.kind == POLICY, part.c.name == policy_id)
        )
        if before is not None:
            query = query.where(part.c.number < _bounded(before))
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(part.c.number.desc()).limit(_bounded(limit))).all()
        return [(_decode(bytes(row.body)), _load(row.document)) for row in rows]

    def imported(self, path: str) -> Import | None:
        """Return what was imported last from a policy file.

        Raises:
            StoreUnavailableError: The database is away.
        """
        with self._database.read() as connection:
            return _imported(connection, self._tenant, path)

    def newest_import(self) -> Import | None:
        """Return what was imported last from any policy file.

        Raises:
            StoreUnavailableError: The database is away.
        """
        table = schema.imported
        query = select(table.c.fingerprint, table.c.number).where(
            table.c.tenant == self._tenant, table.c.path.not_like(f"{FUNCTIONS_PATH}%")
        )
        with self._database.read() as connection:
            row = connection.execute(query.order_by(table.c.number.desc()).limit(1)).first()
        return Import(row.fingerprint, row.number) if row else None


class RevisionStore(RevisionReader):
    """The revisions of one tenant.

    The contract: `commit` appends the revision whose number follows `parent`, or raises ConflictError and changes
    nothing if `parent` is not the newest any more. What it returned for has reached the disk. Numbers only rise.
    """

    def __init__(self, database: Database, tenant: str, writer: Writer) -> None:
        super().__init__(database, tenant)
        self._writer = writer

    def commit(
        self,
        revision: Revision,
        documents: Mapping[tuple[str, str], bytes | None],
        *,
        events: Sequence[tuple[str, dict[str, Any]]] = (),
        imported: Iterable[tuple[str, str]] = (),
        beside: Callable[[Transaction, int], None] | None = None,
    ) -> None:
        """Append a revision and the events that tell of it.

        Args:
            revision: Its parts name what `documents` holds.
            documents: Kind and name -> stored document, None where it is deleted.
            events: Types and details.
            imported: The path and the fingerprint of each file or directory it comes from.
            beside: Called with the transaction and the number: what else it does; it appends one entry.

        Raises:
            ConflictError: The parent is not the newest revision any more, or somebody else imported the same.
            BusyError, StoreUnavailableError: As `Writer.transact`.
        """

        def apply(transaction: Transaction) -> None:
            connection = transaction.connection
            serialise(connection, briefly=True)
            head = _head(connection, self._tenant)
            if (head.number if head else None) != revision.parent:
                raise ConflictError("another change came first")
            if head is not None and revision.number <= head.number:
                raise ConflictError(f"revision {revision.number} would not come after revision {head.number}")
            body = msgspec.json.encode(revision)
            columns = (revision.number, revision.digest, revision.language_version)
            transaction.batch.append("revision", transaction.position(), body, columns)
            rows = [
                {"tenant": self._tenant, "kind": kind, "name": name, "number": revision.number, "document": document}
                for (kind, name), document in documents.items()
            ]
            if rows:
                connection.execute(insert(schema.part), rows)
            for path, fingerprint in imported:
                _remember(connection, self._tenant, path, fingerprint, revision.number)
            if beside is not None:
                beside(transaction, revision.number)
            for event_type, details in events:
                transaction.event(event_type, details)
            announce(connection, revision.number)

        self._writer.transact(apply, len(events) + (1 if beside is None else 2))

    def remember_import(self, path: str, fingerprint: str, number: int) -> None:
        """Note that a policy file holds what a revision holds.

        Raises:
            BusyError, StoreUnavailableError: As `Writer.transact`.
        """
        self._writer.transact(
            lambda transaction: _remember(transaction.connection, self._tenant, path, fingerprint, number)
        )


def make_parts(before: Documents, after: Documents) -> tuple[list[Part], dict[tuple[str, str], bytes | None]]:
    """Return what lies between two states, and the documents to store for it."""
    parts: list[Part] = []
    documents: dict[tuple[str, str], bytes | None] = {}
    for kind in (TYPE, FUNCTION, POLICY):
        old, new = before.of(kind), after.of(kind)
        for name in sorted(old.keys() | new.keys()):
            if name in old and name in new and _same(old[name], new[name]):
                continue
            body = json.dumps(new[name]).encode() if name in new else None
            action = "deleted" if body is None else "updated" if name in old else "created"
            digest = "" if body is None else sha256(body).hexdigest()
            parts.append(Part(kind=kind, name=name, action=action, sha256=digest))
            documents[kind, name] = body
    return parts, documents


def _bounded(number: int) -> int:
    """Return a number that every database takes, in the place of one that no revision and no page has."""
    return max(-1, min(number, _MAX))


def _same(one: Any, other: Any) -> bool:
    return one is other or json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _head(connection: Connection, tenant: str) -> Head | None:
    table = schema.revision
    query = select(table.c.number, table.c.digest, table.c.language_version).where(table.c.tenant == tenant)
    row = connection.execute(query.order_by(table.c.number.desc()).limit(1)).first()
    return Head(*row) if row else None


def _documents(connection: Connection, tenant: str, number: int) -> Documents:
    part = schema.part
    newest = (
        select(part.c.kind, part.c.name, func.max(part.c.number).label("number"))
        .where(part.c.tenant == tenant, part.c.number <= number)
        .group_by(part.c.kind, part.c.name)
        .subquery()
    )
    same = and_(part.c.kind == newest.c.kind, part.c.name == newest.c.name, part.c.number == newest.c.number)
    query = select(part.c.kind, part.c.name, part.c.document).join(newest, same).where(part.c.tenant == tenant)
    found = Documents({}, {}, {})
    for row in connection.execute(query.order_by(part.c.kind, part.c.name)):
        document = _load(row.document)
        if document is not None:
            found.of(row.kind)[row.name] = document
    return found


def _load(document: Any) -> dict[str, Any] | None:
    return None if document is None else json.loads(bytes(document))


def _imported(connection: Connection, tenant: str, path: str) -> Import | None:
    table = schema.imported
    query = select(table.c.fingerprint, table.c.number).where(table.c.tenant == tenant, table.c.path == path)
    row = connection.execute(query).first()
    return Import(row.fingerprint, row.number) if row else None


def _remember(connection: Connection, tenant: str, path: str, fingerprint: str, number: int) -> None:
    table = schema.imported
    key = (table.c.tenant == tenant, table.c.path == path)
    known = connection.execute(update(table).where(*key).values(fingerprint=fingerprint, number=number))
    if not known.rowcount:
        connection.execute(insert(table).values(tenant=tenant, path=path, fingerprint=fingerprint, number=number))


def announce(connection: Connection, number: int) -> None:
    """Tell other processes of a revision, once the transaction is committed."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_notify(CHANNEL, str(number))))


def changed_names(parts: Iterable[Part], kind: str) -> list[str]:
    """Return the names of one kind that a revision changed."""
    return [part.name for part in parts if part.kind == kind]
