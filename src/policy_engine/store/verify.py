"""Verify the audit trail: that what is stored is what was stored, as far as signed checkpoints reach.

Each chain is followed from the tail that the last checkpoint states, entry by entry, and compared on the way with the
head that every checkpoint states; so whoever cannot sign cannot alter, remove or reorder an entry at or below the last
checkpoint unseen, not even by computing all hashes anew. What came later is compared with the hashes alone.

Without a checkpoint that was kept elsewhere one thing stays unseen: the last checkpoints may be gone, and everything
that only they cover with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import msgspec
from sqlalchemy import Connection, select

from policy_engine.signing import PublicKey
from policy_engine.store import schema
from policy_engine.store.chain import Link
from policy_engine.store.faults import Fault, Faults, What
from policy_engine.store.position import MAX_WRITERS, writer_of
from policy_engine.store.raw import any_text, is_number, rows
from policy_engine.store.repeats import READERS, UNREADABLE, Documents, Index, Said, check_subjects
from policy_engine.store.signed import Heads, Key, Signed, open_exported, read_keys
from policy_engine.store.trust_proof import TrustEntries
from policy_engine.store.walk import Ends, Row, Stated, Walk

_PROGRESS_ENTRIES = 1000


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What verifying found.

    Attributes:
        ok: Whether everything is as it was stored.
        entries: How many entries were checked.
        checkpoints: How many checkpoints were checked.
        uncovered: How many of the entries came after the last checkpoint, so that nothing signed speaks for them.
        faults: What is wrong, the first of it; there may be more than are listed.
    """

    ok: bool
    entries: int
    checkpoints: int
    uncovered: int
    faults: list[Fault]


def verify(
    connection: Connection,
    tenant: str,
    roots: list[PublicKey],
    *,
    exported: bytes | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Verify everything that is chained and signed.

    Args:
        connection: One that sees a single state, from `Database.read`.
        tenant: Whose trail.
        roots: The public keys that are trusted without anybody vouching for them.
        exported: A checkpoint that was kept elsewhere: the store must still hold what it states.
        progress: Called now and then with how many entries are done, and how many there are.

    Raises:
        StateError: `exported` is not a checkpoint that a trusted key signed.
    """
    with any_text(connection):
        return _Verification(connection, tenant, progress or _ignore).run(roots, exported)


class _Verification:
    def __init__(self, connection: Connection, tenant: str, progress: Callable[[int, int], None]) -> None:
        self._connection = connection
        self._tenant = tenant
        self._progress = progress
        self._faults = Faults()
        self._documents = Documents(connection, tenant, self._faults)
        self._trust = TrustEntries(connection, tenant, self._faults)
        self._entries = 0
        self._total = 0
        self._uncovered = 0

    def run(self, roots: list[PublicKey], exported: bytes | None) -> Report:
        keys = read_keys(self._connection, self._tenant, roots, self._faults)
        held = open_exported(exported, keys.trusted) if exported is not None else None
        signed = Signed(self._tenant, self._store_id(), held, self._faults)
        signed.read(self._connection, keys.trusted, keys.listed)
        ends = self._ends()
        self._total = sum(max(0, end.seq - end.tail_seq) for end in ends.values() if end is not None)
        for stream in schema.STREAMS:
            self._follow(stream, signed, ends)
        self._documents.finish()
        self._trust.finish()
        check_subjects(self._connection, self._tenant, self._faults)
        self._progress(self._total, self._total)
        return Report(
            ok=not self._faults.count,
            entries=self._entries,
            checkpoints=signed.count,
            uncovered=self._uncovered,
            faults=self._faults.found,
        )

    def _store_id(self) -> int | None:
        table = schema.store
        query = select(table.c.store_id).where(table.c.tenant == self._tenant)
        found: int | None = self._connection.execute(query).scalar()
        if found is None:
            self._faults.add(Fault(what="missing", text="the row that names the store is missing"))
        return found

    def _ends(self) -> dict[Key, Ends | None]:
        """Return both ends of every chain, as the database says; None for a chain that should be there."""
        table = schema.writer
        query = select(table.c.number).where(table.c.tenant == self._tenant)
        writers = set(filter(is_number, self._connection.execute(query).scalars()))
        ends: dict[Key, Ends | None] = {(stream, writer): None for writer in writers for stream in schema.STREAMS}
        table = schema.chain
        for writer, stream, *numbers in rows(self._connection, table, table.c.tenant == self._tenant):
            end = Ends(*numbers)
            if end.is_sound and is_number(writer) and stream in schema.STREAMS:
                ends[stream, writer] = end
            else:
                self._fault("chain", f"the ends of the chain of writer {writer} in `{stream}` were altered")
            if writer not in writers:
                self._fault("chain", f"writer {writer} has a chain in `{stream}` and is not registered")
        return ends

    def _follow(self, stream: str, signed: Signed, ends: Mapping[Key, Ends | None]) -> None:
        """Follow all chains of one stream at once."""
        walks = {key: self._walk(key, signed, ends) for key in sorted(signed.chains | ends.keys()) if key[0] == stream}
        index = Index(self._connection, self._tenant, self._faults) if stream == "decision" else None
        for row in self._rows(stream):
            key = (stream, writer_of(row.position))
            walk = walks.get(key) or walks.setdefault(key, self._walk(key, signed, ends))
            said = self._read(key, row) if walk.take(row) else None
            if said is not None:
                walk.items += said.items
            if index is not None:
                index.take(row.position, said.items if said else 0, said.terms if said else None)
            if said is not None and said.revision is not None:
                self._documents.check(said.revision, row.position)
            if said is not None and said.trust is not None:
                self._trust.check(said.trust, row.position)
        for walk in walks.values():
            walk.finish()
            self._uncovered += walk.uncovered
        if index is not None:
            index.finish()

    def _walk(self, key: Key, signed: Signed, ends: Mapping[Key, Ends | None]) -> Walk:
        tail, heads = signed.tails.get(key, Link()), signed.heads.get(key) or Heads()
        stated = Stated(tail, heads, signed.exported_head(key), ends.get(key))
        return Walk(key, stated, self._next_stored, self._faults)

    def _rows(self, stream: str) -> Iterator[Row]:
        """Yield the entries of a stream in order of position; what cannot be an entry is noted."""
        table = schema.STREAMS[stream]
        own = ("position", "seq", "body", "hash")
        names = (*own, *(column.name for column in table.c if column.name not in {"tenant", *own}))
        where = table.c.tenant == self._tenant
        for position, seq, body, hash_, *columns in rows(
            self._connection, table, where, order=(table.c.position,), names=names
        ):
            row = Row(position, seq, body, hash_, tuple(columns))
            self._entries += 1
            if self._entries % _PROGRESS_ENTRIES == 0:
                self._progress(min(self._entries, self._total), self._total)
            if row.is_sound:
                yield row
            else:
                self._fault("altered", f"an entry of `{stream}` at {position} was altered", stream)

    def _read(self, key: Key, row: Row) -> Said | None:
        """Return what a body says, once the columns were compared with it; None when it cannot be read."""
        stream, writer = key
        try:
            said = READERS[stream](row.body)
        except UNREADABLE:
            said = None
        if said is None or said.columns != row.columns:
            problem = "cannot be read" if said is None else "is not what its columns say"
            text = f"writer {writer} in `{stream}`: entry {row.seq} {problem}"
            self._faults.add(
                Fault(what="column", text=text, stream=stream, writer=writer, seq=row.seq, position=row.position)
            )
        return said

    def _next_stored(self, key: Key, seq: int) -> tuple[int, int]:
        """Return an entry wherever it stands; this reads a whole table, and is asked for once a broken chain."""
        stream, writer = key
        table = schema.STREAMS[stream]
        own = table.c.position.op("&")(MAX_WRITERS - 1) == writer
        query = select(table.c.seq, table.c.position).where(table.c.tenant == self._tenant, table.c.seq >= seq, own)
        found = self._connection.execute(query.order_by(table.c.seq).limit(1)).one()
        return found.seq, found.position

    def _fault(self, what: What, text: str, stream: str | None = None) -> None:
        self._faults.add(Fault(what=what, text=text, stream=stream))


def _ignore(_done: int, _total: int) -> None:
    """Report progress to nobody."""
