"""What repeats or completes entries: columns to search by, the index of decisions, the documents of revisions."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, func, select

from policy_engine.store import schema
from policy_engine.store.encode import decode_entries
from policy_engine.store.faults import Fault, Faults
from policy_engine.store.item import entry_terms
from policy_engine.store.position import writer_of
from policy_engine.store.raw import is_number, rows
from policy_engine.store.revisions import Revision
from policy_engine.store.subjects import unseal
from policy_engine.store.terms import pack
from policy_engine.store.trust_proof import TrustSaid, trust_said

UNREADABLE = (msgspec.MsgspecError, zlib.error, ValueError, RecursionError)
"""What is raised for a body that does not hold what it should."""


class Said(NamedTuple):
    """What the body of an entry says.

    Attributes:
        columns: The columns that repeat it.
        items: How many items it holds.
        terms: What the index of decisions must know.
        revision: The revision, if it is one.
        trust: What it says of an entry of trust, if it does.
    """

    columns: tuple[Any, ...]
    items: int = 1
    terms: frozenset[int] = frozenset()
    revision: Revision | None = None
    trust: TrustSaid | None = None


class _EventType(msgspec.Struct):
    event_type: str


_decode_type = msgspec.json.Decoder(_EventType).decode
_decode_revision = msgspec.json.Decoder(Revision).decode


def _decision(body: bytes) -> Said:
    entries = [entry for _, entry in decode_entries(0, body)]
    terms = frozenset(number for entry in entries for number in entry_terms(entry))
    return Said((len(entries), pack(terms)), len(entries), terms)


def _event(body: bytes) -> Said:
    return Said((_decode_type(body).event_type,), trust=trust_said(body))


def _revision(body: bytes) -> Said:
    revision = _decode_revision(body)
    return Said((revision.number, revision.digest, revision.language_version), revision=revision)


READERS: Mapping[str, Callable[[bytes], Said]] = {"decision": _decision, "event": _event, "revision": _revision}
"""For each stream, what reads a body; each may raise what UNREADABLE lists."""


class _Run:
    """A stretch of decisions that one row of the index is about, as far as it was read."""

    def __init__(self, row: Sequence[Any]) -> None:
        self.row = row
        self.positions: list[int] = []
        self.count = 0
        self.terms: set[int] = set()
        self.doubtful = False

    @property
    def fits(self) -> bool:
        ends = (self.positions[0], self.positions[-1]) if self.positions else ()
        return self.doubtful or (*ends, self.count, pack(self.terms)) == tuple(self.row)


class Index:
    """Recomputes the index of decisions while these are read in order of position."""

    def __init__(self, connection: Connection, tenant: str, faults: Faults) -> None:
        self._faults = faults
        table = schema.block
        self._rows = self._sound(rows(connection, table, table.c.tenant == tenant, order=(table.c.first,)))
        self._ahead = next(self._rows, None)
        self._runs: dict[int, _Run] = {}
        self._bare: set[int] = set()

    def take(self, position: int, items: int, terms: Iterable[int] | None) -> None:
        """Take a row of decisions in; None instead of its terms when it is not what was stored."""
        self._open(position)
        writer = writer_of(position)
        run = self._runs.get(writer)
        if run is None or position > run.row[1]:
            if writer not in self._bare:
                self._bare.add(writer)
                self._fault(position, f"the index of decisions does not know the entry at {position}")
            return
        run.positions[1:] = [position]
        run.count += items
        if terms is None:
            run.doubtful = True
        else:
            run.terms.update(terms)

    def finish(self) -> None:
        """Check what is left when all decisions were taken in."""
        self._open(None)
        for run in self._runs.values():
            self._close(run)

    def _open(self, until: int | None) -> None:
        """Turn to the rows of the index that begin up to a position."""
        while self._ahead is not None and (until is None or self._ahead[0] <= until):
            writer = writer_of(self._ahead[0])
            if writer in self._runs:
                self._close(self._runs[writer])
            self._runs[writer] = _Run(self._ahead)
            self._ahead = next(self._rows, None)

    def _close(self, run: _Run) -> None:
        if not run.fits:
            self._fault(run.row[0], f"the index of decisions from {run.row[0]} to {run.row[1]} does not match them")

    def _sound(self, found: Iterator[Sequence[Any]]) -> Iterator[Sequence[Any]]:
        for row in found:
            first, last, count, terms = row
            if is_number(first) and is_number(last) and is_number(count) and type(terms) is bytes:
                yield row
            else:
                self._fault(None, f"the index of decisions at {first} was altered")

    def _fault(self, position: int | None, text: str) -> None:
        writer = None if position is None else writer_of(position)
        self._faults.add(Fault(what="index", text=text, stream="decision", writer=writer, position=position))


class Documents:
    """Compares the documents of revisions with what these say of them."""

    def __init__(self, connection: Connection, tenant: str, faults: Faults) -> None:
        self._connection = connection
        self._tenant = tenant
        self._faults = faults

    def check(self, revision: Revision, position: int) -> None:
        """Compare the documents of one revision."""
        table = schema.part
        where = (table.c.tenant == self._tenant, table.c.number == revision.number)
        stored: dict[tuple[Any, Any], str] = {}
        for kind, name, document in rows(self._connection, table, *where, names=("kind", "name", "document")):
            stored[kind, name] = _digest(document)
        stated = {(part.kind, part.name): part.sha256 for part in revision.parts}
        for kind, name in sorted(stated.keys() | stored.keys()):
            what = f"{kind} `{name}` of revision {revision.number}"
            if (kind, name) not in stored:
                self._fault(position, f"{what} is missing")
            elif (kind, name) not in stated:
                self._fault(position, f"{what} is not part of it")
            elif stored[kind, name] != stated[kind, name]:
                self._fault(position, f"{what} was altered")

    def finish(self) -> None:
        """Look for documents of revisions that are not there."""
        part, revision = schema.part, schema.revision
        there = select(revision.c.number).where(revision.c.tenant == self._tenant, revision.c.number == part.c.number)
        where = (part.c.tenant == self._tenant, ~there.exists())
        count = self._connection.execute(select(func.count()).select_from(part).where(*where)).scalar_one()
        if count:
            self._fault(None, f"{count} documents are of no revision")

    def _fault(self, position: int | None, text: str) -> None:
        writer = None if position is None else writer_of(position)
        self._faults.add(Fault(what="part", text=text, stream="revision", writer=writer, position=position))


def _digest(document: Any) -> str:
    """Return the digest of a document as a revision states it; something else for what cannot be one."""
    if document is None:
        return ""
    return sha256(document).hexdigest() if type(document) is bytes else "-"


def check_subjects(connection: Connection, tenant: str, faults: Faults) -> None:
    """Check that each subject has the name that its pseudonym was made from: it says whom decisions are about."""
    table = schema.subject
    for name, key, pseudonym in rows(connection, table, table.c.tenant == tenant):
        sound = type(name) is str and type(key) is bytes and type(pseudonym) is str
        if not sound or unseal(key, pseudonym) != name:
            faults.add(Fault(what="column", text=f"the subject `{pseudonym}` was altered: its name is another one"))
