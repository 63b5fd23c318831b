"""The sealer: from drafts to entries of the log, with masks and pseudonyms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import msgspec
from msgspec import Raw

from policy_engine.model.record import LogEntry
from policy_engine.store.draft import Draft, decode_context, encode_context
from policy_engine.store.encode import encode_entry
from policy_engine.store.item import Item
from policy_engine.store.redact import Redactor, places, replaced
from policy_engine.store.shape import Shape, shape_of
from policy_engine.store.subjects import Subject, seal, seal_alone, subject_name
from policy_engine.store.terms import client_terms, shared_terms

_MAX_SHAPES = 10_000
_are_plain = frozenset({str, int, float, bool, type(None)}).issuperset

Pending: TypeAlias = Draft | Item
"""What is to become an entry."""

Ensure = Callable[[set[str]], Mapping[str, Subject]]
"""Returns the subjects of some names."""

Opened: TypeAlias = tuple[Draft, dict[str, Any], str | None, Shape]
"""A draft with its context, in which secrets are masked and personal data is still readable, and its client."""


class Sealed(NamedTuple):
    """Decisions as they are logged.

    Attributes:
        entries: One for each of them, or its encoded form.
        terms: What all of them can be found by.
    """

    entries: list[LogEntry | Raw]
    terms: set[int]


class Sealer:
    """Masks secrets, and puts pseudonyms in the place of personal data."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._shapes: dict[tuple[str, ...], Shape] = {}

    def opened(self, pending: Iterable[Pending]) -> list[Opened | Item]:
        """Return decisions with their secrets masked, those that are sealed as they are."""
        found = ((each, _draft_in(each)) for each in pending)
        return [self._open(draft) if draft is not None else each for each, draft in found]  # type: ignore[misc] # sealed

    def known_item(self, draft: Draft, subjects: Mapping[str, Subject]) -> Item:
        """Return a decision as it may be spooled: sealed if all the subjects for that are at hand."""
        opened = self._open(draft)
        if not names_in([opened]) <= subjects.keys():
            masked = msgspec.structs.replace(draft, context=encode_context(opened[1]))
            return Item(draft.decision_id, draft=masked)
        (entry,), terms = sealed([opened], subjects)
        return Item(draft.decision_id, entry if isinstance(entry, Raw) else Raw(encode_entry(entry)), tuple(terms))

    def _open(self, draft: Draft) -> Opened:
        """Return a draft with its secrets masked."""
        context = decode_context(draft.context)
        keys = tuple(context)
        shape = self._shapes.get(keys) or self._remember_shape(keys)
        if not (shape.is_open and _are_plain(map(type, context.values()))):
            context = self._redactor.redact(context)
        return draft, context, _client(context["client_id"]) if shape.names_client else None, shape

    def _remember_shape(self, keys: tuple[str, ...]) -> Shape:
        if len(self._shapes) >= _MAX_SHAPES:
            self._shapes.clear()
        shape = self._shapes[keys] = shape_of(keys, self._redactor)
        return shape


def _draft_in(pending: Pending) -> Draft | None:
    """Return what is still to be sealed."""
    return pending if isinstance(pending, Draft) else pending.draft


def _client(client: Any) -> str | None:
    return None if client is None or client.__class__ is dict or client.__class__ is list else subject_name(client)


def names_in(opened: Iterable[Opened | Item]) -> set[str]:
    """Return whom requests are about: their clients, or else each personal value in them."""
    names: set[str] = set()
    for each in opened:
        if isinstance(each, Item):
            continue
        _, context, client, shape = each
        if client is not None:
            names.add(client)
        elif shape.is_personal:
            names.update(map(subject_name, _personal_values(context, shape)))
    return names


def sealed(opened: Sequence[Opened | Item], subjects: Mapping[str, Subject]) -> Sealed:
    """Return decisions as they are logged; their contexts are used up."""
    drafts = [each for each in opened if not isinstance(each, Item)]
    fresh = _sealed_drafts(drafts, subjects)
    if len(drafts) == len(opened):
        return fresh
    entries = iter(fresh.entries)
    done = [each.terms for each in opened if isinstance(each, Item)]
    return Sealed([each.body if isinstance(each, Item) else next(entries) for each in opened], fresh.terms.union(*done))


def _sealed_drafts(opened: Sequence[Opened], subjects: Mapping[str, Subject]) -> Sealed:
    entries: list[LogEntry | Raw] = []
    # Many decisions have the same terms.
    alike: set[tuple[bool, bool, str, str | None, str | None]] = set()
    clients: set[tuple[bool, str]] = set()
    for draft, context, client, shape in opened:
        component = shape.component_in(context)
        if client is not None:
            context, client = _sealed_for(subjects[client], context, shape)  # noqa: PLW2901 - used up
            clients.add((draft.allowed, client))
        elif shape.is_personal:
            context = _sealed_alone(subjects, context, shape)  # noqa: PLW2901 - used up
        decision: Any = Raw(draft.decision)
        facts: Any = Raw(draft.facts)
        # Unnamed, because that is quicker.
        entries.append(LogEntry(decision, context, facts, client, component, draft.source, draft.represents))
        alike.add((draft.allowed, draft.violated, draft.policy_type, component, draft.policy_id))
    shared = [shared_terms(*each) for each in alike]
    return Sealed(entries, set().union(*shared, *[client_terms(*each) for each in clients]))


def _personal_values(context: dict[str, Any], shape: Shape) -> Iterator[Any]:
    found = [context[key] for key in shape.personal]
    found += [where[key] for path in shape.nested for where, key in places(context, path)]
    return (value for value in found if value is not None)


def _sealed_for(owner: Subject, context: dict[str, Any], shape: Shape) -> tuple[dict[str, Any], str]:
    """Return a context with tokens under the key of its client, and the client's; the context is used up."""
    name, key, pseudonym = owner
    for place in shape.personal:
        value = context[place]
        if value is not None:
            context[place] = pseudonym if value == name else seal(key, value)
    for path in shape.nested:
        context = replaced(context, path, lambda value: pseudonym if value == name else seal(key, value))
    return context, pseudonym


def _sealed_alone(subjects: Mapping[str, Subject], context: dict[str, Any], shape: Shape) -> dict[str, Any]:
    """Return a context with tokens, each under a key of its own; the context is used up."""
    for place in shape.personal:
        value = context[place]
        if value is not None:
            context[place] = seal_alone(subjects[subject_name(value)], value)
    for path in shape.nested:
        context = replaced(context, path, lambda value: seal_alone(subjects[subject_name(value)], value))
    return context
