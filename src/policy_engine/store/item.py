"""Items of the decision log: made by whoever checks, sealed, and found by their terms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from policy_engine.model.decision import Decision, ShadowOutcome, Violation
from policy_engine.model.record import Checked, LogEntry
from policy_engine.store.redact import Redactor, places, replaced, without
from policy_engine.store.subjects import Subject, Subjects, seal, seal_alone, subject_name
from policy_engine.store.terms import decision_terms

_encode = msgspec.json.Encoder().encode


_Said = TypeVar("_Said", Decision, ShadowOutcome, Violation)

_NOTHING = msgspec.Raw(b"null")


class Item(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A decision on its way to the log.

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


class Encoder:
    """Makes items on the thread of whoever checks: only the keys of clients that are new are left to the writer."""

    def __init__(self, redactor: Redactor, subjects: Subjects) -> None:
        self._redactor = redactor
        self._personal = redactor.personal
        self._subjects = subjects

    def unquoted(self, checked: Checked) -> Checked:
        """Return a check in whose decision no function quotes a secret of the request; the same one if none does."""
        decision, context, _ = checked
        if not _may_quote(decision) or self._redactor.redacted(context) == context:
            return checked
        secrets = sorted(set(self._redactor.secrets(context)), key=len, reverse=True)
        return checked._replace(decision=_unquoted(decision, secrets))

    def items(
        self, checked: Sequence[Checked], bodies: Sequence[bytes] | None, source: str | None, represents: int
    ) -> list[Item]:
        """Return what is logged of some checks, sealed as far as the keys for that are there.

        Args:
            checked: What was decided.
            bodies: The decisions as JSON, if somebody has encoded them already.
            source: Where the requests came from.
            represents: How many decisions each of these stands for.
        """
        encoded = bodies if bodies is not None else [_encode(item.decision) for item in checked]
        return [self._item(*pair, source, represents) for pair in zip(checked, encoded, strict=True)]

    def _item(self, checked: Checked, encoded: bytes, source: str | None, represents: int) -> Item:
        decision, context, facts = checked
        if decision.explanation is not None:
            decision = msgspec.structs.replace(decision, explanation=None)
            encoded = _encode(decision)
        context = self._redactor.redacted(context)
        client, component = _client(context), _component(context)
        sealed = self._seal(context, client)
        if sealed is not None:
            context, client = sealed
        known: Any = decision if sealed is None else msgspec.Raw(encoded)
        entry = LogEntry(known, context, facts, client, component, source, represents)  # by name it takes far longer
        if sealed is None:
            return Item(decision.decision_id, entry=entry)
        return Item(decision.decision_id, msgspec.Raw(_encode(entry)), _terms(decision, component, client))

    def _seal(self, context: dict[str, Any], client: str | None) -> tuple[dict[str, Any], str | None] | None:
        """Return a context and its client under pseudonyms, None when a key for that is not there."""
        subjects = self._subjects.lasting
        if client is None:
            if all(name in subjects for name in _names_in(context, self._personal)):
                return _seal_alone(context, self._personal, subjects), None
            return None
        owner = subjects.get(client)
        return None if owner is None else (_seal_for(context, self._personal, owner), owner.pseudonym)


def _may_quote(decision: Decision) -> bool:
    """Whether something in a decision may come from a function; all that a rule gives is its own."""
    is_named = decision.rule_index is None and decision.policy_id is not None
    return bool(is_named or decision.parameters or decision.violations or decision.shadow)


def _unquoted(decision: Decision, secrets: Sequence[str]) -> Decision:
    """Return a decision in which what functions answered quotes none of the secrets of the request."""
    return msgspec.structs.replace(
        _reasoned(decision, secrets),
        parameters=without(decision.parameters, secrets),
        violations=tuple(_reasoned(each, secrets) for each in decision.violations),
        shadow=decision.shadow and _reasoned(decision.shadow, secrets),
    )


def _reasoned(said: _Said, secrets: Sequence[str]) -> _Said:
    """Return something with a reason that a function may have given: no rule has."""
    if said.rule_index is not None:
        return said
    return msgspec.structs.replace(said, reason=without(said.reason, secrets))


def _client(context: Mapping[str, Any]) -> str | None:
    client = context.get("client_id")
    return None if client is None or client.__class__ is dict or client.__class__ is list else subject_name(client)


def _component(context: Mapping[str, Any]) -> str | None:
    for key in ("component", "src_type"):
        value = context.get(key)
        if value.__class__ is str:
            return value[:128]
    if "server_id" in context:
        return "fl-server"
    return "fl-client" if "client_id" in context else None


# Sealing


def seal_items(
    entries: Sequence[LogEntry], personal: Sequence[str], ensure: Callable[[set[str]], Mapping[str, Subject]]
) -> list[Item]:
    """Return the sealed items of some entries.

    Args:
        entries: Some in which personal data is still readable.
        personal: Dotted paths of context fields that are written under pseudonyms.
        ensure: Returns the subjects of some names.
    """
    names = ({entry.client} if entry.client is not None else _names_in(entry.context, personal) for entry in entries)
    subjects = ensure(set().union(*names))
    return [_sealed(entry, personal, subjects) for entry in entries]


def _sealed(entry: LogEntry, personal: Sequence[str], subjects: Mapping[str, Subject]) -> Item:
    if entry.client is None:
        context, client = _seal_alone(entry.context, personal, subjects), None
    else:
        owner = subjects[entry.client]
        context, client = _seal_for(entry.context, personal, owner), owner.pseudonym
    entry = msgspec.structs.replace(entry, context=context, client=client)
    return Item(entry.decision.decision_id, msgspec.Raw(_encode(entry)), entry_terms(entry))


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
    for path in personal:
        if path in context or "." in path:
            context = replaced(context, path, token)
    return context


# Searching


def entry_terms(entry: LogEntry) -> tuple[int, ...]:
    """Return the index terms of an entry."""
    return _terms(entry.decision, entry.component, entry.client)


def _terms(decision: Decision, component: str | None, client: str | None) -> tuple[int, ...]:
    violated = bool(decision.violations) and not decision.simulated
    return decision_terms(decision.allowed, violated, decision.policy_type, component, client, decision.policy_id)
