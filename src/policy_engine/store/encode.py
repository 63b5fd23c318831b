"""From what is recorded to what is stored, and back."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from policy_engine.model.event import Event
from policy_engine.model.record import Checked, LogEntry
from policy_engine.store.batch import Batch, decision_terms
from policy_engine.store.position import step
from policy_engine.store.redact import Redactor, places, replaced
from policy_engine.store.subjects import Subject, seal, seal_alone, subject_name

log = logging.getLogger(__name__)

MAX_ITEMS_A_ROW = 1000
_LEVEL = 1

_encode = msgspec.json.Encoder().encode
_decode_entry = msgspec.json.Decoder(LogEntry).decode
_decode_entries = msgspec.json.Decoder(list[LogEntry]).decode


class Decisions(msgspec.Struct, frozen=True, kw_only=True, tag="decisions"):
    """Decisions that were made together, waiting to be stored.

    Attributes:
        position: Of the last of them; those before it have consecutive positions.
    """

    position: int
    entries: list[LogEntry]


class Happened(msgspec.Struct, frozen=True, kw_only=True, tag="event"):
    """An event, waiting to be stored."""

    position: int
    event: Event


Record = Decisions | Happened
encode_record = _encode
_decode_record = msgspec.json.Decoder(Record).decode


def log_entry(checked: Checked, redactor: Redactor, source: str | None, represents: int) -> LogEntry:
    """Return what is logged of a check; personal data is still readable."""
    decision, context, facts = checked
    if decision.explanation is not None:
        decision = msgspec.structs.replace(decision, explanation=None)
    client = context.get("client_id")
    return LogEntry(
        decision=decision,
        context=redactor.redacted(context),
        facts=facts,
        client=None if client is None or client.__class__ is dict or client.__class__ is list else subject_name(client),
        component=_component(context),
        source=source,
        represents=represents,
    )


def _component(context: Mapping[str, Any]) -> str | None:
    for key in ("component", "src_type"):
        value = context.get(key)
        if value.__class__ is str:
            return value[:128]
    if "server_id" in context:
        return "fl-server"
    return "fl-client" if "client_id" in context else None


def names_in(entry: LogEntry, personal: Sequence[str]) -> set[str]:
    """Return the subjects whose keys an entry needs: its client, else the personal values are their own subjects."""
    if entry.client is not None:
        return {entry.client}
    values = (where[key] for path in personal for where, key in places(entry.context, path))
    return {subject_name(value) for value in values if value is not None}


def seal_entry(entry: LogEntry, personal: Sequence[str], subjects: Mapping[str, Subject]) -> LogEntry:
    """Return an entry with pseudonyms in the place of personal data; the one that is given may be sealed again."""
    owner = subjects[entry.client] if entry.client is not None else None

    def token(value: Any) -> str:
        return seal(owner.key, value) if owner is not None else seal_alone(subjects[subject_name(value)], value)

    context = entry.context
    for path in personal:
        if path in context or "." in path:
            context = replaced(context, path, token)
    if owner is None and context is entry.context:
        return entry
    return LogEntry(
        decision=entry.decision,
        context=context,
        facts=entry.facts,
        client=None if owner is None else owner.pseudonym,
        component=entry.component,
        source=entry.source,
        represents=entry.represents,
    )


def append_record(batch: Batch, record: Record, personal: Sequence[str], subjects: Mapping[str, Subject]) -> None:
    """Append what was recorded to a batch."""
    if isinstance(record, Happened):
        append_event(batch, record.position, record.event)
        return
    entries = [seal_entry(entry, personal, subjects) for entry in record.entries]
    first = step(record.position, 1 - len(entries))
    for start in range(0, len(entries), MAX_ITEMS_A_ROW):
        part = entries[start : start + MAX_ITEMS_A_ROW]
        position = step(first, start + len(part) - 1)
        if len(part) == 1:
            _append_one(batch, position, part[0])
        else:
            _append_many(batch, position, part)


def append_event(batch: Batch, position: int, event: Event) -> None:
    """Append an event to a batch."""
    batch.append("event", position, _encode(event), (event.event_type,))


def _append_one(batch: Batch, position: int, entry: LogEntry) -> None:
    columns, terms = entry_terms(entry)
    decision = entry.decision
    batch.append_decision(position, _encode(entry), (1, decision.allowed, is_violation(entry), *columns), terms)


def _append_many(batch: Batch, position: int, entries: list[LogEntry]) -> None:
    terms: set[int] = set()
    for entry in entries:
        terms.update(entry_terms(entry)[1])
    first = entries[0]
    type_ = entry_terms(first)[0][0]
    columns = (
        len(entries),
        any(entry.decision.allowed for entry in entries),
        any(is_violation(entry) for entry in entries),
        type_,
        0,
        0,
        0,
    )
    batch.append_decision(position, zlib.compress(_encode(entries), _LEVEL), columns, terms)


def entry_terms(entry: LogEntry) -> tuple[tuple[int, int, int, int], tuple[int, ...]]:
    """Return the columns and the index terms of an entry."""
    decision = entry.decision
    return decision_terms(
        allowed=decision.allowed,
        type_=decision.policy_type,
        component=entry.component,
        client=entry.client,
        policy=decision.policy_id,
    )


def is_violation(entry: LogEntry) -> bool:
    """Whether a rule was violated, so that the check is an event of that kind."""
    return bool(entry.decision.violations) and not entry.decision.simulated


def may_name(count: int, body: bytes, identity: str) -> bool:
    """Whether a row may hold the decision of an id; quicker than to decode it."""
    return count == 1 or identity.encode() in zlib.decompress(body)


def decode_entries(position: int, count: int, body: bytes) -> list[tuple[int, LogEntry]]:
    """Return the entries in a row of the decision log, each with its position."""
    if count == 1:
        return [(position, _decode_entry(body))]
    entries = _decode_entries(zlib.decompress(body))
    return [(step(position, number + 1 - len(entries)), entry) for number, entry in enumerate(entries)]


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
    return f"decisions {record.entries[0].decision.decision_id} and {len(record.entries) - 1} more"
