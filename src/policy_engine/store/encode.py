"""From what is recorded to what is stored, and back."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from policy_engine.model.event import Event
from policy_engine.model.record import LogEntry
from policy_engine.store.batch import Batch
from policy_engine.store.item import Item, seal_items
from policy_engine.store.position import microseconds_of, step
from policy_engine.store.subjects import Subject

log = logging.getLogger(__name__)

MAX_ITEMS_A_ROW = 128
MAX_SPAN = 50_000
"""How many microseconds lie at most between the first and the last decision of a row."""

_MAX_BYTES = 1 << 18
_LEVEL = 1

_encode = msgspec.json.Encoder().encode
_decode_entries = msgspec.json.Decoder(tuple[list[int], list[LogEntry]]).decode
_decode_ages = msgspec.json.Decoder(tuple[list[int], msgspec.Raw]).decode


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
encode_record = _encode
_decode_record = msgspec.json.Decoder(Record).decode


def seal_records(
    records: Sequence[Record], personal: Sequence[str], ensure: Callable[[set[str]], Mapping[str, Subject]]
) -> Sequence[Record]:
    """Return records in which every decision is sealed; the arguments are those of `seal_items`."""
    entries = [
        item.entry
        for record in records
        if isinstance(record, Decisions)
        for item in record.items
        if item.entry is not None
    ]
    if not entries:
        return records
    sealed = iter(seal_items(entries, personal, ensure))
    return [_with_sealed(record, sealed) if isinstance(record, Decisions) else record for record in records]


def _with_sealed(record: Decisions, sealed: Iterator[Item]) -> Decisions:
    items = [item if item.entry is None else next(sealed) for item in record.items]
    return Decisions(position=record.position, items=items)


def append_records(batch: Batch, records: Iterable[Record]) -> None:
    """Append what was recorded, and is sealed, to a batch: decisions in rows of several."""
    row = _Row()
    for record in records:
        if isinstance(record, Happened):
            append_event(batch, record.position, record.event)
            continue
        position = step(record.position, -len(record.items))
        for item in record.items:
            position = step(position, 1)
            if row.is_full(position):
                row.append_to(batch)
                row = _Row()
            row.add(position, item)
    row.append_to(batch)


def append_event(batch: Batch, position: int, event: Event) -> None:
    """Append an event to a batch."""
    batch.append("event", position, _encode(event), (event.event_type,))


class _Row:
    """A row of the decision log while it is filled."""

    def __init__(self) -> None:
        self._positions: list[int] = []
        self._bodies: list[msgspec.Raw] = []
        self._terms: set[int] = set()
        self._bytes = 0

    def is_full(self, position: int) -> bool:
        """Whether a decision of this position has to go to the next row."""
        held = self._positions
        return bool(held) and (
            len(held) >= MAX_ITEMS_A_ROW or self._bytes >= _MAX_BYTES or position > step(held[0], MAX_SPAN)
        )

    def add(self, position: int, item: Item) -> None:
        """Take a decision in."""
        self._positions.append(position)
        self._bodies.append(item.body)
        self._bytes += len(item.body)
        self._terms.update(item.terms)

    def append_to(self, batch: Batch) -> None:
        """Append the row to a batch, if it holds anything."""
        if not self._positions:
            return
        last = self._positions[-1]
        ages = [microseconds_of(last) - microseconds_of(position) for position in self._positions]
        body = zlib.compress(_encode((ages, self._bodies)), _LEVEL)
        batch.append_decisions(last, body, len(ages), self._terms)


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
