"""Items of the decision log: masked, sealed, and found by their terms."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from policy_engine.model.decision import Decision
from policy_engine.model.record import LogEntry
from policy_engine.store.draft import Draft, request_of, violates
from policy_engine.store.redact import Redactor, places, replaced
from policy_engine.store.subjects import Subject, seal, seal_alone, subject_name
from policy_engine.store.terms import decision_terms

_encode = msgspec.json.Encoder().encode
_decode_decision = msgspec.json.Decoder(Decision).decode

_NOTHING = msgspec.Raw(b"null")


class Item(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A decision on its way to the log, with every secret masked.

    Attributes:
        decision_id: Names it where its content must not be shown.
        body: The encoded entry, once pseudonyms are in the place of personal data.
        terms: What it can be found by, from then on.
        entry: The entry until then.
    """

    decision_id: str
    body: msgspec.Raw = _NOTHING
    terms: tuple[int, ...] = ()
    entry: LogEntry | None = None


Ensure = Callable[[set[str]], Mapping[str, Subject]]
"""Returns the subjects of some names."""


_Open: TypeAlias = tuple[Draft, dict[str, Any], dict[str, Any], str | None]
"""A draft with its context, in which secrets are masked and personal data is still readable, facts and client."""


class Sealer:
    """Makes items of drafts, and of items that are not sealed yet."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._personal = redactor.personal

    def items(self, drafts: Iterable[Draft], ensure: Ensure) -> list[Item]:
        """Return the sealed items of some drafts."""
        opened = [self._open(draft) for draft in drafts]
        subjects = ensure({name for _, context, _, client in opened for name in self._names(context, client)})
        return [self._sealed(each, subjects) for each in opened]

    def known_item(self, draft: Draft, subjects: Mapping[str, Subject]) -> Item:
        """Return the item of a draft, sealed if all the subjects for that are at hand."""
        opened = self._open(draft)
        _, context, facts, client = opened
        if all(name in subjects for name in self._names(context, client)):
            return self._sealed(opened, subjects)
        decision = _decode_decision(draft.decision)
        entry = LogEntry(decision, context, facts, client, _component(context), draft.source, draft.represents)
        try:
            _encode(entry)
        except UnicodeEncodeError:
            entry = _as_text(entry)
        return Item(draft.decision_id, entry=entry)

    def sealed_items(self, items: Sequence[Item], ensure: Ensure) -> list[Item]:
        """Return the same items, all sealed."""
        entries = [item.entry for item in items if item.entry is not None]
        if not entries:
            return [*items]
        subjects = ensure({name for entry in entries for name in self._names(entry.context, entry.client)})
        return [item if item.entry is None else self._sealed_entry(item.entry, subjects) for item in items]

    def _open(self, draft: Draft) -> _Open:
        context, facts = request_of(draft)
        context = self._redactor.redacted(context)
        return draft, context, facts, _client(context)

    def _names(self, context: dict[str, Any], client: str | None) -> Collection[str]:
        return (client,) if client is not None else _names_in(context, self._personal)

    def _sealed(self, opened: _Open, subjects: Mapping[str, Subject]) -> Item:
        draft, context, facts, client = opened
        component = _component(context)
        if client is None:
            context = _seal_alone(context, self._personal, subjects)
        else:
            owner = subjects[client]
            context, client = _seal_for(context, self._personal, owner), owner.pseudonym
        decision: Any = msgspec.Raw(draft.decision)
        entry = LogEntry(decision, context, facts, client, component, draft.source, draft.represents)  # quicker unnamed
        terms = decision_terms(draft.allowed, draft.violated, draft.policy_type, component, client, draft.policy_id)
        return Item(draft.decision_id, msgspec.Raw(_encoded(entry)), terms)

    def _sealed_entry(self, entry: LogEntry, subjects: Mapping[str, Subject]) -> Item:
        client = entry.client
        if client is None:
            context = _seal_alone(entry.context, self._personal, subjects)
        else:
            owner = subjects[client]
            context, client = _seal_for(entry.context, self._personal, owner), owner.pseudonym
        entry = msgspec.structs.replace(entry, context=context, client=client)
        return Item(entry.decision.decision_id, msgspec.Raw(_encoded(entry)), entry_terms(entry))


def _encoded(entry: LogEntry) -> bytes:
    try:
        return _encode(entry)
    except UnicodeEncodeError:
        return _encode(_as_text(entry))


def _as_text(entry: LogEntry) -> LogEntry:
    """Return an entry without halves of surrogate pairs, which no JSON text may hold."""
    context, facts = (
        json.loads(json.dumps(each, ensure_ascii=False).encode("utf-8", "replace"))
        for each in (entry.context, entry.facts)
    )
    return msgspec.structs.replace(entry, context=context, facts=facts)


def _client(context: Mapping[str, Any]) -> str | None:
    client = context.get("client_id")
    return None if client is None or client.__class__ is dict or client.__class__ is list else subject_name(client)


def _component(context: Mapping[str, Any]) -> str | None:
    for key in ("component", "src_type"):
        value = context.get(key)
        if value.__class__ is str:
            return value[:128] if value.isascii() else value[:128].encode("utf-8", "replace").decode()
    if "server_id" in context:
        return "fl-server"
    return "fl-client" if "client_id" in context else None


# Sealing


def _names_in(context: dict[str, Any], personal: Sequence[str]) -> set[str]:
    """Return the subjects in a request that is about no client: its personal values."""
    values = (where[key] for path in personal for where, key in places(context, path))
    return {subject_name(value) for value in values if value is not None}


def _seal_for(context: dict[str, Any], personal: Sequence[str], owner: Subject) -> dict[str, Any]:
    """Return a context with pseudonyms, all under the key of one client."""

    def token(value: Any) -> str:
        return owner.pseudonym if value == owner.name else seal(owner.key, value)

    return _replaced(context, personal, token)


def _seal_alone(context: dict[str, Any], personal: Sequence[str], subjects: Mapping[str, Subject]) -> dict[str, Any]:
    """Return a context with pseudonyms, each under a key of its own."""
    return _replaced(context, personal, lambda value: seal_alone(subjects[subject_name(value)], value))


def _replaced(context: dict[str, Any], personal: Sequence[str], token: Callable[[Any], str]) -> dict[str, Any]:
    sealed = context.copy()
    for path in personal:
        value = sealed.get(path)
        if value is not None:
            sealed[path] = token(value)
        elif "." in path:
            sealed = replaced(sealed, path, token)
    return sealed


# Searching


def entry_terms(entry: LogEntry) -> tuple[int, ...]:
    """Return the index terms of an entry."""
    decision = entry.decision
    return decision_terms(
        decision.allowed,
        violates(decision),
        decision.policy_type,
        entry.component,
        entry.client,
        decision.policy_id,
    )
