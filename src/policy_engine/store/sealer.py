"""The sealer: from decisions to entries of the log, with masks and pseudonyms.

Whoever checks seals what it can, so that the writer, on whom everybody waits, has little to do: nearly always the
clients are known. What names somebody new waits unsealed until the writer has made a key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from policy_engine.model.record import Checked, LogEntry
from policy_engine.store.draft import Draft, decode_context, draft, encode_context, encode_facts
from policy_engine.store.item import Pending, Sealed, Unsealed, sealed_draft
from policy_engine.store.redact import Redactor, places, replaced
from policy_engine.store.shape import Shape, shape_of
from policy_engine.store.subjects import MARK, Subject, pseudonym_in, seal, seal_alone, subject_name, unseal

_MAX_SHAPES = 10_000

_FLAT = frozenset({str, int, float, bool, type(None)})

_encode = msgspec.json.Encoder().encode
_decode_entry = msgspec.json.Decoder(LogEntry).decode

Ensure = Callable[[set[str]], Mapping[str, Subject]]
"""Returns the subjects of some names."""

Opened: TypeAlias = tuple[Draft, dict[str, Any], str | None, Shape]
"""A decision with its context, in which secrets are masked and personal data is still readable, and its client."""


class Sealer:
    """Masks secrets, and puts pseudonyms in the place of personal data."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._shapes: dict[tuple[str, ...], Shape] = {}

    def take(
        self, checked: Checked, encoded: bytes, source: str | None, represents: int, subjects: Mapping[str, Subject]
    ) -> Pending:
        """Return a check as it waits to be logged: sealed, if all whom it names are among some subjects.

        Args:
            checked: What was decided, upon what.
            encoded: The decision, as `encode_decision` returns it.
            source: Where the request came from.
            represents: How many decisions it stands for.
            subjects: Whose keys are known.

        Raises:
            TypeError: The context holds what is not of JSON.
        """
        decision, context, facts = checked
        keys = tuple(context)
        shape = self._shapes.get(keys) or self._remember_shape(keys)
        of = draft(decision, facts, encoded, source, represents)
        simple = _take_simple(of, context, shape, subjects) if shape.is_simple else None
        if simple is not None:
            return simple
        context = self._redactor.redact(context)
        opened = self._open_unsealed(of, context)
        if _names_in(opened) <= subjects.keys():
            return _sealed(opened, subjects)
        return Unsealed(of, encode_context(context))

    def seal(self, pending: Sequence[Pending], subjects: Mapping[str, Subject], ensure: Ensure) -> list[Sealed]:
        """Return decisions as they are logged.

        Args:
            pending: The decisions. Those that were sealed with keys of other subjects are sealed again: some of these
                may have been deleted.
            subjects: Whose keys are known, and were not deleted.
            ensure: Returns the subjects of names; called once, as two transactions that make keys in more than one
                order could wait for each other.
        """
        stale = stale_subjects(pending, subjects)
        found = [self._open(each, subjects, stale) for each in pending]
        opened = [each for each in found if not isinstance(each, Sealed)]
        ensured = ensure(set().union(*map(_names_in, opened))) if opened else subjects
        return [each if isinstance(each, Sealed) else _sealed(each, ensured) for each in found]

    def seal_known(self, pending: Pending, subjects: Mapping[str, Subject], stale: Mapping[str, Subject]) -> Pending:
        """Return a decision sealed if all whom it names are among some subjects; unsealed otherwise.

        Args:
            pending: The decision.
            subjects: Whose keys are known, and were not deleted.
            stale: Others whose keys were used, as `stale_subjects` returns them.
        """
        opened = self._open(pending, subjects, stale)
        if isinstance(opened, Sealed):
            return opened
        if _names_in(opened) <= subjects.keys():
            return _sealed(opened, subjects)
        return pending if isinstance(pending, Unsealed) else Unsealed(opened[0], encode_context(opened[1]))

    def _open(self, pending: Pending, subjects: Mapping[str, Subject], stale: Mapping[str, Subject]) -> Opened | Sealed:
        """Return a decision opened, or as it is if it is sealed for good."""
        if isinstance(pending, Unsealed):
            return self._open_unsealed(pending.draft, decode_context(pending.context))
        return pending if _is_good(pending, subjects) else self._open_sealed(pending, stale)

    def _open_sealed(self, sealed: Sealed, stale: Mapping[str, Subject]) -> Opened:
        """Return a decision as it was before it was sealed with the keys of some subjects."""
        entry = _decode_entry(sealed.body)
        for where, key in tokens_in(entry, self._redactor.personal):
            where[key] = unseal(stale[owner_of(entry, where[key])].key, where[key])
        found = draft(entry.decision, entry.facts, _encode(entry.decision), entry.source, entry.represents)
        return self._open_unsealed(found, entry.context)

    def _open_unsealed(self, of: Draft, context: dict[str, Any]) -> Opened:
        keys = tuple(context)
        shape = self._shapes.get(keys) or self._remember_shape(keys)
        return of, context, _client(context["client_id"]) if shape.names_client else None, shape

    def _remember_shape(self, keys: tuple[str, ...]) -> Shape:
        if len(self._shapes) >= _MAX_SHAPES:
            self._shapes.clear()
        shape = self._shapes[keys] = shape_of(keys, self._redactor)
        return shape


def _take_simple(of: Draft, context: dict[str, Any], shape: Shape, subjects: Mapping[str, Subject]) -> Sealed | None:
    """Return a decision of a client that is known, sealed as `Sealer.take` does it; None if it is another one.

    This is the common case, and the hot path.
    """
    client = context["client_id"]
    owner = subjects.get(client) if client.__class__ is str else None
    if owner is None or not all(context[place].__class__ in _FLAT for place in shape.personal):
        return None
    component = shape.component_in(context)
    context, pseudonym = _sealed_for(owner, context, shape)
    try:
        asked = _encode(context)
    except UnicodeEncodeError:
        return None
    if asked.find(b"{", 1) >= 0 or b"[" in asked:  # further in there may be secrets
        return None
    return sealed_draft(of, asked, pseudonym, component, subjects)


def _is_good(sealed: Sealed, subjects: Mapping[str, Subject]) -> bool:
    return sealed.subjects is None or sealed.subjects is subjects


def stale_subjects(pending: Iterable[Pending], subjects: Mapping[str, Subject]) -> dict[str, Subject]:
    """Return by pseudonym with whose keys decisions were sealed, but for those that are good."""
    used = {
        id(each.subjects): each.subjects
        for each in pending
        if isinstance(each, Sealed) and each.subjects is not None and each.subjects is not subjects
    }
    return {subject.pseudonym: subject for known in used.values() for subject in known.values()}


def _client(client: Any) -> str | None:
    return None if client is None or client.__class__ is dict or client.__class__ is list else subject_name(client)


def _names_in(opened: Opened) -> set[str]:
    """Return the names of whom a request is about: its client, or else each personal value in it."""
    _, context, client, shape = opened
    if client is not None:
        return {client}
    return set(map(subject_name, _personal_values(context, shape))) if shape.is_personal else set()


def _personal_values(context: dict[str, Any], shape: Shape) -> Iterator[Any]:
    found = [context[key] for key in shape.personal]
    found += [where[key] for path in shape.nested for where, key in places(context, path)]
    return (value for value in found if value is not None)


def _sealed(opened: Opened, subjects: Mapping[str, Subject]) -> Sealed:
    """Return a decision as it is logged."""
    of, context, client, shape = opened
    component = shape.component_in(context)
    if client is not None:
        context, client = _sealed_for(subjects[client], context, shape)
    elif shape.is_personal:
        context = _sealed_alone(subjects, context, shape)
    try:
        asked = _encode(context)
    except UnicodeEncodeError:  # half a surrogate pair: callers of the library may send it
        asked = encode_facts(context)
    return sealed_draft(of, asked, client, component, subjects)


def _sealed_for(owner: Subject, context: dict[str, Any], shape: Shape) -> tuple[dict[str, Any], str]:
    """Return a context with tokens under the key of its client, and the client's."""
    name, key, pseudonym = owner
    context = context.copy()
    for place in shape.personal:
        value = context[place]
        if value is not None:
            context[place] = pseudonym if value == name else seal(key, value)
    for path in shape.nested:
        context = replaced(context, path, lambda value: pseudonym if value == name else seal(key, value))
    return context, pseudonym


def _sealed_alone(subjects: Mapping[str, Subject], context: dict[str, Any], shape: Shape) -> dict[str, Any]:
    """Return a context with tokens, each under a key of its own."""
    context = context.copy()
    for place in shape.personal:
        value = context[place]
        if value is not None:
            context[place] = seal_alone(subjects[subject_name(value)], value)
    for path in shape.nested:
        context = replaced(context, path, lambda value: seal_alone(subjects[subject_name(value)], value))
    return context


def tokens_in(entry: LogEntry, personal: Iterable[str]) -> list[tuple[dict[str, Any], str]]:
    """Return the places in the context of an entry where tokens stand for personal data: an object and a key each."""
    found = [place for path in personal for place in places(entry.context, path)]
    return [(where, key) for where, key in found if isinstance(where[key], str) and where[key].startswith(MARK)]


def owner_of(entry: LogEntry, token: str) -> str:
    """Return the pseudonym of the subject with whose key a token of an entry was made."""
    return pseudonym_in(token) if entry.client is None else entry.client
