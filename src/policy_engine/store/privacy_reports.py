"""Questions to the ledger of privacy, as people ask them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec
from sqlalchemy import func, select, tuple_

from policy_engine.model.errors import BusyError
from policy_engine.privacy.account import Account, Epsilons
from policy_engine.privacy.accounting import pld_epsilon
from policy_engine.privacy.budget import Budget
from policy_engine.privacy.spend import Mechanism, Noise
from policy_engine.store import schema
from policy_engine.store.privacy import PrivacyStore
from policy_engine.store.privacy_rows import (
    COMMITTED,
    MICROSECONDS,
    Reservation,
    find_known,
    find_pseudonyms,
    reservation_of,
)
from policy_engine.store.subjects import by_pseudonym

Method: TypeAlias = Literal["rdp", "pld"]


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """What is spent by mechanisms whose noise one side added.

    Attributes:
        steps: How many.
        epsilon: What they come to by themselves; None without a budget.
    """

    steps: int
    epsilon: float | None


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One reservation, and what became of it.

    Attributes:
        state: "reserved", "committed", "released" or "expired".
        at: When it was made, in seconds since 1970, as is `expires`.
    """

    reservation_id: str
    round: int
    state: str
    noise: Noise
    noise_multiplier: float
    sampling_rate: float
    steps: int
    at: float
    expires: float


class ClientReport(msgspec.Struct, frozen=True, kw_only=True):
    """The account of one client in one federation. Without a budget there is no delta, and no epsilon.

    Attributes:
        method: How `epsilon_spent` and the split are computed.
        epsilon_spent: What is committed.
        epsilon_reserved: What would be spent if everything that is reserved now were committed, always by RDP.
        epsilon_remaining: What the budget leaves beyond that, as reservations are decided: always by RDP.
        server: By noise that the server added.
        declared: By noise that the client says it added.
        rests_on_declarations: Whether what is spent holds only if that is true.
        history: Reservations, newest first.
    """

    federation: str
    client_id: str
    method: Method
    epsilon_budget: float | None
    delta: float | None
    epsilon_spent: float | None
    epsilon_reserved: float | None
    epsilon_remaining: float | None
    server: Split
    declared: Split
    rests_on_declarations: bool
    history: list[Entry]


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """An account on a page.

    Attributes:
        client_id: None when the client was erased.
        pseudonym: What the store and its events call the client.
    """

    federation: str
    client_id: str | None
    pseudonym: str
    epsilon_budget: float | None
    delta: float | None
    epsilon_spent: float | None
    epsilon_remaining: float | None
    rests_on_declarations: bool


_Spends = Mapping[tuple[Mechanism, Noise], int]


class _Figures(NamedTuple):
    """Three epsilons: of everything, of the server's noise, of declared noise."""

    all: float
    server: float
    declared: float


class PrivacyReports:
    """Answers from the ledger; every method raises StoreUnavailableError while the store is away."""

    def __init__(self, ledger: PrivacyStore) -> None:
        self._ledger = ledger
        self._tenant = ledger.tenant
        self._turn = Lock()

    def client(
        self, client_id: str, federation: str, *, method: Method = "rdp", before: str = "", limit: int = 100
    ) -> ClientReport:
        """Return the account of a client; one that never spent anything has an empty one.

        Args:
            client_id: Whose.
            federation: In which federation.
            method: How to compute what is spent.
            before: The reservation below which the history goes on.
            limit: How much of the history.

        Raises:
            InvalidRequestError: `pld` would take too long for this account.
            BusyError: `pld` is being computed for somebody else.
            MissingExtraError: Epsilons cannot be computed here.
        """
        context = self._ledger.context(federation, Epsilons())
        with self._ledger.database.read() as connection:
            client = find_pseudonyms(connection, self._tenant, [client_id]).get(client_id, "")
            known = find_known(connection, self._tenant, federation, [client])[client]
            spends = self._spends(connection, federation, client)
            history = self._history(connection, federation, client, before, limit)
        budget = context.budget
        figures = self._figures(known.account, spends, budget, method) if budget else None
        held = context.epsilons.of(known.held(context.now).total, budget.delta) if budget else None
        steps = {noise: sum(count for (_, by), count in spends.items() if by is noise) for noise in Noise}
        return ClientReport(
            federation=federation,
            client_id=client_id,
            method=method,
            epsilon_budget=budget.epsilon if budget else None,
            delta=budget.delta if budget else None,
            epsilon_spent=figures.all if figures else None,
            epsilon_reserved=held,
            epsilon_remaining=budget.remaining(held) if budget and held is not None else None,
            server=Split(steps=steps[Noise.SERVER], epsilon=figures.server if figures else None),
            declared=Split(steps=steps[Noise.DECLARED], epsilon=figures.declared if figures else None),
            rests_on_declarations=known.account.rests_on_declarations,
            history=[_entry(each, context.now) for each in history],
        )

    def _figures(self, account: Account, spends: _Spends, budget: Budget, method: Method) -> _Figures:
        if method == "rdp":
            of = Epsilons().of
            return _Figures(*(of(each, budget.delta) for each in (account.total, account.server, account.declared)))
        if not self._turn.acquire(blocking=False):
            raise BusyError("`pld` is being computed for somebody else; try again")
        try:
            return _Figures(*(pld_epsilon(_added(spends, by), budget.delta) for by in _SIDES))
        finally:
            self._turn.release()

    def _spends(self, connection: Any, federation: str, client: str) -> _Spends:
        """Return how many steps of each mechanism are committed, apart by noise."""
        table = schema.privacy_reservation
        columns = (table.c.noise_multiplier, table.c.sampling_rate, table.c.noise)
        query = (
            select(*columns, func.sum(table.c.steps).label("steps"))
            .where(
                table.c.tenant == self._tenant,
                table.c.federation == federation,
                table.c.client == client,
                table.c.state == COMMITTED,
            )
            .group_by(*columns)
        )
        return {
            (Mechanism(row.noise_multiplier, row.sampling_rate), Noise(row.noise)): int(row.steps)
            for row in connection.execute(query)
        }

    def _history(self, connection: Any, federation: str, client: str, before: str, limit: int) -> Sequence[Reservation]:
        table = schema.privacy_reservation
        query = select(table).where(
            table.c.tenant == self._tenant,
            table.c.federation == federation,
            table.c.client == client,
        )
        if before:
            query = query.where(table.c.reservation < before)
        rows = connection.execute(query.order_by(table.c.reservation.desc()).limit(limit))
        return [reservation_of(row) for row in rows]

    def page(
        self, *, federation: str | None = None, after: tuple[str, str] | None = None, limit: int = 100
    ) -> list[Listed]:
        """Return accounts in a steady order: those of a federation, or all, behind the last one of a page."""
        table = schema.privacy_account
        query = select(table).where(table.c.tenant == self._tenant)
        if federation is not None:
            query = query.where(table.c.federation == federation)
        if after is not None:
            query = query.where(tuple_(table.c.federation, table.c.client) > after)
        query = query.order_by(table.c.federation, table.c.client).limit(limit)
        epsilons = Epsilons()
        with self._ledger.database.read() as connection:
            rows = connection.execute(query).all()
            balances = [self._ledger.balance_of(connection, row, epsilons) for row in rows]
            subjects = by_pseudonym(connection, self._tenant, [row.client for row in rows])
        found = []
        for row, balance in zip(rows, balances, strict=True):
            context = self._ledger.context(row.federation, epsilons)
            budget, subject = context.budget, subjects.get(row.client)
            held = balance.held if balance.until > context.now else balance.spent
            listed = Listed(
                federation=row.federation,
                client_id=subject.name if subject else None,
                pseudonym=row.client,
                epsilon_budget=budget.epsilon if budget else None,
                delta=budget.delta if budget else None,
                epsilon_spent=balance.spent if budget else None,
                epsilon_remaining=budget.remaining(held) if budget else None,
                rests_on_declarations=row.declared is not None,
            )
            found.append(listed)
        return found


_SIDES: tuple[Callable[[Noise], bool], ...] = (
    lambda _noise: True,
    lambda noise: noise is Noise.SERVER,
    lambda noise: noise is Noise.DECLARED,
)


def _added(spends: _Spends, counts: Callable[[Noise], bool]) -> dict[Mechanism, int]:
    added: dict[Mechanism, int] = {}
    for (mechanism, noise), steps in spends.items():
        if counts(noise):
            added[mechanism] = added.get(mechanism, 0) + steps
    return added


def _entry(reservation: Reservation, now: int) -> Entry:
    spend = reservation.spend
    return Entry(
        reservation_id=reservation.reservation_id,
        round=reservation.round,
        state=reservation.state_at(now),
        noise=spend.noise,
        noise_multiplier=spend.noise_multiplier,
        sampling_rate=spend.sampling_rate,
        steps=spend.steps,
        at=reservation.at / MICROSECONDS,
        expires=reservation.expires / MICROSECONDS,
    )
