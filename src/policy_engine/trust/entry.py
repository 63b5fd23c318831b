"""What changes trust: entries in the order in which they were taken, and the step that each of them makes.

Trust follows from the entries of a federation alone, so whoever has them can reckon it again and must get the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, NamedTuple, TypeAlias

import msgspec

from policy_engine.trust.advice import RoundAdvice
from policy_engine.trust.observation import RoundObservation, StoredName
from policy_engine.trust.override import Kind, Override, Overrides, fixed_scores, quarantined
from policy_engine.trust.round import close_round, violated
from policy_engine.trust.settings import TrustSettings
from policy_engine.trust.standing import NEW, Standing


class RoundEntry(msgspec.Struct, frozen=True, kw_only=True, tag="round"):
    """A round was observed.

    Attributes:
        at: When, in seconds since 1970, as in every entry.
        decided: Client -> what policies decided about it by its trust after the round; it holds from then on.
    """

    observation: RoundObservation
    at: float
    decided: dict[str, Override] = {}


class ViolationEntry(msgspec.Struct, frozen=True, kw_only=True, tag="violation"):
    """An enforcement point saw a client break a rule that counts against clients.

    Attributes:
        round: The first round that was not closed yet.
    """

    client_id: StoredName
    policy_id: str
    rule_index: Annotated[int, msgspec.Meta(ge=0)]
    round: int
    author: str
    at: float


class OverrideEntry(msgspec.Struct, frozen=True, kw_only=True, tag="override"):
    """A person or a policy decided about a client; its `since` is when."""

    client_id: StoredName
    override: Override


class ReleaseEntry(msgspec.Struct, frozen=True, kw_only=True, tag="release"):
    """A person took back what was decided about a client."""

    client_id: StoredName
    kind: Kind
    author: str
    reason: str
    at: float


class RecalculationEntry(msgspec.Struct, frozen=True, kw_only=True, tag="recalculation"):
    """All standings were reckoned again from the entries before this one, and some of them replaced.

    Attributes:
        changed: How many.
    """

    author: str
    changed: int
    at: float


Entry: TypeAlias = RoundEntry | ViolationEntry | OverrideEntry | ReleaseEntry | RecalculationEntry


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
        absent: How many clients were left out of it because they are excluded.
    """

    standings: Mapping[str, Standing]
    overrides: Overrides
    last_round: int
    advice: RoundAdvice | None = None
    absent: int = 0


def clients_of(entry: Entry) -> tuple[str, ...]:
    """Return whom an entry is about."""
    if isinstance(entry, RoundEntry):
        observation = entry.observation
        return (*(update.client_id for update in observation.clients), *observation.left_out)
    return () if isinstance(entry, RecalculationEntry) else (entry.client_id,)


def moment_of(entry: Entry) -> float:
    """Return when an entry was taken, in seconds since 1970."""
    return entry.override.since if isinstance(entry, OverrideEntry) else entry.at


def renamed(entry: Entry, names: Mapping[str, str]) -> Entry:
    """Return the same entry about clients of other names."""
    if isinstance(entry, RecalculationEntry):
        return entry
    if not isinstance(entry, RoundEntry):
        return msgspec.structs.replace(entry, client_id=names[entry.client_id])
    replace, observation = msgspec.structs.replace, entry.observation
    clients = tuple(replace(update, client_id=names[update.client_id]) for update in observation.clients)
    left_out = tuple(names[name] for name in observation.left_out)
    decided = {names[name]: each for name, each in entry.decided.items()}
    return replace(entry, observation=replace(observation, clients=clients, left_out=left_out), decided=decided)


def advance(entry: Entry, state: State, settings: TrustSettings) -> Step:
    """Return what an entry changes."""
    if isinstance(entry, RoundEntry):
        return _observed(entry, state, settings)
    if isinstance(entry, ViolationEntry):
        return _lowered(entry, state, settings)
    if isinstance(entry, RecalculationEntry):
        return Step({}, {}, state.last_round)
    overrides = state.overrides.get(entry.client_id, ())
    if isinstance(entry, OverrideEntry):
        left = with_override(overrides, entry.override)
    else:
        left = tuple(each for each in overrides if each.kind != entry.kind)
    standing = state.standings.get(entry.client_id, NEW)  # who was decided about is on record from then on
    return Step({entry.client_id: standing}, {entry.client_id: left}, state.last_round)


def _observed(entry: RoundEntry, state: State, settings: TrustSettings) -> Step:
    overrides, at = state.overrides, entry.at
    closed = close_round(
        entry.observation, state.standings, settings, quarantined(overrides, at), fixed_scores(overrides, at)
    )
    decided = {name: with_override(overrides.get(name, ()), each) for name, each in entry.decided.items()}
    return Step(closed.standings, decided, entry.observation.round, closed.advice, closed.absent)


def with_override(overrides: tuple[Override, ...], added: Override) -> tuple[Override, ...]:
    """Return overrides of a client with another one, which takes the place of one of its kind."""
    return (*(each for each in overrides if each.kind != added.kind), added)


def _lowered(entry: ViolationEntry, state: State, settings: TrustSettings) -> Step:
    standing = state.standings.get(entry.client_id, NEW)
    trust = fixed_scores(state.overrides, entry.at).get(entry.client_id)
    return Step({entry.client_id: violated(standing, entry.round, settings, trust)}, {}, state.last_round)
