"""From what is recorded to what is stored, and back."""

from __future__ import annotations

import logging
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import TypeAlias

import msgspec
from isal import isal_zlib

from policy_engine.model.event import Event
from policy_engine.model.record import LogEntry
from policy_engine.store.batch import Batch
from policy_engine.store.draft import Draft
from policy_engine.store.item import Item
from policy_engine.store.position import microseconds_of, step
from policy_engine.store.terms import pack

log = logging.getLogger(__name__)

MAX_ITEMS_A_ROW = 128
MAX_SPAN = 50_000
"""How many microseconds lie at most between the first and the last decision of a row."""

_MAX_BYTES = 1 << 18
_LEVEL = 1

_encode = msgspec.json.Encoder().encode
_decode_entries = msgspec.json.Decoder(tuple[list[int], list[LogEntry]]).decode
_decode_ages = msgspec.json.Decoder(tuple[list[int], msgspec.Raw]).decode


class Drafted(msgspec.Struct, frozen=True, array_like=True):
    """Decisions that are to be stored together; only ever in memory.

    Attributes:
        positions: Theirs, rising.
        drafts: The decisions.
    """

    positions: list[int]
    drafts: list[Draft]


class Decisions(msgspec.Struct, frozen=True, kw_only=True, tag="decisions"):
    """Decisions that were made together, waiting to be stored.

    Attributes:
        position: Of the last of them; those before it have consecutive positions.
    """

    position: int
    items: Sequence[Item]


class Happened(msgspec.Struct, frozen=True, kw_only=True, tag="event"):
    """An event, waiting to be stored."""

    position: int
    event: Event


Record = Decisions | Happened
Waiting: TypeAlias = Drafted | Record
"""What waits to be stored; what is a record may wait on disk."""

encode_record = _encode
_decode_record = msgspec.json.Decoder(Record).decode


def append_event(batch: Batch, position: int, event: Event) -> None:
    """Append an event to a batch."""
    batch.append("event", position, _encode(event), (event.event_type,))


class Row(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A row of the decision log: some decisions, compressed, that were made in one stretch.

    Attributes:
        position: Of the last of them.
        body: The bytes to store.
        count: How many there are.
        terms: What they can be found by, packed.
    """

    position: int
    body: bytes
    count: int
    terms: bytes


def rows_of(positions: Sequence[int], items: Sequence[Item]) -> list[Row]:
    """Return the rows that hold sealed items.

    Args:
        positions: Theirs, rising.
        items: As many.
    """
    rows: list[Row] = []
    start = 0
    while start < len(items):
        end = _end_of_row(positions, items, start)
        rows.append(_row(positions[start:end], items[start:end]))
        start = end
    return rows


def _end_of_row(positions: Sequence[int], items: Sequence[Item], start: int) -> int:
    """Return where the row ends that begins at a place: it holds so many decisions, so much time, or so many bytes."""
    most = min(start + MAX_ITEMS_A_ROW, len(items))
    end = bisect_right(positions, step(positions[start], MAX_SPAN), start, most)
    sizes = accumulate(len(item.body) for item in items[start:end])
    return next((place for place, size in enumerate(sizes, start + 1) if size >= _MAX_BYTES), end)


def _row(positions: Sequence[int], items: Sequence[Item]) -> Row:
    last = microseconds_of(positions[-1])
    ages = [last - microseconds_of(position) for position in positions]
    text = _encode((ages, [item.body for item in items]))
    body = isal_zlib.compress(text, _LEVEL)  # three times as fast, and anybody's zlib reads it
    return Row(positions[-1], body, len(items), pack(set().union(*[item.terms for item in items])))


def decode_entries(position: int, body: bytes) -> list[tuple[int, LogEntry]]:
    """Return the entries in a row of the decision log, each with its position."""
    return _placed(position, *_decode_entries(zlib.decompress(body)))


def entries_naming(position: int, body: bytes, identity: str) -> list[tuple[int, LogEntry]]:
    """Return the entries of a row if its text holds an id, else none; quicker than to decode them all."""
    text = zlib.decompress(body)
    return _placed(position, *_decode_entries(text)) if identity.encode() in text else []


def positions_in(position: int, body: bytes) -> list[int]:
    """Return the positions of the entries in a row; its own alone when somebody has altered it."""
    try:
        ages, _ = _decode_ages(zlib.decompress(body))
    except (zlib.error, msgspec.MsgspecError):
        return [position]
    return [step(position, -age) for age in ages]


def _placed(position: int, ages: list[int], entries: list[LogEntry]) -> list[tuple[int, LogEntry]]:
    return [(step(position, -age), entry) for age, entry in zip(ages, entries, strict=True)]


def decode_records(records: Iterable[bytes]) -> Iterator[Record]:
    """Yield what was spooled, but for what cannot be read."""
    for record in records:
        try:
            yield _decode_record(record)
        except ValueError:  # another version of the engine wrote it
            log.exception("a record in a spool cannot be read and is lost")


def name_of(record: Record) -> str:
    """Return how to call a record in a log that personal data must not get into."""
    if isinstance(record, Happened):
        return f"event {record.event.event_id}"
    return f"decisions {record.items[0].decision_id} and {len(record.items) - 1} more"
