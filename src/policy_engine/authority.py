"""The authority on trust: takes what is observed of clients, answers what to do, and knows the facts that follow."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from typing import Any

import msgspec

from policy_engine.facts.trust import Known, TrustFacts, TrustRecord
from policy_engine.judgement import Judge, Judgement
from policy_engine.model.errors import (
    BusyError,
    ConflictError,
    LateRoundError,
    RoundConflictError,
    UnknownOverrideError,
)
from policy_engine.trust.advice import ClientAdvice, RoundAdvice
from policy_engine.trust.entry import (
    Entry,
    OverrideEntry,
    ReleaseEntry,
    RoundEntry,
    State,
    Step,
    ViolationEntry,
    advance,
    clients_of,
)
from policy_engine.trust.memory import Head, Ledger, MemoryLedger
from policy_engine.trust.observation import RoundObservation
from policy_engine.trust.override import Kind, Override
from policy_engine.trust.round import advised
from policy_engine.trust.settings import TrustSettings, parameters
from policy_engine.trust.standing import (
    NEW,
    Band,
    Standing,
    band_of,
    change_of,
    is_on_probation,
    is_probed,
    trust_score,
)

DEFAULT_FEDERATION = "default"
_ATTEMPTS = 20


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Whom to invite to a round.

    Attributes:
        invited: Those that train.
        on_probation: Those of them that are new: the reference is not made from their updates, as long as the others
            are enough.
        probed: Excluded clients whose update is asked for and not aggregated, so that they can earn trust back.
        left_out: The others, each with the reason.
    """

    federation: str
    round: int
    invited: list[str]
    probed: list[str]
    left_out: dict[str, str]
    on_probation: list[str] = []


class Breakdown(msgspec.Struct, frozen=True, kw_only=True):
    """The trust in a client and what it consists of.

    Attributes:
        known: Whether the client is on record.
        factors: Name -> value, 0 to 1.
        weights: Name -> weight; together 1.
        gate: What the weighted sum is multiplied by, 0 to 1: low quality alone can exclude.
        trust_score_change: The trust less what it was a few rounds ago.
        overrides: What people and policies decided, as far as it holds.
    """

    client_id: str
    federation: str
    known: bool
    trust_score: float
    trust_band: str
    factors: dict[str, float]
    weights: dict[str, float]
    gate: float
    trust_score_change: float
    rounds_answered: int
    on_probation: bool
    excluded_in: int | None
    overrides: list[Override]


class TrustAuthority:
    """Keeps the trust in clients, by a ledger.

    Attributes:
        facts: What checks may ask about clients.
        ledger: Where the entries are.
        settings: Returns the parameters of a federation.
    """

    def __init__(
        self,
        ledger: Ledger | None = None,
        settings: Mapping[str, TrustSettings] | None = None,
        *,
        judge: Judge | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Begin with a ledger; facts are only of what is put in from now on.

        Args:
            ledger: Where entries are kept; in memory by default.
            settings: By federation; `*` for those that are not named.
            judge: Asks the policies.
            clock: Seconds since 1970.
        """
        self.ledger: Ledger = ledger or MemoryLedger()
        self.settings = parameters(settings or {})
        self._judge = judge
        self._clock = clock
        self.facts = self.empty_facts()

    def empty_facts(self) -> TrustFacts:
        """Return facts with nobody on record."""
        return TrustFacts(
            record_of(NEW, self.settings("")),
            lambda name, trust: self._band(name, trust).value,
            lambda: _moment(self._clock()),
        )

    def _band(self, federation: str, trust: float) -> Band:
        return band_of(trust, self.settings(federation))

    # Rounds

    def observe(self, observation: RoundObservation, *, author: str = "") -> RoundAdvice:
        """Take what was observed of a round and return what to do with its updates.

        The same observation again gets the first answer.

        Raises:
            InvalidRequestError: A name is too long.
            RoundConflictError: The round was observed before, otherwise.
            LateRoundError: A later round is closed.
            BusyError, StoreUnavailableError: It is not kept; the same call may go through later.
        """
        observation.check_names()
        fingerprint = sha256(msgspec.json.encode(observation)).hexdigest()
        federation = observation.federation

        def reckon(_head: Head, state: State) -> tuple[Entry, Step] | RoundAdvice:
            if observation.round <= state.last_round:
                return self._answered(observation, fingerprint, state.last_round)
            entry = RoundEntry(observation=observation, at=self._clock())
            return self._judged(federation, entry, state)

        names = (*(update.client_id for update in observation.clients), *observation.left_out)
        found = self._append(federation, names, reckon, fingerprint, author)
        if isinstance(found, RoundAdvice):
            return found
        assert found.advice is not None  # noqa: S101 - a round has one
        return found.advice

    def _answered(self, observation: RoundObservation, fingerprint: str, last_round: int) -> RoundAdvice:
        before = self.ledger.answered(observation.federation, observation.round)
        if before is None:
            raise LateRoundError(observation.federation, observation.round, last_round)
        if before.fingerprint != fingerprint:
            raise RoundConflictError(observation.federation, observation.round)
        return before.advice

    def _append(
        self,
        federation: str,
        names: Sequence[str],
        reckon: Callable[[Head, State], tuple[Entry, Step] | RoundAdvice],
        fingerprint: str,
        author: str,
    ) -> Step | RoundAdvice:
        """Reckon from the newest state until no other entry came between."""
        for _ in range(_ATTEMPTS):
            head, state = self.ledger.state(federation, names)
            found = reckon(head, state)
            if isinstance(found, RoundAdvice):
                return found
            entry, step = found
            try:
                self.ledger.append(federation, head, entry, step, fingerprint, author)
            except ConflictError:
                continue
            self.note(federation, step)
            return step
        raise BusyError("other entries of the federation keep coming first; try again")

    def note(self, federation: str, step: Step) -> None:
        """Let facts tell what a step changed."""
        self.put(self.facts, federation, step.standings.items())
        for name, overrides in step.overrides.items():
            self.facts.decide(federation, name, partial(decided, overrides) if overrides else None)

    def put(self, facts: TrustFacts, federation: str, standings: Iterable[tuple[str, Standing]]) -> None:
        """Let facts tell where clients stand."""
        settings = self.settings(federation)
        facts.put(federation, [(name, record_of(standing, settings)) for name, standing in standings])

    # Policies

    def _judged(self, federation: str, entry: RoundEntry, state: State) -> tuple[RoundEntry, Step]:
        """Let policies have their say in a round: they may be stricter than trust alone."""
        settings = self.settings(federation)
        step = advance(entry, state, settings)
        if self._judge is None or step.advice is None:
            return entry, step
        facts = {
            each.client_id: facts_of(step.standings[each.client_id], each.trust, each.band, settings)
            for each in step.advice.clients
        }
        judged = self._judge(federation, entry.observation.round, facts)
        if not judged:
            return entry, step
        clients = [_stricter(each, judged.get(each.client_id)) for each in step.advice.clients]
        advice = advised(federation, entry.observation.round, clients, step.absent, settings)
        decided = {each.client_id: self._quarantine(each) for each in clients if each.quarantined_by}
        entry = msgspec.structs.replace(entry, decided=decided)
        return entry, advance(entry, state, settings)._replace(advice=advice)

    def _quarantine(self, advice: ClientAdvice) -> Override:
        author = f"policy {advice.quarantined_by}"
        return Override(kind="quarantine", author=author, reason=advice.reason, since=self._clock())

    def evaluate(self, client_id: str, federation: str) -> None:
        """Let policies judge a client by what is on record, and put it in quarantine if they say so."""
        if self._judge is None:
            return
        now = self._clock()
        head, state = self.ledger.state(federation, (client_id,))
        standing = state.standings.get(client_id)
        if standing is None:
            return
        trust, is_quarantined = decided(state.overrides.get(client_id, ()), _moment(now))
        trust = trust_score(standing, self.settings(federation)) if trust is None else trust
        band = Band.QUARANTINED if is_quarantined else self._band(federation, trust)
        facts = {client_id: facts_of(standing, trust, band, self.settings(federation))}
        judgement = self._judge(federation, head.last_round, facts).get(client_id)
        if judgement is not None and judgement.quarantine and not is_quarantined:
            self.override(
                client_id,
                kind="quarantine",
                federation=federation,
                author=f"policy {judgement.policy_id}",
                reason=judgement.quarantine,
            )

    # Clients

    def report(self, client_id: str, *, federation: str, policy_id: str, rule_index: int, author: str) -> bool:
        """Count a violation against a client; return whether it was counted.

        It counts once per client, rule and round. That the reporter may report, and that the rule counts against
        clients, the caller has to have made sure.

        Raises:
            BusyError, StoreUnavailableError: As for `observe`.
        """
        counted = True

        def reckon(_head: Head, state: State) -> tuple[Entry, Step] | RoundAdvice:
            nonlocal counted
            entry = ViolationEntry(
                client_id=client_id,
                policy_id=policy_id,
                rule_index=rule_index,
                round=state.last_round + 1,
                author=author,
                at=self._clock(),
            )
            counted = not self.ledger.counted(federation, entry)
            if not counted:
                return _NO_ADVICE
            return entry, advance(entry, state, self.settings(federation))

        self._append(federation, (client_id,), reckon, "", author)
        return counted

    def override(
        self,
        client_id: str,
        *,
        kind: Kind,
        author: str,
        reason: str,
        federation: str = DEFAULT_FEDERATION,
        trust: float | None = None,
        expires_at: float | None = None,
    ) -> None:
        """Set the trust in a client, or put it in quarantine.

        Args:
            client_id: It need not be on record yet.
            kind: "trust" or "quarantine".
            author: Who decides that.
            reason: Why.
            federation: Where.
            trust: The score to set, for "trust".
            expires_at: Until when it holds, in seconds since 1970; None until it is released.

        Raises:
            BusyError, StoreUnavailableError: As for `observe`.
        """
        override = Override(
            kind=kind, author=author, reason=reason, since=self._clock(), trust=trust, expires_at=expires_at
        )
        self._enter(federation, OverrideEntry(client_id=client_id, override=override), author)

    def release(self, client_id: str, *, kind: Kind, author: str, reason: str, federation: str) -> None:
        """Take back what was decided about a client.

        Raises:
            UnknownOverrideError: Nothing of the kind holds for it.
            BusyError, StoreUnavailableError: As for `observe`.
        """
        _, state = self.ledger.state(federation, (client_id,))
        if not any(each.kind == kind for each in state.overrides.get(client_id, ())):
            raise UnknownOverrideError(client_id, kind, federation)
        entry = ReleaseEntry(client_id=client_id, kind=kind, author=author, reason=reason, at=self._clock())
        self._enter(federation, entry, author)

    def _enter(self, federation: str, entry: Entry, author: str) -> None:
        def reckon(_head: Head, state: State) -> tuple[Entry, Step] | RoundAdvice:
            return entry, advance(entry, state, self.settings(federation))

        self._append(federation, clients_of(entry), reckon, "", author)

    # Questions

    def select(self, federation: str, round_number: int, candidates: Sequence[str]) -> Selection:
        """Return whom to invite to a round: not those in quarantine, and those that are excluded only for a probe.

        Raises:
            StoreUnavailableError: The ledger cannot be read.
        """
        now, settings = _moment(self._clock()), self.settings(federation)
        _, state = self.ledger.state(federation, candidates)
        invited: list[str] = []
        probed: list[str] = []
        left_out: dict[str, str] = {}
        for name in candidates:
            standing = state.standings.get(name, NEW)
            trust, in_quarantine = decided(state.overrides.get(name, ()), now)
            trust = trust_score(standing, settings) if trust is None else trust
            if in_quarantine:
                left_out[name] = "the client is in quarantine"
            elif band_of(trust, settings) is not Band.EXCLUDED:
                invited.append(name)
            elif is_probed(standing, round_number, settings):
                probed.append(name)
            else:
                left_out[name] = f"the client is excluded: trust {trust:.2f}"
        return Selection(
            federation=federation,
            round=round_number,
            invited=invited,
            probed=probed,
            left_out=left_out,
            on_probation=[name for name in invited if is_on_probation(state.standings.get(name, NEW), settings)],
        )

    def calculate_trust_score(self, client_id: str, federation: str | None = None) -> float:
        """Return the trust in a client, 0 to 1; in several federations the lowest; a new one has what it starts at."""
        return self.known(client_id, federation).record.trust

    def known(self, client_id: str, federation: str | None = None) -> Known:
        """Return what facts say of a client."""
        return self.facts.find(client_id, federation)

    def breakdown(self, client_id: str, federation: str = DEFAULT_FEDERATION) -> Breakdown:
        """Return the trust in a client and what it consists of.

        Raises:
            StoreUnavailableError: The ledger cannot be read.
        """
        now, settings = self._clock(), self.settings(federation)
        _, state = self.ledger.state(federation, (client_id,))
        standing = state.standings.get(client_id, NEW)
        overrides = [each for each in state.overrides.get(client_id, ()) if each.holds(now)]
        fixed, is_quarantined = decided(tuple(overrides), _moment(now))
        trust = trust_score(standing, settings) if fixed is None else fixed
        band = Band.QUARANTINED if is_quarantined else band_of(trust, settings)
        return Breakdown(
            client_id=client_id,
            federation=federation,
            known=client_id in state.standings,
            trust_score=trust,
            trust_band=band.value,
            factors=standing.factors,
            weights=msgspec.structs.asdict(settings.weights),
            gate=standing.gate,
            trust_score_change=change_of(standing, trust, settings),
            rounds_answered=standing.answered,
            on_probation=is_on_probation(standing, settings),
            excluded_in=standing.excluded_in,
            overrides=overrides,
        )


_NO_ADVICE = RoundAdvice(federation="", round=0, held=False, excluded_share=0.0, clients=[])


def _moment(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def decided(overrides: Sequence[Override], now: datetime) -> tuple[float | None, bool]:
    """Return what holds of some overrides: the trust that is set, and whether there is a quarantine."""
    at = now.timestamp()
    holding = [each for each in overrides if each.holds(at)]
    trust = next((each.trust for each in holding if each.trust is not None), None)
    return trust, any(each.kind == "quarantine" for each in holding)


def record_of(standing: Standing, settings: TrustSettings) -> TrustRecord:
    """Return what facts say of a standing."""
    trust = trust_score(standing, settings)
    return TrustRecord(
        trust=trust,
        participation=standing.participation,
        update_quality=standing.update_quality,
        behavioral_consistency=standing.behavioral_consistency,
        compliance=standing.compliance,
        change=change_of(standing, trust, settings),
        answered=standing.answered,
        excluded_in=standing.excluded_in or 0,
    )


def facts_of(standing: Standing, trust: float, band: Band, settings: TrustSettings) -> dict[str, Any]:
    """Return the facts about a client with this standing."""
    record = record_of(standing, settings)._replace(trust=trust, change=change_of(standing, trust, settings))
    return TrustFacts.told(Known(record, band.value, known=True))


def _stricter(advice: ClientAdvice, judgement: Judgement | None) -> ClientAdvice:
    """Return advice as policies want it; they cannot make it milder."""
    if judgement is None:
        return advice
    quarantined_by = judgement.policy_id if judgement.quarantine and advice.band is not Band.QUARANTINED else ""
    refusal = judgement.quarantine or judgement.excluded
    if refusal:
        return msgspec.structs.replace(
            advice,
            accept=False,
            clip_norm=None,
            weight_multiplier=0.0,
            reason=refusal if advice.accept or quarantined_by else advice.reason,
            quarantined_by=quarantined_by,
        )
    weight = min(advice.weight_multiplier, judgement.weight_multiplier)
    if weight == advice.weight_multiplier:
        return advice
    return msgspec.structs.replace(advice, weight_multiplier=weight, reason=judgement.reason)
