"""What changes trust: entries in the order in which they were taken, and the step that each of them makes.

Trust follows from the entries of a federation alone, so whoever has them can reckon it again and must get the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, NamedTuple, TypeAlias

import msgspec

from policy_engine.trust.advice import RoundAdvice
from policy_engine.trust.observation import Name, RoundObservation
from policy_engine.trust.override import Kind, Override, Overrides, fixed_scores, quarantined
from policy_engine.trust.round import close_round, violated
from policy_engine.trust.settings import TrustSettings
from policy_engine.trust.standing import NEW, Standing


class RoundEntry(msgspec.Struct, frozen=True, kw_only=True, tag="round"):
    """A round was observed.

    Attributes:
        at: When, in seconds since 1970, as in every entry.
    """

    observation: RoundObservation
    at: float


class ViolationEntry(msgspec.Struct, frozen=True, kw_only=True, tag="violation"):
    """An enforcement point saw a client break a rule that counts against clients.

    Attributes:
        round: The first round that was not closed yet.
    """

    client_id: Name
    policy_id: str
    rule_index: Annotated[int, msgspec.Meta(ge=0)]
    round: int
    author: str
    at: float


class OverrideEntry(msgspec.Struct, frozen=True, kw_only=True, tag="override"):
    """A person or a policy decided about a client; its `since` is when."""

    client_id: Name
    override: Override


class ReleaseEntry(msgspec.Struct, frozen=True, kw_only=True, tag="release"):
    """A person took back what was decided about a client."""

    client_id: Name
    kind: Kind
    author: str
    reason: str
    at: float


Entry: TypeAlias = RoundEntry | ViolationEntry | OverrideEntry | ReleaseEntry


class State(NamedTuple):
    """What is known of a federation, as far as an entry needs it.

    Attributes:
        standings: Of the clients that the entry is about; those that are missing are new.
        overrides: Of the same.
        last_round: The last round that was closed; 0 before the first.
    """

    standings: Mapping[str, Standing]
    overrides: Overrides
    last_round: int = 0


class Step(NamedTuple):
    """What an entry changes.

    Attributes:
        standings: Those that changed.
        overrides: Whose overrides changed, and what all of them are now.
        last_round: As in State, afterwards.
        advice: What to do with the updates, if it was a round.
    """

    standings: Mapping[str, Standing]
    overrides: Overrides
    last_round: int
    advice: RoundAdvice | None = None


def clients_of(entry: Entry) -> tuple[str, ...]:
    """Return whom an entry is about."""
    if isinstance(entry, RoundEntry):
        return tuple(update.client_id for update in entry.observation.clients)
    return (entry.client_id,)


def advance(entry: Entry, state: State, settings: TrustSettings) -> Step:
    """Return what an entry changes."""
    if isinstance(entry, RoundEntry):
        return _observed(entry, state, settings)
    if isinstance(entry, ViolationEntry):
        return _lowered(entry, state, settings)
    overrides = state.overrides.get(entry.client_id, ())
    added: tuple[Override, ...]
    if isinstance(entry, OverrideEntry):
        kind, added = entry.override.kind, (entry.override,)
    else:
        kind, added = entry.kind, ()
    kept = tuple(each for each in overrides if each.kind != kind)
    standing = state.standings.get(entry.client_id, NEW)  # who was decided about is on record from then on
    return Step({entry.client_id: standing}, {entry.client_id: (*kept, *added)}, state.last_round)


def _observed(entry: RoundEntry, state: State, settings: TrustSettings) -> Step:
    overrides, at = state.overrides, entry.at
    closed = close_round(
        entry.observation, state.standings, settings, quarantined(overrides, at), fixed_scores(overrides, at)
    )
    return Step(closed.standings, {}, entry.observation.round, closed.advice)


def _lowered(entry: ViolationEntry, state: State, settings: TrustSettings) -> Step:
    standing = state.standings.get(entry.client_id, NEW)
    trust = fixed_scores(state.overrides, entry.at).get(entry.client_id)
    return Step({entry.client_id: violated(standing, entry.round, settings, trust)}, {}, state.last_round)
