"""From what is recorded to what is stored, and back."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

import msgspec
from isal import isal_zlib
from msgspec import Raw

from policy_engine.model.event import Event
from policy_engine.model.record import LogEntry
from policy_engine.store.batch import Batch
from policy_engine.store.draft import Draft, as_text
from policy_engine.store.item import Item
from policy_engine.store.position import microseconds_of, step
from policy_engine.store.terms import pack

log = logging.getLogger(__name__)

MAX_SPAN = 50_000
"""How many microseconds lie at most between the first and the last decision of a row."""

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


def row_of(positions: Sequence[int], entries: Sequence[LogEntry | Raw], terms: set[int]) -> Row:
    """Return the row that holds some entries.

    Args:
        positions: Theirs, rising.
        entries: As many, or their encoded forms.
        terms: What they can be found by.
    """
    last = microseconds_of(positions[-1])
    ages = [last - microseconds_of(position) for position in positions]
    try:
        text = _encode((ages, entries))
    except UnicodeEncodeError:  # in one of them
        text = _encode(
            (ages, [Raw(encode_entry(entry)) if isinstance(entry, LogEntry) else entry for entry in entries])
        )
    body = isal_zlib.compress(text, _LEVEL)  # three times as fast, and anybody's zlib reads it
    return Row(positions[-1], body, len(entries), pack(terms))


def encode_entry(entry: LogEntry) -> bytes:
    """Return an entry as JSON."""
    try:
        return _encode(entry)
    except UnicodeEncodeError:  # half a surrogate pair in the context
        return _encode(msgspec.structs.replace(entry, context=as_text(entry.context)))


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
