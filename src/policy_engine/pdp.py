"""The policy decision point: what a program that embeds the engine holds, with or without a server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import MAXYEAR, MINYEAR, UTC, datetime, timedelta, tzinfo
from functools import partial
from pathlib import Path
from threading import Lock
from time import perf_counter, time
from typing import Any, NamedTuple, TypeAlias

from policy_engine.authority import Selection, TrustAuthority
from policy_engine.engine.combine import undeclared
from policy_engine.engine.context import normalise
from policy_engine.engine.decide import decide
from policy_engine.engine.explain import explain as explain_request
from policy_engine.engine.freeze import Freezes, prepare_freezes
from policy_engine.engine.program import Program, TypeProgram, compile_program
from policy_engine.engine.rule import PolicyFunction, Resolver
from policy_engine.facts.clock import Clock
from policy_engine.facts.inventory import Component, Inventory
from policy_engine.facts.source import FactSource
from policy_engine.ids import uuid7
from policy_engine.judgement import Judgement, judge
from policy_engine.language.canonical import digest
from policy_engine.language.document import parse_document, read_document
from policy_engine.model.decision import Decision, Outcome
from policy_engine.model.errors import InvalidRequestError
from policy_engine.model.freeze import Freeze
from policy_engine.model.policy import Policy, PolicySet
from policy_engine.model.record import Checked
from policy_engine.model.trace import RuleTrace
from policy_engine.trust.advice import RoundAdvice
from policy_engine.trust.memory import Ledger
from policy_engine.trust.observation import RoundObservation
from policy_engine.trust.settings import TrustSettings

Listener: TypeAlias = Callable[[Sequence[Checked]], None]
"""Called with every decision that `check` and `check_many` hand out, and what it was made from."""

DEFAULT_REUSE_SECONDS = 1.0

JUDGING_TYPES = ("security", "trust_reputation")
"""The types whose policies say what follows from trust, whenever that has changed."""

_JUDGED = {"operation": "evaluate_trust", "component_type": "fl-client", "metric_type": "model_contribution"}


class Plan(NamedTuple):
    """What a check of one type needs.

    Attributes:
        wanted: The facts that its policies read.
        sources: Who knows them.
        reusable: Whether an answer holds for a while: no user's code ran for it.
        timeless: Whether it does not depend on the clock.
    """

    kind: TypeProgram
    wanted: frozenset[str]
    sources: tuple[FactSource, ...]
    reusable: bool
    timeless: bool


class Revision(NamedTuple):
    """One state of all policies, compiled.

    Attributes:
        freezes: The emergency stops that hold while it is in force; None when there are none.
    """

    version: int
    digest: str
    program: Program
    plans: Mapping[str, Plan]
    freezes: Freezes | None = None


class PolicyEngine:
    """Answers checks from one revision of policies at a time.

    Example:
        engine = PolicyEngine.from_file("policies.json")
        engine.check("network_security", {"protocol": "tcp", "dst_port": 8080}).allowed

    It is thread-safe: a check works on the revision that was in force when it began.
    """

    def __init__(
        self,
        policy_set: PolicySet,
        *,
        functions: Mapping[str, PolicyFunction] | Resolver | None = None,
        components: Iterable[Component] = (),
        zone: tzinfo = UTC,
        version: int = 1,
        reuse_seconds: float = DEFAULT_REUSE_SECONDS,
        listener: Listener | None = None,
        sources: Iterable[FactSource] = (),
        trust: Mapping[str, TrustSettings] | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        """Compile a policy set.

        Args:
            policy_set: Accepted policies.
            functions: Custom policy functions by id, or what finds the function of a policy; a policy that has none
                denies.
            components: The inventory.
            zone: The time zone of the clock's facts.
            version: The number of this revision.
            reuse_seconds: How long a caller may reuse an answer at most.
            listener: Called with every decision.
            sources: Who knows further facts.
            trust: How trust is reckoned, by federation; `*` for those that are not named.
            ledger: Where trust is kept; in memory by default.
        """
        self.trust = TrustAuthority(ledger, trust, judge=self._judge)
        self._functions = functions if callable(functions) else partial(_named, dict(functions or {}))
        self._clock = Clock(zone)
        self.inventory = Inventory(components)
        self._sources: tuple[FactSource, ...] = (self._clock, self.inventory, self.trust.facts, *sources)
        self._reuse = timedelta(seconds=reuse_seconds)
        self._listener = listener
        self._freezes: tuple[Freeze, ...] = ()
        self._swapping = Lock()
        self.revision = self.prepare(policy_set, version)

    @classmethod
    def from_file(cls, path: str | Path, **options: Any) -> PolicyEngine:
        """Return an engine for a policy file; the options are those of the constructor.

        Raises:
            InvalidPolicyError: The file cannot be accepted; with every fault and its place.
            OSError: The file cannot be read.
        """
        return cls(parse_document(Path(path).read_bytes()).policy_set, **options)

    @classmethod
    def from_document(cls, document: Mapping[str, Any], **options: Any) -> PolicyEngine:
        """Return an engine for the content of a policy file.

        Raises:
            InvalidPolicyError: As `from_file`.
        """
        return cls(read_document(document).policy_set, **options)

    def prepare(self, policy_set: PolicySet, version: int) -> Revision:
        """Compile a policy set without putting it in force; what did not change is taken over.

        Raises:
            InvalidPolicyError: A condition cannot work with its parameters.
        """
        current = getattr(self, "revision", None)
        program = compile_program(policy_set, self._functions, previous=current.program if current else None)
        plans = {name: self._plan(kind) for name, kind in program.types.items()}
        return Revision(version, digest(policy_set), program, plans)

    def _plan(self, kind: TypeProgram) -> Plan:
        sources = tuple(source for source in self._sources if source.names & kind.reads)
        return Plan(
            kind=kind,
            wanted=kind.reads,
            sources=sources,
            reusable=not kind.runs_functions,
            timeless=self._clock not in sources,
        )

    def runs_functions(self, policy_type: str) -> bool:
        """Whether a check of this type may run users' code."""
        plan = self.revision.plans.get(policy_type) if policy_type.__class__ is str else None
        return plan is not None and not plan.reusable

    @staticmethod
    def normalised(context: Any) -> dict[str, Any]:
        """Return a context as a check sees it.

        Raises:
            InvalidRequestError: No check takes it.
        """
        return normalise(context)

    def activate(self, revision: Revision) -> None:
        """Put a prepared revision in force, for every check that begins from now on."""
        with self._swapping:
            self.revision = self._under(self._freezes, revision)

    def freeze(self, freezes: Iterable[Freeze]) -> None:
        """Put emergency stops in force, in the place of those before, for every check that begins from now on."""
        found = tuple(freezes)
        with self._swapping:
            if found != self._freezes:
                self.revision = self._under(found, self.revision)
                self._freezes = found

    def frozen(self, federation: str) -> str | None:
        """Return why everything is denied to a federation now; None while policies decide."""
        freezes = self.revision.freezes
        held = freezes.holding({"federation": federation}, time()) if freezes else None
        return held.outcome.reason if held is not None and held.program is None else None

    def _under(self, freezes: tuple[Freeze, ...], revision: Revision) -> Revision:
        return revision._replace(freezes=prepare_freezes(freezes, revision.program.policy_set, self._functions))

    def check(
        self,
        policy_type: str,
        context: dict[str, Any],
        *,
        at: datetime | str | None = None,
        explain: bool = False,
        request_id: str | None = None,
    ) -> Decision:
        """Decide one request.

        Args:
            policy_type: What kind of question it is, such as "network_security".
            context: The attributes of the request, as JSON values.
            at: Another time for the clock's facts (RFC 3339); such a check is marked as simulated.
            explain: Whether to list every rule with its clauses.
            request_id: The caller's id for the request.

        Raises:
            InvalidRequestError: The request cannot be understood; nothing was decided.
        """
        checked = self.evaluate(policy_type, context, at=at, explain=explain, request_id=request_id)
        if self._listener is not None:
            self._listener((checked,))
        return checked.decision

    def evaluate(
        self,
        policy_type: str,
        context: dict[str, Any],
        *,
        at: datetime | str | None = None,
        explain: bool = False,
        request_id: str | None = None,
    ) -> Checked:
        """Decide one request as `check` does, tell no listener, and return what the decision was made from too."""
        began = perf_counter()
        now = datetime.now(UTC)
        moment = now if at is None else _instant(at)
        return self._decide(
            self.revision, policy_type, normalise(context), now, moment, explain, request_id, began, at is not None
        )

    def check_many(
        self,
        policy_type: str,
        contexts: Iterable[dict[str, Any]],
        *,
        at: datetime | str | None = None,
        explain: bool = False,
        request_id: str | None = None,
    ) -> list[Decision]:
        """Decide many requests of one type, all by one revision and at one time.

        Raises:
            InvalidRequestError: One of the contexts cannot be understood; nothing was decided.
        """
        checked = self.evaluate_many(policy_type, contexts, at=at, explain=explain, request_id=request_id)
        if self._listener is not None:
            self._listener(checked)
        return [item.decision for item in checked]

    def evaluate_many(
        self,
        policy_type: str,
        contexts: Iterable[dict[str, Any]],
        *,
        at: datetime | str | None = None,
        explain: bool = False,
        request_id: str | None = None,
    ) -> list[Checked]:
        """Decide many requests as `check_many` does; otherwise as `evaluate`."""
        revision = self.revision
        now = datetime.now(UTC)
        moment = now if at is None else _instant(at)
        requests = [_normalise_item(number, context) for number, context in enumerate(contexts)]
        return [
            self._decide(
                revision, policy_type, context, now, moment, explain, request_id, perf_counter(), at is not None
            )
            for context in requests
        ]

    # Trust

    def observe(self, observation: RoundObservation) -> RoundAdvice:
        """Take what was observed of a round and return what to do with its updates; as `TrustAuthority.observe`."""
        return self.trust.observe(observation)

    def select(self, federation: str, round_number: int, candidates: Sequence[str]) -> Selection:
        """Return whom to invite to a round; as `TrustAuthority.select`."""
        return self.trust.select(federation, round_number, candidates)

    def calculate_trust_score(self, client_id: str, federation: str | None = None) -> float:
        """Return the trust in a client, 0 to 1; as `TrustAuthority.calculate_trust_score`."""
        return self.trust.calculate_trust_score(client_id, federation)

    def _judge(
        self, federation: str, round_number: int, clients: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, Judgement]:
        """Ask the policies about trust what follows for clients; those of which they say nothing are left out."""
        revision, now = self.revision._replace(freezes=None), datetime.now(UTC)  # a frozen federation keeps its trust
        kinds = [name for name in JUDGING_TYPES if name in revision.plans and revision.plans[name].kind.policies]
        judged: dict[str, Judgement] = {}
        for name, known in clients.items() if kinds else ():
            context = {**_JUDGED, "client_id": name, "federation": federation, "round": round_number}
            found = [
                self._decide(revision, kind, context, now, now, False, None, 0.0, True, known).decision  # noqa: FBT003 - as in its signature
                for kind in kinds
            ]
            judgement = judge(found)
            if judgement is not None:
                judged[name] = judgement
        return judged

    def _decide(  # noqa: PLR0917 - positional: this is the hot path
        self,
        revision: Revision,
        policy_type: str,
        context: dict[str, Any],
        now: datetime,
        moment: datetime,
        explain: bool,  # noqa: FBT001 - the same
        request_id: str | None,
        began: float,
        simulated: bool,  # noqa: FBT001 - the same
        known: Mapping[str, Any] | None = None,
    ) -> Checked:
        plan = revision.plans.get(policy_type) if policy_type.__class__ is str else None
        frozen = None if revision.freezes is None else revision.freezes.holding(context, now.timestamp())
        facts: dict[str, Any] = {}
        trace: tuple[RuleTrace, ...] | None = None
        valid_until = now
        if plan is None:
            outcome = _no_plan(policy_type)
            trace = () if explain else None
        elif frozen is not None and frozen.program is None:
            outcome, trace = frozen.outcome, () if explain else None
        else:
            for source in plan.sources:
                source.add(facts, plan.wanted, context, moment)
            if known is not None:
                facts.update((name, known[name]) for name in plan.wanted & known.keys())
            if explain:
                outcome, trace = explain_request(revision.program, policy_type, context, facts)
            else:
                outcome = decide(revision.program, policy_type, context, facts)
            if frozen is not None:
                if outcome.allowed and frozen.program is not None:  # a freeze takes away, it never gives
                    trace = explain_request(frozen.program, policy_type, context, facts)[1] if explain else None
                    outcome = decide(frozen.program, policy_type, context, facts)
                outcome = frozen.settle(outcome)
            elif plan.reusable and not simulated:
                valid_until = now + self._reuse
                if not plan.timeless:
                    valid_until = min(valid_until, self._clock.steady_until(plan.wanted, now))
        decision_id = uuid7()
        # By position: by name, this one call would take a third of the check.
        decision = Decision(
            decision_id,
            request_id or decision_id,
            now,
            outcome.allowed,
            outcome.decision,
            outcome.reason,
            outcome.reason_code,
            policy_type,
            outcome.policy_id,
            outcome.policy_name,
            outcome.rule_index,
            outcome.parameters,
            outcome.obligations,
            outcome.observations,
            outcome.violations,
            outcome.errors,
            outcome.policies_checked,
            outcome.shadow,
            revision.version,
            revision.digest,
            valid_until,
            simulated,
            (perf_counter() - began) * 1e3,
            trace,
        )
        return Checked(decision, context, facts)


def _named(functions: Mapping[str, PolicyFunction], _policy_set: PolicySet, policy: Policy) -> PolicyFunction | None:
    return functions.get(policy.function_id or "")


def _no_plan(policy_type: Any) -> Outcome:
    if policy_type.__class__ is not str or not policy_type:
        raise InvalidRequestError("/policy_type", "expected the name of a policy type")
    return undeclared(policy_type)


def _normalise_item(number: int, context: Any) -> dict[str, Any]:
    try:
        return normalise(context)
    except InvalidRequestError as error:
        place = f"/contexts/{number}" + error.pointer.removeprefix("/context")
        raise InvalidRequestError(place, error.detail) from None


def _instant(at: datetime | str) -> datetime:
    try:
        instant = at if isinstance(at, datetime) else datetime.fromisoformat(at)
    except (ValueError, TypeError):
        raise InvalidRequestError("/at", "expected a time such as 2026-01-01T12:00:00Z") from None
    if instant.tzinfo is None:
        raise InvalidRequestError("/at", "the time has no offset from UTC; end it with `Z` or `+01:00`")
    if not MINYEAR + 1 < instant.year < MAXYEAR:  # what is left has a time in every zone
        raise InvalidRequestError("/at", "the time is out of range")
    return instant
