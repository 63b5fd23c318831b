"""Items of the decision log: what is known of a decision on its way there, apart from how it is stored."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TypeAlias

import msgspec
from msgspec import Raw

from policy_engine.model.record import LogEntry
from policy_engine.store.draft import Draft, Labels, violates
from policy_engine.store.subjects import Subject
from policy_engine.store.terms import client_terms, shared_terms

_NOTHING = Raw(b"null")

_encode = msgspec.json.Encoder().encode


class Unsealed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A decision in which personal data is readable: somebody whom it names has no key yet.

    Attributes:
        draft: The decision.
        context: What was asked, as JSON, with every secret masked.
    """

    draft: Draft
    context: bytes

    @property
    def decision_id(self) -> str:
        """What names it."""
        return self.draft.decision_id


class Sealed(msgspec.Struct, frozen=True, gc=False):
    """A decision as it is logged.

    Attributes:
        decision_id: Names it where its content must not be shown.
        parts: The encoded entry (`LogEntry`), in parts: whoever seals leaves it to others to copy these together.
        terms: What it can be found by.
        subjects: Those with whose keys it was sealed, as long as these may have been deleted since; None afterwards.
    """

    decision_id: str
    parts: tuple[bytes, ...]
    terms: tuple[int, ...]
    subjects: Mapping[str, Subject] | None = None

    @property
    def body(self) -> bytes:
        """The encoded entry."""
        return b"".join(self.parts)


Pending: TypeAlias = Sealed | Unsealed
"""What is to become an entry."""


class Item(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is pending as it may be spooled.

    Attributes:
        decision_id: Names it where its content must not be shown.
        body: The encoded entry, once pseudonyms are in the place of personal data.
        terms: What it can be found by, from then on.
        unsealed: What there is until then.
    """

    decision_id: str
    body: Raw = _NOTHING
    terms: tuple[int, ...] = ()
    unsealed: Unsealed | None = None


def to_item(pending: Pending) -> Item:
    """Return what is pending as an item."""
    if isinstance(pending, Unsealed):
        return Item(pending.decision_id, unsealed=pending)
    return Item(pending.decision_id, Raw(pending.body), pending.terms)


def from_item(item: Item) -> Pending:
    """Return what an item was made of."""
    return item.unsealed or Sealed(item.decision_id, (bytes(memoryview(item.body)),), item.terms)


def sealed_draft(
    draft: Draft, context: bytes, client: str | None, component: str | None, subjects: Mapping[str, Subject]
) -> Sealed:
    """Return a decision as it is logged.

    Args:
        draft: The decision.
        context: What was asked, sealed, as JSON.
        client: The pseudonym of whom it is about.
        component: What kind of component asks.
        subjects: With whose keys it is sealed.
    """
    end, terms = _ending(draft.labels, client, component)
    # Most of it is encoded already.
    parts = (b'{"decision":', draft.decision, b',"context":', context, b',"facts":', draft.facts, end)
    return Sealed(draft.decision_id, parts, terms, subjects)


@lru_cache(maxsize=1 << 14)
def _ending(labels: Labels, client: str | None, component: str | None) -> tuple[bytes, tuple[int, ...]]:
    """Return what an entry ends with, and its terms: the requests of a client have few of them."""
    allowed, violated, type_, policy, source, represents = labels
    end = b',"client":%b,"component":%b,"source":%b,"represents":%b}' % (
        _encode(client),
        _encode(component),
        _encode(source),
        _encode(represents),
    )
    shared = shared_terms(allowed, violated, type_, component, policy)
    return end, shared if client is None else (*shared, *client_terms(allowed, client))


def entry_terms(entry: LogEntry) -> tuple[int, ...]:
    """Return the index terms of an entry."""
    decision = entry.decision
    shared = shared_terms(
        decision.allowed, violates(decision), decision.policy_type, entry.component, decision.policy_id
    )
    return shared if entry.client is None else (*shared, *client_terms(decision.allowed, entry.client))
