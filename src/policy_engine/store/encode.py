"""From what is recorded to what is stored, and back."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import msgspec
from isal import isal_zlib

from policy_engine.model.event import Event
from policy_engine.model.record import LogEntry
from policy_engine.store.batch import Batch, Row
from policy_engine.store.item import Item, Pending, Sealed
from policy_engine.store.position import microseconds_of, step
from policy_engine.store.subjects import Subject

log = logging.getLogger(__name__)

MAX_SPAN = 50_000
"""How many microseconds lie at most between the first and the last decision of a row."""

MAX_ITEMS = 128
"""How many decisions a row holds at most."""

_MAX_BYTES = 1 << 18
_LEVEL = 1

_encode = msgspec.json.Encoder().encode
_decode_entries = msgspec.json.Decoder(tuple[list[int], list[LogEntry]]).decode
_decode_ages = msgspec.json.Decoder(tuple[list[int], msgspec.Raw]).decode


class Ahead(NamedTuple):
    """A row that was made before it was to be stored.

    Attributes:
        row: The row.
        subjects: Those with whose keys it was sealed: when some were deleted since, it is of no use.
    """

    row: Row
    subjects: Mapping[str, Subject] | None


class Queued(msgspec.Struct, frozen=True):
    """Decisions that are to be stored together; only ever in memory.

    Attributes:
        positions: Theirs, rising.
        decisions: As many.
        ahead: The row of all of them, if somebody has made it.
    """

    positions: list[int]
    decisions: list[Pending]
    ahead: Ahead | None = None


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
Waiting: TypeAlias = Queued | Record
"""What waits to be stored; what is a record may wait on disk."""

encode_record = _encode
_decode_record = msgspec.json.Decoder(Record).decode


def append_event(batch: Batch, position: int, event: Event) -> None:
    """Append an event to a batch."""
    batch.append("event", position, _encode(event), (event.event_type,))


def row_of(positions: Sequence[int], sealed: Sequence[Sealed]) -> Row:
    """Return the row that holds the first of some decisions: as many as have room in it.

    Args:
        positions: Theirs, rising.
        sealed: As many.
    """
    bodies = _fitting(sealed)
    return _row(positions[: len(bodies)], bodies, sealed[: len(bodies)])


def _row(positions: Sequence[int], bodies: Sequence[bytes], sealed: Sequence[Sealed]) -> Row:
    last = microseconds_of(positions[-1])
    ages = [last - microseconds_of(position) for position in positions]
    text = b"[%b,[%b]]" % (_encode(ages), b",".join(bodies))
    body = isal_zlib.compress(text, _LEVEL)  # three times as fast, and anybody's zlib reads it
    return Row(positions[-1], body, len(bodies), set().union(*{each.terms for each in sealed}))


def row_ahead(positions: Sequence[int], decisions: Sequence[Pending]) -> Ahead | None:
    """Return the row of some decisions if they are sealed, all with the same keys, and have room in one."""
    subjects = getattr(decisions[0], "subjects", None)
    if step(positions[0], MAX_SPAN) < positions[-1]:
        return None
    sealed = [each for each in decisions if isinstance(each, Sealed) and each.subjects is subjects]
    if len(sealed) < len(decisions):
        return None
    bodies = _fitting(sealed)
    return Ahead(_row(positions, bodies, sealed), subjects) if len(bodies) == len(sealed) else None


def _fitting(sealed: Sequence[Sealed]) -> list[bytes]:
    """Return the entries of the first decisions: as many as have room in a row."""
    bodies = []
    size = 0
    for each in sealed:
        body = each.body
        bodies.append(body)
        size += len(body)
        if size >= _MAX_BYTES:
            break
    return bodies


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
