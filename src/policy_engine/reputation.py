"""The trust of a running service: the authority on it, its ledger in the store, and the work that goes on beside."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from threading import Event, Lock, Thread

import msgspec

from policy_engine.authority import TrustAuthority, decided
from policy_engine.facts.trust import FEDERATION, TrustFacts, named_client
from policy_engine.ids import uuid7
from policy_engine.model.decision import Decision
from policy_engine.model.errors import BusyError, StateError, StoreUnavailableError
from policy_engine.model.record import Checked
from policy_engine.store.opened import Store
from policy_engine.store.trust import FederationHead, TrustStore
from policy_engine.store.trust_replay import Job, Jobs, Replay
from policy_engine.store.trust_reports import TrustReports
from policy_engine.trust.override import Override
from policy_engine.trust.standing import Standing

log = logging.getLogger(__name__)

EVALUATE = "evaluate_trust"
"""The verb that asks for trust to be judged once the answer is out."""

_STALE_SECONDS = 1.0
_MAX_WAITING = 10_000
_PAUSE_SECONDS = 0.1
_PROGRESS_SECONDS = 0.5


class Reputation:
    """Keeps facts true to the ledger, and does what takes longer than an answer may.

    Attributes:
        reports: Answers what people ask.
        jobs: Recalculations.
    """

    def __init__(
        self,
        store: Store,
        ledger: TrustStore,
        authority: TrustAuthority,
        turn: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """Load what is on record.

        Args:
            store: Where jobs are kept.
            ledger: Where entries are kept.
            authority: What is to know of them.
            turn: Bounds the functions that are asked about a client together.

        Raises:
            StoreUnavailableError: The store cannot be read.
        """
        self.authority = authority
        self.reports = TrustReports(ledger)
        self.jobs = Jobs(ledger, store.writer)
        self._ledger = ledger
        self._turn = turn
        self._heads: dict[str, FederationHead] = {}
        self._generation = -1
        self._read_at = time.monotonic()
        self._waiting: dict[tuple[str, str], None] = {}
        self._lock = Lock()
        self._queue = Lock()
        self._wake = Event()
        self._stopping = False
        self._evaluator = Thread(target=self._evaluate, name="trust", daemon=True)
        self._recalculation: Thread | None = None
        self._load()

    def start(self) -> None:
        """Begin to work beside."""
        self._evaluator.start()

    def stop(self) -> None:
        """End what goes on beside; a recalculation ends at its next step."""
        self._stopping = True
        self._wake.set()
        for thread in (self._evaluator, self._recalculation):
            if thread is not None and thread.is_alive():
                thread.join()

    # What other processes entered

    def refresh(self) -> None:
        """Take over what is new in the ledger; without it for a second, nobody can say what a client's band is.

        Raises:
            StoreUnavailableError: The store is away.
        """
        try:
            generation, heads = self._ledger.glance()
            if generation != self._generation:
                self._load()
            elif heads != self._heads:
                self._heads = self._ledger.follow(self._heads, _Taker(self.authority, self.authority.facts))
        except StoreUnavailableError:
            self.authority.facts.away = time.monotonic() - self._read_at > _STALE_SECONDS
            raise
        self._read_at = time.monotonic()
        self.authority.facts.away = False

    def _load(self) -> None:
        """Read everything: at the start, and when clients were erased."""
        generation, _ = self._ledger.glance()
        facts = self.authority.empty_facts()
        heads = self._ledger.follow({}, _Taker(self.authority, facts))
        self.authority.facts.replace(facts)
        self._generation, self._heads = generation, heads

    # Trust to be judged after an answer

    def note(self, checked: Sequence[Checked]) -> None:
        """Remember the clients whose trust decisions ask to be judged; what was only simulated asks for nothing."""
        for decision, context, _ in checked:
            if decision.observations and not decision.simulated and _asks(decision):
                client = named_client(context)
                if client is not None:
                    self._put_off(client, context.get(FEDERATION))

    def _put_off(self, client: str, federation: object) -> None:
        """Note a client to be judged in the federation that a request named, else in all it is on record in."""
        known = self.authority.facts.federations(client)
        with self._queue:
            for name in known:
                if (federation is None or federation == name) and len(self._waiting) < _MAX_WAITING:
                    self._waiting[client, name] = None
        self._wake.set()

    def _evaluate(self) -> None:
        while not self._stopping:
            self._wake.wait()
            self._wake.clear()
            while (waiting := self._next()) is not None:
                try:
                    with self._turn():
                        self.authority.evaluate(*waiting)
                except (BusyError, StateError) as error:
                    log.warning("the trust in a client cannot be judged: %s", error)
                    time.sleep(_PAUSE_SECONDS)
                except Exception:  # else nobody would be judged any more
                    log.exception("judging the trust in a client failed")

    def _next(self) -> tuple[str, str] | None:
        """Return whom to judge next, and where; None when nobody waits, or there is no time left."""
        with self._queue:
            if self._stopping or not self._waiting:
                return None
            first = next(iter(self._waiting))
            del self._waiting[first]
            return first

    # Recalculation

    def recalculate(self, author: str, reason: str = "") -> Job:
        """Begin to reckon everything again; return the job, which is the one under way if there is one.

        Raises:
            BusyError, StoreUnavailableError: The store does not take it.
        """
        with self._lock:
            present = self.jobs.newest()
            if present is not None and present.state == "running":
                return present
            now = time.time()
            job = Job(job_id=uuid7(), state="running", author=author, reason=reason, started_at=now, updated_at=now)
            self.jobs.put(job)
            self._recalculation = Thread(target=self._recalculate, args=(job,), name="recalculation", daemon=True)
            self._recalculation.start()
            return job

    def _recalculate(self, job: Job) -> None:
        progress = _Progress(job, self.jobs.put, lambda: self._stopping)
        try:
            changed = Replay(self._ledger, job.author, progress).run()
            job = msgspec.structs.replace(progress.job, state="done", changed=changed, updated_at=time.time())
        except (BusyError, StateError) as error:
            job = msgspec.structs.replace(progress.job, state="failed", error=str(error), updated_at=time.time())
        except Exception:  # the job must not seem to go on for ever
            log.exception("the recalculation of trust failed")
            job = msgspec.structs.replace(
                progress.job, state="failed", error="it failed; the log says why", updated_at=time.time()
            )
        log.info("trust_calculation: recalculation %s %s, %d standings changed", job.job_id, job.state, job.changed)
        try:
            self.jobs.put(job)
        except (BusyError, StateError) as error:
            log.warning("the end of the recalculation cannot be stored: %s", error)


class _Progress:
    """Stores how far a job is, not too often."""

    def __init__(self, job: Job, put: Callable[[Job], None], is_stopping: Callable[[], bool]) -> None:
        self.job = job
        self._put = put
        self._is_stopping = is_stopping
        self._next = 0.0

    def __call__(self, done: int, total: int) -> None:
        if self._is_stopping():
            raise BusyError("the service was stopped")
        self.job = msgspec.structs.replace(self.job, done=done, total=total, updated_at=time.time())
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _PROGRESS_SECONDS
            self._put(self.job)


class _Taker:
    """Lets facts tell what is new in the ledger."""

    def __init__(self, authority: TrustAuthority, facts: TrustFacts) -> None:
        self._authority = authority
        self._facts = facts

    def standings(self, federation: str, standings: Sequence[tuple[str, Standing]]) -> None:
        self._authority.put(self._facts, federation, standings)

    def overrides(self, federation: str, overrides: Mapping[str, tuple[Override, ...]]) -> None:
        self._facts.decide_all(federation, {name: partial(decided, each) for name, each in overrides.items()})


def _asks(decision: Decision) -> bool:
    return any(observation.verb == EVALUATE for observation in decision.observations)
