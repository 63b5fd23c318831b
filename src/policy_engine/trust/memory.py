"""The ledger of trust: its contract, and the one that is kept in memory."""

from __future__ import annotations

from collections.abc import Collection
from threading import Lock
from typing import NamedTuple, Protocol

from policy_engine.model.errors import ConflictError
from policy_engine.trust.advice import RoundAdvice
from policy_engine.trust.entry import Entry, RoundEntry, State, Step, ViolationEntry
from policy_engine.trust.override import Override
from policy_engine.trust.standing import Standing


class Head(NamedTuple):
    """Where the entries of a federation end.

    Attributes:
        seq: How many there are.
        last_round: The last round that was closed; 0 before the first.
    """

    seq: int = 0
    last_round: int = 0


class Answered(NamedTuple):
    """A round that was answered.

    Attributes:
        fingerprint: Of what was observed.
        advice: What was answered.
    """

    fingerprint: str
    advice: RoundAdvice


class Ledger(Protocol):
    """Keeps the entries of all federations, and what follows from them.

    The contract: `append` takes an entry whose step was reckoned from the state at `head`, or raises ConflictError and
    changes nothing when there are entries behind that head. What it returned for is kept.
    """

    def state(self, federation: str, names: Collection[str]) -> tuple[Head, State]:
        """Return where a federation is, and what is known of these clients; one that nobody has seen is at the start.

        Raises:
            StoreUnavailableError: The ledger cannot be read.
        """

    def answered(self, federation: str, round_number: int) -> Answered | None:
        """Return what was answered to a round, None when it was never observed.

        Raises:
            StoreUnavailableError: The ledger cannot be read.
        """

    def counted(self, federation: str, violation: ViolationEntry) -> bool:
        """Whether the same rule was counted against the same client in the same round already.

        Raises:
            StoreUnavailableError: The ledger cannot be read.
        """

    def append(  # noqa: PLR0917 - the parts of one entry
        self, federation: str, head: Head, entry: Entry, step: Step, fingerprint: str, author: str
    ) -> None:
        """Keep an entry and what follows from it.

        Raises:
            ConflictError: Another entry came first.
            BusyError, StoreUnavailableError: It is not kept.
        """


class _Federation:
    def __init__(self) -> None:
        self.head = Head()
        self.standings: dict[str, Standing] = {}
        self.overrides: dict[str, tuple[Override, ...]] = {}
        self.rounds: dict[int, Answered] = {}
        self.violations: set[tuple[str, str, int, int]] = set()


class MemoryLedger:
    """A ledger that lasts as long as the process; for programs that embed the engine, and for simulations."""

    def __init__(self) -> None:
        self._federations: dict[str, _Federation] = {}
        self._lock = Lock()

    def state(self, federation: str, names: Collection[str]) -> tuple[Head, State]:
        """Return the state, as the contract says."""
        known = self._federations.get(federation) or _Federation()
        standings = {name: known.standings[name] for name in names if name in known.standings}
        overrides = {name: known.overrides[name] for name in names if name in known.overrides}
        return known.head, State(standings, overrides, known.head.last_round)

    def answered(self, federation: str, round_number: int) -> Answered | None:
        """Return the answer, as the contract says."""
        known = self._federations.get(federation)
        return known.rounds.get(round_number) if known else None

    def counted(self, federation: str, violation: ViolationEntry) -> bool:
        """Tell it, as the contract says."""
        known = self._federations.get(federation)
        return known is not None and _key(violation) in known.violations

    def append(  # noqa: PLR0917 - as in the contract
        self,
        federation: str,
        head: Head,
        entry: Entry,
        step: Step,
        fingerprint: str,
        author: str,  # noqa: ARG002 - nobody audits what is not stored
    ) -> None:
        """Keep an entry, as the contract says."""
        with self._lock:
            known = self._federations.setdefault(federation, _Federation())
            if known.head != head:
                raise ConflictError("another entry came first")
            known.head = Head(head.seq + 1, step.last_round)
            known.standings.update(step.standings)
            known.overrides.update(step.overrides)
            if isinstance(entry, RoundEntry) and step.advice is not None:
                known.rounds[entry.observation.round] = Answered(fingerprint, step.advice)
            if isinstance(entry, ViolationEntry):
                known.violations.add(_key(entry))


def _key(violation: ViolationEntry) -> tuple[str, str, int, int]:
    return violation.client_id, violation.policy_id, violation.rule_index, violation.round
