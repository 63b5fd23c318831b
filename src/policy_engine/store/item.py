"""Items of the decision log: what is known of a decision on its way there, apart from how it is stored."""

from __future__ import annotations

import msgspec

from policy_engine.model.record import LogEntry
from policy_engine.store.draft import Draft, violates
from policy_engine.store.terms import client_terms, shared_terms

_NOTHING = msgspec.Raw(b"null")


class Item(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A decision as it may be spooled, with every secret masked.

    Attributes:
        decision_id: Names it where its content must not be shown.
        body: The encoded entry, once pseudonyms are in the place of personal data.
        terms: What it can be found by, from then on.
        draft: What there is until then.
    """

    decision_id: str
    body: msgspec.Raw = _NOTHING
    terms: tuple[int, ...] = ()
    draft: Draft | None = None


def entry_terms(entry: LogEntry) -> tuple[int, ...]:
    """Return the index terms of an entry."""
    decision = entry.decision
    shared = shared_terms(
        decision.allowed, violates(decision), decision.policy_type, entry.component, decision.policy_id
    )
    return shared if entry.client is None else (*shared, *client_terms(decision.allowed, entry.client))
