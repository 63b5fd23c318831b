"""The ledger of privacy in the store: what clients' budgets are reserved for, and what is spent of them.

Clients are stored under pseudonyms. When one is erased its account stays, as that of nobody.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, Row, select

from policy_engine.model.errors import MissingExtraError
from policy_engine.privacy.account import Account, Epsilons
from policy_engine.privacy.budget import Budget, budget_of
from policy_engine.privacy.spend import Spend
from policy_engine.store import schema
from policy_engine.store.change import Transaction
from policy_engine.store.database import Database, serialise
from policy_engine.store.privacy_rows import (
    COMMITTED,
    MICROSECONDS,
    RELEASED,
    Balance,
    Known,
    Reservation,
    add_reservations,
    find_known,
    find_pseudonyms,
    find_reservations,
    newest_seq,
    put_accounts,
    set_state,
    wake_others,
)
from policy_engine.store.privacy_steps import Asked, Context, Outcome, balance, check_settling, decide, settled
from policy_engine.store.revisions import CHANNEL
from policy_engine.store.subjects import Subjects, by_pseudonym, erasures
from policy_engine.store.writer import Writer

log = logging.getLogger(__name__)

_SETTLED = {COMMITTED: "PRIVACY_COMMITTED", RELEASED: "PRIVACY_RELEASED"}
_ROWS = 500
_NOBODY = Known("", Account())


class Changed(NamedTuple):
    """An account that was changed.

    Attributes:
        seq: The number of the change.
        client_id: Whose it is; None when the client was erased.
    """

    seq: int
    federation: str
    client_id: str | None
    balance: Balance


class Place(NamedTuple):
    """How far the accounts have been read.

    Attributes:
        seq: The number of the last change.
        generation: How often clients were erased.
    """

    seq: int
    generation: int


Listener = Callable[[Sequence[Changed]], None]
"""Hears of accounts that were changed."""


class PrivacyStore:
    """The ledger of one tenant.

    The contract: what is reserved and what is committed never exceeds a budget, however many ask at once and in
    however many processes, as long as the budget is not lowered. What a call returned for has reached the disk; a call
    that raises has changed nothing, except that the database may go away in the moment of the commit: then the same
    call can be made again.

    Attributes:
        listener: Hears of accounts that this process changed.
    """

    def __init__(
        self,
        database: Database,
        tenant: str,
        writer: Writer,
        budgets: Mapping[str, Budget],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Use a database.

        Args:
            database: Where it is.
            tenant: Whose ledger it is.
            writer: Where everything that is written goes through.
            budgets: By federation, `*` for those that are not named.
            clock: Seconds since 1970.
        """
        self.database = database
        self.tenant = tenant
        self.listener: Listener = _nobody
        self._writer = writer
        self._budgets = dict(budgets)
        self._clock = clock

    def budget(self, federation: str) -> Budget | None:
        """Return the budget of each client of a federation."""
        return budget_of(self._budgets, federation)

    def context(self, federation: str, epsilons: Epsilons) -> Context:
        """Return what decides about a federation at this moment."""
        return Context(self.budget(federation), self.now(), epsilons)

    def now(self) -> int:
        """Return the time in microseconds since 1970."""
        return int(self._clock() * MICROSECONDS)

    # Reserving

    def reserve(
        self, federation: str, round_number: int, names: Sequence[str], spend: Spend, author: str
    ) -> dict[str, Outcome]:
        """Reserve the same for each of some clients: each is granted or refused.

        Asked for again, what is there already is returned, unless it was released or has expired.

        Args:
            federation: Whose budget counts.
            round_number: For which round.
            names: The clients, each once.
            spend: What each would spend.
            author: Who asks.

        Raises:
            ReservationError: Something else is reserved or spent for one of them in this round.
            MissingExtraError: Epsilons cannot be computed here.
            BusyError, StoreUnavailableError: As `Writer.transact`.
        """
        asked, epsilons = Asked(federation, round_number, spend), Epsilons()
        self._look(asked, names, epsilons)  # so that nothing is computed in the transaction

        def apply(transaction: Transaction) -> tuple[dict[str, Outcome], list[Changed]]:
            connection = transaction.connection
            serialise(connection, briefly=True)
            context = self.context(federation, epsilons)
            subjects = Subjects(self.tenant).ensure(connection, names)
            known = find_known(
                connection, self.tenant, federation, [each.pseudonym for each in subjects.values()], round_number
            )
            by_name = {name: known[subjects[name].pseudonym] for name in names}
            decided = decide(asked, by_name, context)
            grown = _grown(by_name, decided)
            add_reservations(connection, self.tenant, [each.reserved[-1] for each in grown.values()])
            changed = self._put(connection, federation, grown, context, {name: name for name in grown})
            for event_type, details in _told(asked, author, decided, by_name):
                transaction.event(event_type, details)
            return decided, changed

        decided, changed = self._writer.transact(apply, 2)
        self.listener(changed)
        return decided

    def ask(self, federation: str, names: Sequence[str], spend: Spend) -> dict[str, Outcome]:
        """Return what `reserve` would for a round in which nothing is reserved yet, and change nothing.

        Raises:
            MissingExtraError, StoreUnavailableError: As `reserve`.
        """
        return self._look(Asked(federation, None, spend), names, Epsilons())

    def _look(self, asked: Asked, names: Sequence[str], epsilons: Epsilons) -> dict[str, Outcome]:
        """Decide, and compute everything that is written with the decisions."""
        with self.database.read() as connection:
            clients = find_pseudonyms(connection, self.tenant, names)
            known = find_known(connection, self.tenant, asked.federation, clients.values(), asked.round)
        by_name = {name: known[clients[name]] if name in clients else _NOBODY for name in names}
        context = self.context(asked.federation, epsilons)
        decided = decide(asked, by_name, context)
        for each in _grown(by_name, decided).values():
            balance(each, context)
        return decided

    # Settling

    def commit(self, ids: Sequence[str], author: str) -> list[Reservation]:
        """Spend what was reserved; what is spent already stays so. All of them or none.

        Raises:
            UnknownReservationError: There is none of one of these ids.
            ReservationError: One was released, or has expired.
            MissingExtraError, BusyError, StoreUnavailableError: As `reserve`.
        """
        return self._settle(ids, COMMITTED, author)

    def release(self, ids: Sequence[str], author: str) -> list[Reservation]:
        """Give back what was reserved; what was given back, or has expired, stays so. All of them or none.

        Raises:
            UnknownReservationError: There is none of one of these ids.
            ReservationError: One was committed.
            MissingExtraError, BusyError, StoreUnavailableError: As `reserve`.
        """
        return self._settle(ids, RELEASED, author)

    def _settle(self, ids: Sequence[str], state: str, author: str) -> list[Reservation]:
        epsilons = Epsilons()
        with self.database.read() as connection:  # so that nothing is computed in the transaction
            self._settled(connection, ids, state, epsilons)

        def apply(transaction: Transaction) -> tuple[list[Reservation], list[Changed]]:
            connection = transaction.connection
            serialise(connection, briefly=True)
            settlement = self._settled(connection, ids, state, epsilons)
            set_state(connection, self.tenant, [each.reservation_id for each in settlement.moved], state)
            changed: list[Changed] = []
            for federation, known in settlement.known.items():
                subjects = by_pseudonym(connection, self.tenant, known)
                names = {client: subject.name for client, subject in subjects.items()}
                changed += self._put(connection, federation, known, self.context(federation, epsilons), names)
            if settlement.moved:
                details = {"author": author, "reservations": _listed(settlement.moved)}
                transaction.event(_SETTLED[state], details)
            return settlement.all, changed

        reservations, changed = self._writer.transact(apply, 1)
        self.listener(changed)
        return reservations

    def _settled(self, connection: Connection, ids: Sequence[str], state: str, epsilons: Epsilons) -> _Settlement:
        """Return what settling some reservations comes to, and compute what is written with it.

        Raises:
            UnknownReservationError, ReservationError: They cannot be settled so.
        """
        now = self.now()
        found = find_reservations(connection, self.tenant, ids)
        check_settling(ids, found, state, now)
        moved = [each for each in found.values() if each.counts_at(now)]
        known = {}
        for federation in sorted({each.federation for each in moved}):
            moving = [each for each in moved if each.federation == federation]
            present = find_known(connection, self.tenant, federation, {each.client for each in moving})
            known[federation] = settled(present, moving, state)
            for each in known[federation].values():
                balance(each, self.context(federation, epsilons))
        after = {each.reservation_id: msgspec.structs.replace(each, state=state) for each in moved}
        return _Settlement([after.get(name, found[name]) for name in ids], moved, known)

    def _put(
        self,
        connection: Connection,
        federation: str,
        known: Mapping[str, Known],
        context: Context,
        names: Mapping[str, str],
    ) -> list[Changed]:
        """Write accounts; return what changed, where the keys of `known` have names."""
        if not known:
            return []
        seq = newest_seq(connection, self.tenant) + 1
        balances = {key: balance(each, context) for key, each in known.items()}
        rows = {each.client: (each.account, balances[key]) for key, each in known.items()}
        put_accounts(connection, self.tenant, federation, seq, rows)
        wake_others(connection, CHANNEL)
        return [Changed(seq, federation, names.get(key), balances[key]) for key in known]

    # Following

    def place(self) -> Place:
        """Return how far there is something to read.

        Raises:
            StoreUnavailableError: The database is away.
        """
        with self.database.read() as connection:
            return Place(newest_seq(connection, self.tenant), erasures(connection, self.tenant))

    def follow(self, after: int) -> Iterator[list[Changed]]:
        """Yield the accounts of clients who have a name that were changed after a change, some at a time.

        Raises:
            StoreUnavailableError: The database is away; what was yielded so far is true.
        """
        account, subject = schema.privacy_account, schema.subject
        query = (
            select(subject.c.name, account)
            .join(subject, (account.c.tenant == subject.c.tenant) & (account.c.client == subject.c.pseudonym))
            .where(account.c.tenant == self.tenant, account.c.seq > after)
        )
        epsilons = Epsilons()
        with self.database.read() as connection:
            rows = connection.execution_options(yield_per=_ROWS).execute(query)
            for part in rows.partitions():
                yield self._changed(connection, part, epsilons)

    def _changed(self, connection: Connection, rows: Sequence[Row[Any]], epsilons: Epsilons) -> list[Changed]:
        return [Changed(row.seq, row.federation, row.name, self.balance_of(connection, row, epsilons)) for row in rows]

    def balance_of(self, connection: Connection, row: Row[Any], epsilons: Epsilons) -> Balance:
        """Return what an account comes to: as it is stored, unless the budget is at another delta by now."""
        stored = Balance(row.delta, row.spent, row.held, row.until)
        context = self.context(row.federation, epsilons)
        if context.budget is None or context.budget.delta == row.delta:
            return stored
        try:
            known = find_known(connection, self.tenant, row.federation, [row.client])[row.client]
            return balance(known, context)
        except MissingExtraError as error:  # nobody can say what is left
            log.warning("the account of a client is at delta %g, its budget at another one: %s", row.delta, error)
            return Balance(row.delta, float("inf"), float("inf"), row.until)


class _Settlement(NamedTuple):
    """What settling some reservations comes to.

    Attributes:
        all: The reservations that were asked for, as they are afterwards.
        moved: Those that change by it, as they were.
        known: Federation -> client -> what is known of it afterwards.
    """

    all: list[Reservation]
    moved: list[Reservation]
    known: dict[str, dict[str, Known]]


def _grown(known: Mapping[str, Known], decided: Mapping[str, Outcome]) -> dict[str, Known]:
    """Return what is known of those to whom something new is granted, with that."""
    return {
        name: known[name]._replace(reserved=(*known[name].reserved, each.reservation))
        for name, each in decided.items()
        if each.is_new and each.reservation is not None
    }


def _told(
    asked: Asked, author: str, decided: Mapping[str, Outcome], known: Mapping[str, Known]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the events that tell of it, in which clients are pseudonyms."""
    spend = {**msgspec.structs.asdict(asked.spend), "noise": asked.spend.noise.value}
    details = {"federation": asked.federation, "round": asked.round, **spend, "author": author}
    granted = [each.reservation for each in decided.values() if each.is_new and each.reservation is not None]
    if granted:
        until = granted[0].expires / MICROSECONDS
        yield "PRIVACY_RESERVED", {**details, "expires": until, "reservations": _listed(granted)}
    refused = {
        known[name].client: {"reason": each.verdict.reason, "epsilon": each.verdict.epsilon}
        for name, each in decided.items()
        if not each.verdict.allowed
    }
    if refused:
        yield "PRIVACY_REFUSED", {**details, "clients": refused}


def _listed(reservations: Iterable[Reservation]) -> dict[str, str]:
    return {each.reservation_id: each.client for each in reservations}


def _nobody(_changed: Sequence[Changed]) -> None:
    """Hear nothing."""
