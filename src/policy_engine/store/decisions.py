"""The decision log, read: filtered pages, newest first, behind cursors that stay put while writes go on.

There is no index on any column. Rows are appended in runs of about a thousand, and for each run a block says which
terms occur in it; a query reads the blocks, newest first, and looks only into runs that may hold what it wants.
"""

from __future__ import annotations

import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain as concatenated
from typing import NamedTuple
from uuid import UUID

import msgspec
from sqlalchemy import BigInteger, ColumnElement, Connection, bindparam, select

from policy_engine.ids import SequenceIds
from policy_engine.model.errors import BusyError, UnknownDecisionError
from policy_engine.model.record import LogEntry
from policy_engine.store import schema
from policy_engine.store.database import Database
from policy_engine.store.encode import MAX_SPAN, decode_entries, entries_naming
from policy_engine.store.position import MAX_WRITERS, position_at, step, vector_of, writer_of
from policy_engine.store.sealer import owner_of, tokens_in
from policy_engine.store.subjects import MARK, Subject, by_pseudonym, find, unseal
from policy_engine.store.terms import holds, may_hold, pair_term, result_term, term

MAX_PAGE = 1000
LOOKUP_SECONDS = 0.2
SCAN_SECONDS = 0.05
"""After this long a page ends where it is, with a cursor to go on from: no query keeps others waiting."""

_BLOCKS_AT_ONCE = 64
_ROWS_AT_ONCE = 8
_LOOKUP_MICROSECONDS = 60_000_000
_FIRST_LOOKUP_MICROSECONDS = 1_000_000
_LAST = (1 << 63) - 1


class DecisionQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What is looked for; None means any.

    Attributes:
        start: Microseconds since 1970, inclusive.
        end: The same, exclusive.
        client: The client's id, or its pseudonym.
    """

    start: int | None = None
    end: int | None = None
    policy_type: str | None = None
    component: str | None = None
    client: str | None = None
    allowed: bool | None = None
    policy_id: str | None = None


class LoggedDecision(msgspec.Struct, frozen=True, kw_only=True):
    """A decision of the log with the id of its event."""

    event_id: str
    entry: LogEntry


class DecisionPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some decisions, newest first.

    Attributes:
        next_cursor: Where the next page goes on, None when there is nothing more. A page may hold fewer decisions than
            were asked for, even none, and still have a cursor.
    """

    decisions: list[LoggedDecision]
    next_cursor: str | None


class _Place(NamedTuple):
    """Where a query stands: it sees what was there when it began, and has passed what is at and above `below`."""

    below: int
    seen: dict[int, int]


class _Block(NamedTuple):
    first: int
    last: int
    terms: bytes


class _Filter(NamedTuple):
    """A query in numbers.

    Attributes:
        terms: What a block, and then a row, must hold for it to be worth looking into.
        client: The pseudonym.
    """

    terms: tuple[int, ...]
    query: DecisionQuery
    client: str | None


class DecisionLog:
    """The decision log of one tenant.

    The contract: following `next_cursor` until it is None gives every decision that was stored when the first page
    was asked for and matches, once, newest first, whatever is written or removed meanwhile.
    """

    def __init__(self, database: Database, tenant: str, store_id: int, personal: Sequence[str]) -> None:
        self._database = database
        self._tenant = tenant
        self._store_id = store_id
        self._ids = SequenceIds(store_id)
        self._personal = personal

    def page(self, query: DecisionQuery, *, limit: int = 100, cursor: str | None = None) -> DecisionPage:
        """Return matching decisions, newest first.

        Raises:
            ValueError: The cursor is not one of this log.
            StoreUnavailableError: The database is away.
        """
        place = self._decode(cursor) if cursor is not None else None
        limit = max(1, min(limit, MAX_PAGE))
        with self._database.read() as connection:
            if place is None:
                place = _Place(self._upper(query), self._heads(connection))
            wanted = self._filter(connection, query)
            if wanted is None:
                return DecisionPage(decisions=[], next_cursor=None)
            found, below = self._scan(connection, wanted, place, limit)
            subjects = self._subjects_of(connection, (entry for _, entry in found))
        return DecisionPage(
            decisions=[self._show(position, entry, subjects) for position, entry in found],
            next_cursor=None if below is None else self._encode(place._replace(below=below)),
        )

    def get(self, decision_id: str) -> LoggedDecision:
        """Return one decision.

        Raises:
            UnknownDecisionError: There is none of that id.
            BusyError: It takes too long to find out.
            StoreUnavailableError: The database is away.
        """
        try:
            identity = UUID(decision_id)
        except ValueError:
            raise UnknownDecisionError(decision_id) from None
        moment = (identity.int >> 80) * 1000
        with self._database.read() as connection:
            for width in (_FIRST_LOOKUP_MICROSECONDS, _LOOKUP_MICROSECONDS):
                for position, entry in self._near(connection, str(identity), moment, width):
                    if entry.decision.decision_id == str(identity):
                        return self._show(position, entry, self._subjects_of(connection, [entry]))
        raise UnknownDecisionError(decision_id)

    def _near(self, connection: Connection, identity: str, moment: int, width: int) -> Iterator[tuple[int, LogEntry]]:
        """Yield decisions that were made around a time and may have an id, which tells when it was made."""
        table = schema.decision
        query = select(table.c.position, table.c.body).where(
            table.c.tenant == self._tenant,
            table.c.position >= _moment(moment),
            table.c.position < _moment(moment + width),
        )
        deadline = time.monotonic() + LOOKUP_SECONDS
        for position, body in connection.execute(query.order_by(table.c.position)):
            yield from entries_naming(position, bytes(body), identity)
            if time.monotonic() > deadline:
                raise BusyError("there are too many decisions of that time to look through; page through the log")

    # Cursors

    def _upper(self, query: DecisionQuery) -> int:
        return _LAST if query.end is None else _moment(query.end)

    def _heads(self, connection: Connection) -> dict[int, int]:
        chain = schema.chain
        query = select(chain.c.position).where(chain.c.tenant == self._tenant, chain.c.stream == "decision")
        return vector_of(position for position in connection.execute(query).scalars() if position)

    def _encode(self, place: _Place) -> str:
        numbers = [self._store_id, place.below, *place.seen.values()]
        return urlsafe_b64encode(b"".join(number.to_bytes(8, "big") for number in numbers)).decode().rstrip("=")

    def _decode(self, cursor: str) -> _Place:
        try:
            content = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        except ValueError:
            raise ValueError("the cursor is not one of this log") from None
        numbers = [int.from_bytes(content[place : place + 8], "big") for place in range(0, len(content), 8)]
        if len(content) % 8 or len(numbers) < 2 or numbers[0] != self._store_id or max(numbers) > _LAST:  # noqa: PLR2004 - the store and the place
            raise ValueError("the cursor is not one of this log")
        return _Place(numbers[1], vector_of(numbers[2:]))

    # Searching

    def _filter(self, connection: Connection, query: DecisionQuery) -> _Filter | None:
        """Return the filter for a query, None when nothing can match it."""
        client = query.client
        if client is not None and not client.startswith(MARK):
            subject = find(connection, self._tenant, client)
            if subject is None:
                return None
            client = subject.pseudonym
        named = {"type": query.policy_type, "component": query.component, "client": client, "policy": query.policy_id}
        terms = [term(kind, value) for kind, value in named.items() if value is not None]
        if query.allowed is not None:
            result = result_term(allowed=query.allowed)
            terms = [result, *terms, *(pair_term(number, result) for number in terms)]
        return _Filter(tuple(terms), query, client)

    def _scan(
        self, connection: Connection, wanted: _Filter, place: _Place, limit: int
    ) -> tuple[list[tuple[int, LogEntry]], int | None]:
        """Return matches below a place, and below which position the next page has to look; None when it need not."""
        low = 0 if wanted.query.start is None else _moment(wanted.query.start)
        deadline = time.monotonic() + SCAN_SECONDS
        held: list[tuple[int, LogEntry]] = []
        ready: list[tuple[int, LogEntry]] = []
        blocks = self._blocks(connection, low, place.below)
        block = next(blocks, None)
        while block is not None:
            if all(may_hold(block.terms, number) for number in wanted.terms):
                held += self._look_into(connection, block, wanted, place, low, limit + 1)
                held.sort(key=_position, reverse=True)
            following = next(blocks, None)
            # What lies above every block that is still to come is in its final order.
            border = following.last if following else -1
            count = next((number for number, entry in enumerate(held) if entry[0] <= border), len(held))
            ready += held[:count]
            del held[:count]
            if len(ready) > limit:
                return ready[:limit], ready[limit - 1][0]
            if following is not None and border + 1 < place.below and time.monotonic() > deadline:
                return ready, border + 1
            block = following
        return ready, None

    def _blocks(self, connection: Connection, low: int, below: int) -> Iterator[_Block]:
        """Yield the blocks that overlap a range, the one that ends last first."""
        table = schema.block
        passed = _LAST
        query = (
            select(table.c.first, table.c.last, table.c.terms)
            .where(
                table.c.tenant == self._tenant,
                table.c.first < _end_of_rows(below),
                table.c.last >= low,
                table.c.last < bindparam("passed", type_=BigInteger),
            )
            .order_by(table.c.last.desc())
            .limit(_BLOCKS_AT_ONCE)
        )
        while True:
            rows = connection.execute(query, {"passed": passed}).all()
            yield from (_Block(row.first, row.last, bytes(row.terms)) for row in rows)
            if len(rows) < _BLOCKS_AT_ONCE:
                return
            passed = rows[-1].last

    def _look_into(  # noqa: PLR0917 - the parts of one search
        self, connection: Connection, block: _Block, wanted: _Filter, place: _Place, low: int, limit: int
    ) -> list[tuple[int, LogEntry]]:
        table = schema.decision
        position = table.c.position
        writer = writer_of(block.first)
        conditions = [
            table.c.tenant == self._tenant,
            position >= max(low, block.first),
            position <= min(block.last, place.seen.get(writer, 0)),
            position.op("&")(MAX_WRITERS - 1) == writer,
        ]
        conditions += [holds(table.c.terms, number) for number in wanted.terms]
        found: list[tuple[int, LogEntry]] = []
        entries = concatenated.from_iterable(
            reversed(decode_entries(at, bytes(body)))
            for at, body in _rows(connection, conditions, _end_of_rows(place.below))
        )
        for at, entry in entries:
            if low <= at < place.below and _matches(entry, wanted):
                found.append((at, entry))
                if len(found) >= limit:
                    break
        return found

    def _subjects_of(self, connection: Connection, entries: Iterable[LogEntry]) -> dict[str, Subject]:
        """Return by pseudonym whom some entries are about, as far as the keys are there."""
        pseudonyms: set[str] = set()
        for entry in entries:
            if entry.client is not None:
                pseudonyms.add(entry.client)
            else:
                pseudonyms.update(owner_of(entry, where[key]) for where, key in tokens_in(entry, self._personal))
        return by_pseudonym(connection, self._tenant, pseudonyms)

    def _show(self, position: int, entry: LogEntry, subjects: dict[str, Subject]) -> LoggedDecision:
        """Return an entry as it is shown: with personal data in clear, as far as the key is there."""
        for where, key in tokens_in(entry, self._personal):
            subject = subjects.get(owner_of(entry, where[key]))
            if subject is not None:
                where[key] = unseal(subject.key, where[key])
        owner = subjects.get(entry.client) if entry.client is not None else None
        if owner is not None:
            entry = msgspec.structs.replace(entry, client=owner.name)
        return LoggedDecision(event_id=self._ids.text(position), entry=entry)


def _matches(entry: LogEntry, wanted: _Filter) -> bool:
    query, decision = wanted.query, entry.decision
    pairs = (
        (query.policy_type, decision.policy_type),
        (query.component, entry.component),
        (wanted.client, entry.client),
        (query.policy_id, decision.policy_id),
        (query.allowed, decision.allowed),
    )
    return all(asked is None or asked == found for asked, found in pairs)


def _moment(microseconds: int) -> int:
    """Return the lowest position at a time, or the nearest time that has positions."""
    return min(position_at(max(microseconds, 0)), _LAST)


def _end_of_rows(below: int) -> int:
    """Return above which position no row holds items below one: a row stands at the last of its items."""
    return min(step(below, MAX_SPAN), _LAST)


def _rows(connection: Connection, conditions: Sequence[ColumnElement[bool]], below: int) -> Iterator[tuple[int, bytes]]:
    """Yield rows below a position, the last one first, and read no more of them than are taken."""
    table = schema.decision
    query = (
        select(table.c.position, table.c.body)
        .where(*conditions, table.c.position < bindparam("below", type_=BigInteger))
        .order_by(table.c.position.desc())
        .limit(_ROWS_AT_ONCE)
    )
    while True:
        rows = connection.execute(query, {"below": below}).all()
        yield from (tuple(row) for row in rows)
        if len(rows) < _ROWS_AT_ONCE:
            return
        below = rows[-1].position


def _position(item: tuple[int, LogEntry]) -> int:
    return item[0]
