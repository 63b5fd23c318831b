"""Events: the ones in memory, and the store behind them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from time import time_ns
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Column, Connection, Row, Select, and_, literal, or_, select

from policy_engine.ids import SequenceIds
from policy_engine.model.decision import Decision
from policy_engine.model.errors import StoreUnavailableError
from policy_engine.model.event import Event
from policy_engine.store import schema
from policy_engine.store.database import Database
from policy_engine.store.encode import MAX_SPAN
from policy_engine.store.event_rows import decode_decision, details_of, event_items, streams_of, type_filter, type_of
from policy_engine.store.following import Entry, Followed, Place, Readable, advance
from policy_engine.store.position import (
    MAX_WRITERS,
    decode_cursor,
    encode_cursor,
    position_at,
    step,
    vector_at,
    writer_of,
)
from policy_engine.store.rings import CAPACITY
from policy_engine.store.writer import Writer

MAX_PAGE = 2 * CAPACITY
_ROWS_AT_ONCE = 100
_CLOCK_SKEW_MICROSECONDS = 60_000_000
"""How much later than here it may be where an event was recorded."""


class EventPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some events, oldest first.

    Attributes:
        total: How many events can be read at the moment.
        last_event_id: Where the next page goes on; None when there has never been an event.
        gap: Whether events between the cursor and the first one here are gone.
    """

    events: list[Event]
    total: int
    last_event_id: str | None
    gap: bool


class _Ends(NamedTuple):
    """Both ends of one writer's chain of one stream."""

    writer: int
    stream: str
    head: int
    tail: int
    held: int


class _Found(NamedTuple):
    """What one stream had behind a cursor.

    Attributes:
        until: How far the store was looked through, None when to the end.
        own_until: How far this process's own entries can be read, when the rest has left the memory and has not reached
            the store yet.
    """

    items: list[tuple[int, Event | Decision]]
    until: int | None
    own_until: int | None = None


class EventLog:
    """The events of all writers, behind cursors that lose and repeat nothing."""

    def __init__(self, database: Database, tenant: str, store_id: int, writer: Writer) -> None:
        self._database = database
        self._tenant = tenant
        self._store_id = store_id
        self._ids = SequenceIds(store_id)
        self._writer = writer

    def record(self, event_type: str, details: dict[str, Any]) -> Event:
        """Append a management event and return it."""
        return self._writer.record(event_type, details)

    def page(
        self, *, since_event_id: str | None = None, limit: int = MAX_PAGE, event_types: Collection[str] = ()
    ) -> EventPage:
        """Return the events after a cursor, oldest first.

        Following `last_event_id` from page to page loses and repeats nothing, on whatever process each page is asked
        for, unless `gap` says that events are gone.

        Args:
            since_event_id: The `last_event_id` of the page before, or the id of an event. Without one the page begins
                with the last events. One that is not of this store starts at the oldest event, with `gap`.
            limit: How many events at most.
            event_types: Which types to return; none means all.
        """
        types = frozenset(event_types)
        limit = max(1, min(limit, MAX_PAGE))
        try:
            with self._database.read() as connection:
                return self._page(connection, since_event_id, limit, types)
        except StoreUnavailableError:
            return self._page(None, since_event_id, limit, types)

    def _page(self, connection: Connection | None, since: str | None, limit: int, types: frozenset[str]) -> EventPage:
        kinds = streams_of(types)
        readable_until = self._writer.readable_until
        ends = self._ends(connection) if connection is not None else []
        known = self._vector(since, ends)
        vector = known or {}
        starts = dict.fromkeys(kinds, vector)
        if since is None and connection is not None:
            starts = {kind: self._start(connection, kind) for kind in kinds}
        found = [self._found(connection, kind, starts[kind], ends, limit, types) for kind in kinds]
        until = min((item.until for item in found if item.until is not None), default=None)
        own = self._writer.number
        own_until = min([readable_until, *(item.own_until for item in found if item.own_until is not None)])
        merged = Readable(until, own, own_until).select(entry for item in found for entry in item.items)
        chosen = merged[:limit]
        if since is None and chosen:  # what is older than the first one here is not asked for
            vector = vector_at(step(chosen[0][0], -1), {own, *(end.writer for end in ends)})
        considered = [position for position, _ in chosen]
        if until is None and len(merged) <= limit:
            considered += [own_until, *(end.head for end in ends if end.head and end.writer != own)]
        after = _advance(vector, considered)
        return EventPage(
            events=[self._render(position, item) for position, item in chosen],
            total=self._total(ends),
            last_event_id=self._cursor(after, ends),
            gap=since is not None and (known is None or self._has_gap(connection, kinds, vector, ends)),
        )

    # Following

    def follow(self, places: Sequence[Place], limit: int) -> list[Followed]:
        """Return what there is behind some places, at most so many events for each.

        All are answered from one state of the store, so those that come to its end have the same cursor from then on.
        """
        try:
            with self._database.read() as connection:
                return self._follow(connection, places, limit)
        except StoreUnavailableError:
            return self._follow(None, places, limit)

    def _follow(self, connection: Connection | None, places: Sequence[Place], limit: int) -> list[Followed]:
        readable_until = self._writer.readable_until
        ends = self._ends(connection) if connection is not None else []
        return [self._behind(connection, place, limit, readable_until, ends) for place in places]

    def _behind(
        self, connection: Connection | None, place: Place, limit: int, readable_until: int, ends: list[_Ends]
    ) -> Followed:
        own = self._writer.number
        heads = [end.head for end in ends if end.writer != own and end.head]
        if place.cursor is None:
            end = encode_cursor(self._store_id, _advance({}, [readable_until, *heads]))
            return Followed([], end, gap=False, complete=True)
        kinds, known = streams_of(place.types), self._vector(place.cursor, ends)
        writers = {own, *(end.writer for end in ends)}
        vector = {writer: at for writer, at in (known or {}).items() if connection is None or writer in writers}
        found = [self._found(connection, kind, vector, ends, limit, place.types) for kind in kinds]
        until = min((item.until for item in found if item.until is not None), default=None)
        own_until = min([readable_until, *(item.own_until for item in found if item.own_until is not None)])
        entries = Readable(until, own, own_until).select(entry for item in found for entry in item.items)
        gap = known is None or self._has_gap(connection, kinds, vector, ends)
        events = [
            (self._render(*entry), encode_cursor(self._store_id, reached))
            for entry, reached in advance(vector, entries[:limit])
        ]
        whole = until is None and len(entries) <= limit
        after = _advance(vector, filter(None, [own_until, *heads])) if whole else vector
        return Followed(
            events, encode_cursor(self._store_id, after), gap=gap, complete=whole and own_until == readable_until
        )

    def _found(  # noqa: PLR0917 - the parts of one page
        self,
        connection: Connection | None,
        kind: str,
        vector: dict[int, int],
        ends: list[_Ends],
        limit: int,
        types: frozenset[str],
    ) -> _Found:
        own = self._writer.number
        held, evicted = self._writer.readable(vector, management=kind == "event", decisions=kind == "decision")
        items: list[Entry] = [(at, item if isinstance(item, Event) else decode_decision(item)) for at, item in held]
        until = own_until = None
        if connection is not None:
            head = next((end.head for end in ends if end.writer == own and end.stream == kind), 0)
            bounds = self._bounds(kind, vector, ends, evicted)
            if own in bounds:  # the row that holds the last one to be read may end behind it
                bounds[own] = (bounds[own][0], min(head, step(evicted or 0, MAX_SPAN)))
            stored = self._stored(connection, kind, bounds, limit, types) if bounds else _Found([], None)
            until = stored.until
            is_kept = kind == "event" or self._writer.keeps_decisions
            if evicted is not None and evicted > head and is_kept:
                own_until = head
            if own in bounds and until is not None and until < bounds[own][1]:
                own_until = max((at for at, _ in stored.items if writer_of(at) == own), default=bounds[own][0])
            held_from = evicted or 0
            if own_until is not None:  # something that comes before what is in memory is not here
                items, held_from = [], own_until
            items += [entry for entry in stored.items if writer_of(entry[0]) != own or entry[0] <= held_from]
        return _Found([entry for entry in items if not types or type_of(entry[1]) in types], until, own_until)

    def _has_gap(
        self, connection: Connection | None, kinds: Collection[str], vector: dict[int, int], ends: list[_Ends]
    ) -> bool:
        removed = any(end.stream in kinds and end.tail > vector.get(end.writer, 0) for end in ends)
        forgotten = "decision" in kinds and self._is_forgotten(vector)
        return removed or forgotten or self._is_cut(connection, kinds, vector)

    def _is_forgotten(self, vector: dict[int, int]) -> bool:
        """Whether decisions that are not stored have left the memory."""
        if self._writer.keeps_decisions:
            return False
        _, evicted = self._writer.readable(vector, management=False, decisions=True)
        return evicted is not None and len(self._writer.rings.decisions.items()) == CAPACITY

    def _is_cut(self, connection: Connection | None, kinds: Collection[str], vector: dict[int, int]) -> bool:
        """Whether entries have left the memory while the store, where they would be found, is away."""
        if connection is not None:
            return False
        looked = [
            self._writer.readable(vector, management=kind == "event", decisions=kind == "decision") for kind in kinds
        ]
        return any(evicted is not None for _, evicted in looked)

    # Cursors

    def _ends(self, connection: Connection) -> list[_Ends]:
        chain = schema.chain
        query = select(chain).where(chain.c.tenant == self._tenant, chain.c.stream.in_(("event", "decision")))
        return [
            _Ends(row.writer, row.stream, row.position, row.tail_position, row.items - row.tail_items)
            for row in connection.execute(query)
        ]

    def _vector(self, since: str | None, ends: list[_Ends]) -> dict[int, int] | None:
        """Return the vector that a cursor stands for, None when it is not one of this store."""
        if since is None:
            return None
        vector = decode_cursor(since, self._store_id)
        if vector is not None:
            return vector
        position = self._ids.number(since)
        if position is None:
            return None
        writers = {self._writer.number, *(end.writer for end in ends)}
        # The clock may have been set back, so what is there already counts as well as what time it is.
        latest = max(position_at(time_ns() // 1000), self._writer.readable_until, *(end.head for end in ends), 0)
        if position > step(latest, _CLOCK_SKEW_MICROSECONDS) or writer_of(position) not in writers:
            return None
        return vector_at(position, writers)

    def _start(self, connection: Connection, kind: str) -> dict[int, int]:
        """Return the vector behind which the last events of one kind stand, as many as the memory holds."""
        table = schema.STREAMS[kind]
        counted = table.c.count if kind == "decision" else literal(1)
        newest = select(table.c.position, counted).where(table.c.tenant == self._tenant)
        held = 0
        for position, count in connection.execute(newest.order_by(table.c.position.desc()).limit(CAPACITY)):
            held += count
            if held >= CAPACITY:
                where = (table.c.tenant == self._tenant, table.c.position == position)
                items = event_items(kind, connection.execute(select(table).where(*where)).one())
                first, _ = items[held - CAPACITY]
                return vector_at(step(first, -1), range(1, MAX_WRITERS))
        return {}

    def _cursor(self, vector: dict[int, int], ends: list[_Ends]) -> str | None:
        writers = {self._writer.number, *(end.writer for end in ends)} if ends else {*vector, self._writer.number}
        kept = {writer: position for writer, position in vector.items() if writer in writers and position}
        if not kept:
            return None
        if len(writers) == 1:
            return self._ids.text(next(iter(kept.values())))
        return encode_cursor(self._store_id, kept)

    # What is behind a cursor

    def _bounds(
        self, kind: str, vector: dict[int, int], ends: list[_Ends], evicted: int | None
    ) -> dict[int, tuple[int, int]]:
        """Return for each writer the positions between which the store has to be looked at."""
        bounds = {}
        for end in ends:
            after = vector.get(end.writer, 0)
            head = end.head
            if end.writer == self._writer.number:
                head = min(head, evicted if evicted is not None else 0)
            if end.stream == kind and head > after:
                bounds[end.writer] = (after, head)
        return bounds

    def _stored(
        self,
        connection: Connection,
        kind: str,
        bounds: dict[int, tuple[int, int]],
        limit: int,
        types: frozenset[str],
    ) -> _Found:
        table = schema.STREAMS[kind]
        position = table.c.position
        wanted = [
            and_(position.op("&")(MAX_WRITERS - 1) == writer, position > after, position <= head)
            for writer, (after, head) in bounds.items()
        ]
        low = min(after for after, _ in bounds.values())
        query = select(table).where(table.c.tenant == self._tenant, position > low, or_(*wanted))
        if types:
            query = query.where(type_filter(table, kind, types))
        items: list[Entry] = []
        until: int | None = None
        for row in self._rows(connection, query, position, min(limit, _ROWS_AT_ONCE)):
            if until is not None and row.position > step(until, MAX_SPAN):
                return _Found(items, until)
            after = bounds[writer_of(row.position)][0]
            items += (
                entry
                for entry in event_items(kind, row)
                if entry[0] > after and (not types or type_of(entry[1]) in types)
            )
            if until is None and len(items) >= limit:
                until = row.position  # rows behind it may begin before it
        return _Found(items, None)

    def _rows(
        self, connection: Connection, query: Select[Any], position: Column[int], count: int
    ) -> Iterator[Row[Any]]:
        """Yield rows in order, some of which are read at once."""
        after = 0
        while True:
            rows = connection.execute(query.where(position > after).order_by(position).limit(count)).all()
            yield from rows
            if len(rows) < count:
                return
            after = rows[-1].position

    def _render(self, position: int, item: Event | Decision) -> Event:
        if isinstance(item, Event):
            return item
        return Event(
            event_id=self._ids.text(position),
            timestamp=item.timestamp,
            event_type=type_of(item),
            details=details_of(item),
        )

    def _total(self, ends: list[_Ends]) -> int:
        own = self._writer.number
        heads = {end.stream: end.head for end in ends if end.writer == own}
        waiting = 0
        for kind in ("event", "decision"):
            after = {own: heads.get(kind, 0)}
            waiting += len(self._writer.readable(after, management=kind == "event", decisions=kind == "decision")[0])
        return sum(end.held for end in ends) + waiting


def _advance(vector: dict[int, int], positions: Iterable[int]) -> dict[int, int]:
    """Return a vector that is behind all of these positions too."""
    after = dict(vector)
    for position in positions:
        writer = writer_of(position)
        after[writer] = max(position, after.get(writer, 0))
    return after
