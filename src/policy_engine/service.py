"""The one object that wires everything for a running process: load, check, change, remember."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypedDict, TypeVar, Unpack

import msgspec

from policy_engine.activation import Activation, check_digest, read_stored
from policy_engine.authority import Selection
from policy_engine.bundle.archive import unpack
from policy_engine.bundle.contents import read_signed
from policy_engine.bundle.verify import Last, Trust, verify
from policy_engine.bundle_import import BundleImport
from policy_engine.bundle_source import BundleSource, make_source
from policy_engine.config import Settings
from policy_engine.emergency import Emergency
from policy_engine.file_import import FileImport
from policy_engine.function_administration import FunctionAdministration
from policy_engine.function_files import FunctionFiles
from policy_engine.functions.monty import MontySandbox
from policy_engine.functions.runtime import FunctionRuntime
from policy_engine.functions.sandbox import Measured
from policy_engine.identity.scope import Scope
from policy_engine.keyring import Keyring
from policy_engine.language.canonical import digest
from policy_engine.language.document import parse_document
from policy_engine.model.decision import Decision
from policy_engine.model.errors import (
    BusyError,
    InvalidRequestError,
    OutdatedError,
    StateError,
    StoreUnavailableError,
    UnknownPolicyError,
)
from policy_engine.model.policy import Policy, PolicySet
from policy_engine.model.record import Checked
from policy_engine.pap import PolicyAdministration
from policy_engine.pdp import PolicyEngine, Revision
from policy_engine.policy_file import NoFile, Watcher
from policy_engine.quota import LogQuota
from policy_engine.rate import address_key, rate_limit
from policy_engine.reputation import Reputation
from policy_engine.signing import read_public_key
from policy_engine.spending import Spending
from policy_engine.store.api_keys import ApiKeys
from policy_engine.store.database import Database
from policy_engine.store.events import EventLog
from policy_engine.store.follow import Follower
from policy_engine.store.opened import Store
from policy_engine.store.position import position_at
from policy_engine.store.retention import Removed, oldest_share, remove_decisions, remove_events, shrink
from policy_engine.store.trust import TrustStore
from policy_engine.troubles import Troubles
from policy_engine.trust.advice import RoundAdvice
from policy_engine.trust.observation import RoundObservation
from policy_engine.trust.settings import parameters

log = logging.getLogger(__name__)

T = TypeVar("T")

_FOLLOW_SECONDS = 0.1
_FOLLOW_NOTICED_SECONDS = 0.5
"""How often to look where changes are announced: this is for when an announcement was missed."""

_REFRESH_SECONDS = 0.4
"""How often to look for what other processes know of clients: requests wait for whoever looks."""

_RETENTION_SECONDS = 60.0
_OPEN_SECONDS = 10.0
"""How long to try to open the store: other processes may be busy with it, and a worker that fails is started again."""

_OPEN_AGAIN_SECONDS = 0.1
_DAY_MICROSECONDS = 86_400_000_000


class Caller(NamedTuple):
    """Who asks, as far as it matters for a check.

    Attributes:
        source: The address.
        trusted: Whether everything it asks is logged.
        sync: Whether the answer waits until the decision has reached the disk.
        min_version: The oldest revision that may answer.
        scope: What it may not ask; None where it may ask anything.
    """

    source: str | None = None
    trusted: bool = True
    sync: bool = False
    min_version: int = 0
    scope: Scope | None = None


SELF = Caller()


class Answer(NamedTuple):
    """A decision, and the same as JSON."""

    decision: Decision
    body: bytes


class Asked(TypedDict, total=False):
    """How a check is asked for, beside its type and context."""

    at: datetime | str | None
    explain: bool
    request_id: str | None
    caller: Caller


_encode = msgspec.json.Encoder().encode
_UNBOUNDED = nullcontext()


class PolicyService:
    """A running policy engine.

    Checks take no lock. Changes are validated and compiled whole, have reached the disk when they come into force, and
    are in force in every process of the store soon after.
    """

    def __init__(self, settings: Settings) -> None:
        """Open the store and bring into force what it holds, or the policy file or bundle if it holds nothing.

        Raises:
            BundleError, BundleUnavailableError: There is no bundle to begin with that is to be believed.
            InvalidPolicyError: The policy file cannot be accepted.
            OSError: It cannot be read.
            StateError: The store or the data directory cannot be used.
        """
        self.settings = settings
        self.troubles = Troubles()
        self.store = _patiently(lambda: Store(settings.store_options, told=self._tell))
        self.store.start()
        try:
            self._begin()
        except BaseException:
            self.store.stop()
            raise
        self._log_all = settings.decision_log == "sync"
        self._checks = rate_limit(settings.rate_limit_anonymous_checks, "checks")
        self._quota = LogQuota(settings.anonymous_log_quota, self._quota_exceeded)

    def _begin(self) -> None:
        settings = self.settings
        present = load_policies(settings, self.store)
        store = self.store
        self.keys = Keyring(ApiKeys(store.database, store.options.tenant, store.writer))
        ledger = TrustStore(store.database, store.options.tenant, store.writer, parameters(settings.trust))
        self.privacy = Spending(self.store, settings.privacy)
        at_once = max(1, settings.threads - 2)
        watching = max(1, at_once // 2)
        self.runtime = FunctionRuntime(MontySandbox(at_once + watching), at_once=at_once, shadow_at_once=watching)
        self.engine = PolicyEngine(
            present,
            functions=self.runtime.resolve,
            components=settings.components,
            zone=settings.zone,
            version=0,
            reuse_seconds=settings.decision_ttl_seconds,
            trust=settings.trust,
            ledger=ledger,
            sources=(self.privacy.facts,),
        )
        self.reputation = Reputation(self.store, ledger, self.engine.trust, self.runtime.turn)
        activation = self._activation = Activation(
            self.store.revisions, self.engine, self.troubles, requires_signatures=settings.require_signatures
        )
        self._file: FileImport | None = None
        if self.store.database.is_sqlite and not _is_signed(settings):
            self._file = FileImport(
                settings.policy_path,
                activation,
                self.events.record,
                wins=settings.file_wins,
                writes_back=settings.file_write_back,
                lock=_import_lock(self.store.database),
            )
        directory = settings.policy_functions_dir
        self._functions = (
            FunctionFiles(Path(directory), activation, self.events.record, wins=settings.file_wins)
            if directory
            else None
        )
        self.administration = PolicyAdministration(activation, self._file or NoFile())
        self.functions = FunctionAdministration(activation, self.administration)
        self.bundles = BundleImport(
            bundle_trust(settings),
            self.store.bundles,
            activation,
            self.administration,
            name=settings.bundle_name,
            source=_bundle_source(settings),
            requires_signatures=settings.require_signatures,
        )
        self._load_first()
        self.emergency = Emergency(self.store, self.engine, self.troubles)
        self._puller = Watcher(self.bundles.look, settings.bundle_poll_seconds, name="bundle-puller", at_once=True)
        self._watcher = Watcher(self._look, settings.watch_interval_seconds)
        interval = _FOLLOW_SECONDS if self.store.database.is_sqlite else _FOLLOW_NOTICED_SECONDS
        self._follower = Follower(self.store.database, self._follow, interval)
        self._next_retention = time.monotonic() + _RETENTION_SECONDS
        self._next_refresh = 0.0
        for component_types in self.engine.inventory.ambiguous:
            log.warning(
                "one address belongs to components of several types (%s): its type stays unknown", component_types
            )

    def _load_first(self) -> None:
        """Bring into force what the store holds, and what the file adds to it."""
        if _is_signed(self.settings):
            if self.store.revisions.head() is None:
                _patiently(self.bundles.first)
            else:
                self._activation.load()
                _patiently(self.bundles.watch)
                if "bundle_not_in_force" in self.troubles:
                    self.bundles.look()  # before anything is decided by other policies
            self.events.record("ENGINE_START", {"policy_version": self.revision.version})
            return
        file = self._file or FileImport(
            self.settings.policy_path, self._activation, self.events.record, wins=False, writes_back=False
        )
        beside = self._functions.first if self._functions is not None else None
        is_first = self.store.revisions.head() is None and _patiently(lambda: file.first_import(beside))
        if not is_first:
            file.resume()
            if self._file is not None:
                self._file.reload()
        if self._functions is not None and (is_first or self._file is not None):
            self._functions.reload()

    def _look(self) -> None:
        """Look at the files that are watched."""
        if self._file is not None:
            self._file.look()
            if self._functions is not None:
                self._functions.look()

    def start(self) -> None:
        """Begin to watch the policy file, and what other processes change."""
        if self._file is not None:
            self._watcher.start()
        if self.settings.bundle_source:
            self._puller.start()
        self._follower.start()
        self.reputation.start()

    def stop(self) -> None:
        """End watching; write what waits."""
        self._watcher.stop()
        self._puller.stop()
        self._follower.stop()
        self.reputation.stop()
        self.runtime.close()
        self.store.stop()

    @property
    def events(self) -> EventLog:
        """What happened."""
        return self.store.events

    @property
    def revision(self) -> Revision:
        """What is in force."""
        return self.engine.revision

    @property
    def policies(self) -> Mapping[str, Policy]:
        """All policies by id."""
        return self.revision.program.policy_set.policies

    def reload(self) -> None:
        """Take over the policy file as it is now, whole or not at all; where there is none to watch, do nothing.

        The directory of functions is taken over likewise.
        """
        if self._file is not None:
            self._file.reload()
            if self._functions is not None:
                self._functions.reload()

    # Checks

    def check(self, policy_type: str, context: dict[str, Any], **asked: Unpack[Asked]) -> Decision:
        """Decide one request and remember it.

        Raises:
            InvalidRequestError: The request cannot be understood; nothing was decided.
            OutdatedError: What is in force here is older than the caller demands.
            RateLimitedError: The caller is anonymous and asks too much.
            BusyError: The decision could not be remembered in time.
        """
        return self.answer(policy_type, context, **asked).decision

    def answer(
        self,
        policy_type: str,
        context: dict[str, Any],
        *,
        at: datetime | str | None = None,
        explain: bool = False,
        request_id: str | None = None,
        caller: Caller = SELF,
    ) -> Answer:
        """Decide as `check` does, and return the decision as it is sent too: it is encoded once, also for the log."""
        if caller.min_version:
            self._demand(caller.min_version)
        if self._checks is not None:
            self._count(caller, 1)
        with self._turn(policy_type):
            checked = self.engine.evaluate(policy_type, context, at=at, explain=explain, request_id=request_id)
        body = _encode(checked.decision)
        self._remember((checked,), (body,), caller)
        if checked.decision.observations:
            self.reputation.note((checked,))
        return Answer(checked.decision, body)

    def check_many(
        self,
        policy_type: str,
        contexts: Iterable[dict[str, Any]],
        *,
        at: datetime | str | None = None,
        explain: bool = False,
        request_id: str | None = None,
        caller: Caller = SELF,
    ) -> list[Decision]:
        """Decide many requests of one type, all by one revision, and remember them.

        Raises:
            InvalidRequestError, OutdatedError, RateLimitedError, BusyError: As for `check`.
        """
        if caller.min_version:
            self._demand(caller.min_version)
        asked = list(contexts)
        if self._checks is not None:
            self._count(caller, len(asked))
        with self._turn(policy_type):
            checked = self.engine.evaluate_many(policy_type, asked, at=at, explain=explain, request_id=request_id)
        if checked:
            self._remember(checked, None, caller)
            self.reputation.note(checked)
        return [item.decision for item in checked]

    def try_function(self, code: str, entry: str, context: Any, *, inputs: tuple[str, ...] | None = None) -> Measured:
        """Call a function for its author with what a check makes of a context; as `FunctionRuntime.test`.

        Raises:
            InvalidRequestError: No check takes the context.
            FunctionBusyError: Too many requests are inside functions.
        """
        return self.runtime.test(code, entry, self.engine.normalised(context), inputs=inputs)

    def _turn(self, policy_type: str) -> AbstractContextManager[None]:
        """Return what bounds the functions of one request together."""
        return self.runtime.turn() if self.engine.runs_functions(policy_type) else _UNBOUNDED

    def _demand(self, version: int) -> None:
        """Refuse to answer from a revision older than this, but for one that can be had at once."""
        if self.revision.version < version:
            raise OutdatedError(version, self.revision.version)

    def _count(self, caller: Caller, checks: int) -> None:
        """Count what an anonymous caller asks.

        Raises:
            RateLimitedError: It is too much.
        """
        if self._checks is not None and not caller.trusted and checks:
            self._checks.take(address_key(caller.source or ""), checks)

    def _remember(self, checked: Sequence[Checked], bodies: Sequence[bytes] | None, caller: Caller) -> None:
        represents = 1
        if not caller.trusted and caller.source is not None:
            represents = self._quota.represents(caller.source, len(checked))
            if not represents:
                return
        is_sync = caller.sync or self._log_all
        may_quote = self.engine.runs_functions(checked[0].decision.policy_type)
        self.store.writer.record_decisions(
            checked, caller.source, represents, bodies=bodies, sync=is_sync, may_quote=may_quote
        )

    def _quota_exceeded(self, source: str) -> None:
        self.events.record(
            "LOG_QUOTA_EXCEEDED",
            {"source": source, "per_second": self.settings.anonymous_log_quota, "unlogged": self._quota.unlogged},
        )

    # Trust

    def observe(self, observation: RoundObservation, *, author: str = "") -> RoundAdvice:
        """Take what was observed of a round and return what to do with its updates; as `TrustAuthority.observe`.

        The functions of trust policies take no longer for all its clients together than for one request.
        """
        with self.runtime.turn():
            return self.engine.trust.observe(observation, author=author)

    def select(self, federation: str, round_number: int, candidates: Sequence[str]) -> Selection:
        """Return whom to invite to a round; as `TrustAuthority.select`, and nobody while the federation is frozen."""
        reason = self.engine.frozen(federation)
        if reason is None:
            return self.engine.trust.select(federation, round_number, candidates)
        left_out = dict.fromkeys(candidates, reason)
        return Selection(federation=federation, round=round_number, invited=[], probed=[], left_out=left_out)

    def calculate_trust_score(self, client_id: str, federation: str | None = None) -> float:
        """Return the trust in a client, 0 to 1; as `TrustAuthority.calculate_trust_score`."""
        return self.engine.trust.calculate_trust_score(client_id, federation)

    def report_violation(
        self, client_id: str, policy_id: str, rule_index: int, *, federation: str, author: str
    ) -> bool:
        """Count a violation that an authenticated enforcement point saw; return whether it was counted.

        Raises:
            UnknownPolicyError: There is no such policy.
            InvalidRequestError: There is no such rule, or it does not count against clients.
            BusyError, StoreUnavailableError: It is not kept.
        """
        policy = self.policies.get(policy_id)
        if policy is None:
            raise UnknownPolicyError(policy_id)
        if rule_index >= len(policy.rules):
            raise InvalidRequestError("/rule_index", f"policy `{policy_id}` has no rule {rule_index}")
        if policy.rules[rule_index].counts_against != "client":
            detail = f"rule {rule_index} of policy `{policy_id}` does not say `counts_against: client`"
            raise InvalidRequestError("/rule_index", detail)
        return self.engine.trust.report(
            client_id, federation=federation, policy_id=policy_id, rule_index=rule_index, author=author
        )

    # What happens beside

    def _tell(self, code: str, detail: str | None) -> None:
        if detail is None:
            self.troubles.clear(code)
        else:
            self.troubles.add(code, detail)

    def _follow(self) -> None:
        looks = [self.store.writer.notice_erasures, self._activation.catch_up, self.emergency.follow]
        if time.monotonic() >= self._next_refresh:
            self._next_refresh = time.monotonic() + _REFRESH_SECONDS
            looks += [self.reputation.refresh, self.privacy.refresh, self.keys.refresh, self.bundles.watch]
        for look in looks:
            try:
                look()
            except (BusyError, StateError) as error:
                log.debug("cannot follow: %s", error)
                if isinstance(error, StoreUnavailableError):
                    self.store.writer.doubt()
        if time.monotonic() >= self._next_retention:
            self._next_retention = time.monotonic() + _RETENTION_SECONDS
            self.clean_up()

    def clean_up(self) -> int:
        """Remove what the settings say is too old or too much; return how many entries that were."""
        removed = 0
        try:
            for count in self._removals():
                removed += count
        except (BusyError, StateError, OSError) as error:
            log.warning("the log cannot be cleaned up: %s", error)
        if removed:
            self.events.record("LOG_PRUNED", {"entries": removed})
            self._shrink()
        return removed

    def _removals(self) -> Iterator[int]:
        """Remove step by step, and yield how many entries each step removed."""
        settings = self.settings
        now = time.time_ns() // 1000
        ages = ((remove_decisions, settings.retention_days), (remove_events, settings.event_retention_days))
        for step, days in ages:
            if days:
                yield from self._remove(step, position_at(int(now - days * _DAY_MICROSECONDS)))
        border = oldest_share(self.store, settings.retention_max_bytes) if settings.retention_max_bytes else None
        if border is not None:
            yield from self._remove(remove_decisions, border)

    def _remove(self, step: Callable[[Store, int], Removed], before: int) -> Iterator[int]:
        while count := step(self.store, before).entries:
            yield count

    def _shrink(self) -> None:
        try:
            shrink(self.store)
        except StateError as error:
            log.warning("the space of what was removed is not given back: %s", error)


def load_policies(settings: Settings, store: Store) -> PolicySet:
    """Return what would come into force: what the store holds, else the policy file, or the bundle in its place.

    Raises:
        BundleError, BundleUnavailableError: There is no bundle that is to be believed.
        InvalidPolicyError: The file cannot be accepted.
        OSError: It cannot be read.
        StateError: The store or a key cannot be read, or what it holds cannot be used by this version.
    """
    trust, source = bundle_trust(settings), _bundle_source(settings)
    if store.revisions.head() is None:
        if _is_signed(settings):
            return _first_bundle(settings, store, trust, source)
        return parse_document(settings.policy_path.read_bytes()).policy_set
    head, policy_set = read_stored(store.revisions)
    check_digest(head, digest(policy_set))
    return policy_set


def bundle_trust(settings: Settings) -> Trust:
    """Return whose bundles are believed.

    Raises:
        StateError: A key cannot be read.
    """
    keys = tuple(read_public_key(Path(path)) for path in settings.bundle_keys)
    return Trust(keys=keys, threshold=settings.bundle_threshold, name=settings.bundle_name)


def _is_signed(settings: Settings) -> bool:
    """Whether policies come from signed bundles and not from the policy file."""
    return bool(settings.bundle_source) or settings.require_signatures


def _bundle_source(settings: Settings) -> BundleSource | None:
    return make_source(settings.bundle_source, settings.bundle_ca_file) if settings.bundle_source else None


def _first_bundle(settings: Settings, store: Store, trust: Trust, source: BundleSource | None) -> PolicySet:
    if source is None:
        raise StateError("there are no signed policies yet, and no `bundle_source` to get them from")
    bundle = unpack(source.fetch() or b"")
    known = store.bundles.accepted(settings.bundle_name)
    last = None if known is None else Last(known.version, known.digest)
    verified = verify(bundle, trust, now=datetime.now(UTC), last=last)
    return read_signed(verified.manifest, verified.files).policy_set


def _import_lock(database: Database) -> Path | None:
    """Return the file by which processes on one SQLite database take turns with the policy file."""
    path = database.path
    return path.with_name(f"{path.name}-writers") / "import" if path else None


def _patiently(action: Callable[[], T]) -> T:
    """Do something that other processes may keep the store from doing for a moment."""
    deadline = time.monotonic() + _OPEN_SECONDS
    while True:
        try:
            return action()
        except (BusyError, StoreUnavailableError):
            if time.monotonic() >= deadline:
                raise
        time.sleep(_OPEN_AGAIN_SECONDS)
