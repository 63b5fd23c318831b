"""The privacy budgets of a running service: the ledger in the store, and the facts that are kept true to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from policy_engine.facts.privacy import PrivacyFacts, PrivacyRecord
from policy_engine.privacy.budget import Budget
from policy_engine.store.opened import Store
from policy_engine.store.privacy import Changed, Place, PrivacyStore
from policy_engine.store.privacy_reports import PrivacyReports
from policy_engine.store.privacy_rows import MICROSECONDS


class Spending:
    """What clients have spent of their privacy.

    Attributes:
        ledger: Takes reservations.
        reports: Answers what people ask.
        facts: What checks may ask about clients.
    """

    def __init__(self, store: Store, budgets: Mapping[str, Budget]) -> None:
        """Load what is on record.

        Raises:
            StoreUnavailableError: The store cannot be read.
        """
        self.ledger = PrivacyStore(store.database, store.options.tenant, store.writer, budgets)
        self.reports = PrivacyReports(self.ledger)
        self.facts = self._empty_facts()
        self._place = Place(0, 0)
        self._load(self.ledger.place())
        self.facts.answered()
        self.ledger.listener = lambda changed: _put(self.facts, changed)

    def _empty_facts(self) -> PrivacyFacts:
        return PrivacyFacts(self._epsilon)

    def _epsilon(self, federation: str) -> float | None:
        budget = self.ledger.budget(federation)
        return budget.epsilon if budget else None

    def refresh(self) -> None:
        """Take over what other processes changed; when that fails for a second, the facts are not known any more.

        Raises:
            StoreUnavailableError: The store is away.
        """
        self.facts.asked()
        place = self.ledger.place()
        if place.generation != self._place.generation or place.seq < self._place.seq:
            self._load(place)
        elif place.seq > self._place.seq:
            for changed in self.ledger.follow(self._place.seq):
                _put(self.facts, changed)
                self._hear()
            self._place = place
        self.facts.answered()

    def _load(self, place: Place) -> None:
        """Read everything: at the start, when clients were erased, and when a backup was restored."""
        facts = self._empty_facts()
        for changed in self.ledger.follow(0):
            _put(facts, changed)
            self._hear()
        self.facts.replace(facts)
        self._place = place

    def _hear(self) -> None:
        """Note that the database answers, although there is more to be read."""
        self.facts.answered()
        self.facts.asked()


def _put(facts: PrivacyFacts, changed: Iterable[Changed]) -> None:
    for seq, federation, client_id, balance in changed:
        if client_id is not None:
            record = PrivacyRecord(seq, balance.spent, balance.held, balance.until / MICROSECONDS)
            facts.put(federation, client_id, record)
