"""Accounts and reservations of privacy budgets, as rows of their tables."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, Select, func, insert, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from policy_engine.privacy.account import Account
from policy_engine.privacy.spend import Noise, Spend
from policy_engine.privacy.vector import ZERO, Vector, pack, unpack
from policy_engine.store import schema

MICROSECONDS = 1_000_000

CHUNK = 500
"""How many names one statement takes."""

RESERVED = "reserved"
COMMITTED = "committed"
RELEASED = "released"
EXPIRED = "expired"
"""What a reservation can be; that it expired is not stored: time makes it so."""


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """What was reserved for one client and round.

    Attributes:
        client: A pseudonym.
        state: "reserved", "committed" or "released", as it is stored.
        at: When it was made, in microseconds since 1970, as is `expires`.
    """

    reservation_id: str
    federation: str
    client: str
    round: int
    spend: Spend
    state: str
    at: int
    expires: int

    def state_at(self, now: int) -> str:
        """Return what it is at a time."""
        return EXPIRED if self.state == RESERVED and self.expires <= now else self.state

    def counts_at(self, now: int) -> bool:
        """Whether it takes up budget at a time without being spent."""
        return self.state_at(now) == RESERVED


class Balance(NamedTuple):
    """What an account comes to, as it is stored beside it.

    Attributes:
        delta: At which delta the epsilons hold.
        spent: The epsilon of what is committed.
        held: The epsilon of that and what is reserved.
        until: When the last of the reservations expires, in microseconds since 1970; 0 when there is none.
    """

    delta: float
    spent: float
    held: float
    until: int


class Known(NamedTuple):
    """What is known of a client in a federation.

    Attributes:
        client: Its pseudonym; "" when it has none.
        reserved: What is reserved for it, expired or not.
        of_round: What was reserved for it in the round that was asked for.
    """

    client: str
    account: Account
    reserved: tuple[Reservation, ...] = ()
    of_round: tuple[Reservation, ...] = ()

    def outstanding(self, now: int) -> tuple[Reservation, ...]:
        """Return what takes up budget without being spent."""
        return tuple(each for each in self.reserved if each.counts_at(now))

    def held(self, now: int) -> Account:
        """Return the account as if all that is outstanding were spent."""
        return self.account.spent_all(each.spend for each in self.outstanding(now))


# Reading


def chunks(names: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield names, so many at a time as one statement takes."""
    return (names[start : start + CHUNK] for start in range(0, len(names), CHUNK))


def find_pseudonyms(connection: Connection, tenant: str, names: Sequence[str]) -> dict[str, str]:
    """Return the pseudonyms of those names that have one."""
    table = schema.subject
    found: dict[str, str] = {}
    for part in chunks(names):
        query = select(table.c.name, table.c.pseudonym).where(table.c.tenant == tenant, table.c.name.in_(part))
        found.update((row.name, row.pseudonym) for row in connection.execute(query))
    return found


def find_known(
    connection: Connection, tenant: str, federation: str, clients: Collection[str], round_number: int | None = None
) -> dict[str, Known]:
    """Return what is known of clients, given by pseudonym: all of them, those without an account too."""
    wanted = sorted(clients)
    account, reservation = schema.privacy_account, schema.privacy_reservation
    accounts: dict[str, Account] = {}
    reserved: dict[str, list[Reservation]] = {}
    of_round: dict[str, list[Reservation]] = {}
    for part in chunks(wanted):
        of_these = (account.c.tenant == tenant, account.c.federation == federation, account.c.client.in_(part))
        for row in connection.execute(select(account.c.client, account.c.server, account.c.declared).where(*of_these)):
            accounts[row.client] = account_of(row)
        query = select(reservation).where(
            reservation.c.tenant == tenant, reservation.c.federation == federation, reservation.c.client.in_(part)
        )
        _collect(connection, query.where(reservation.c.state == RESERVED), reserved)
        if round_number is not None:
            _collect(connection, query.where(reservation.c.round == round_number), of_round)
    return {
        client: Known(
            client, accounts.get(client, Account()), tuple(reserved.get(client, ())), tuple(of_round.get(client, ()))
        )
        for client in wanted
    }


def _collect(connection: Connection, query: Select[Any], found: dict[str, list[Reservation]]) -> None:
    for row in connection.execute(query.order_by(schema.privacy_reservation.c.reservation)):
        found.setdefault(row.client, []).append(reservation_of(row))


def find_reservations(connection: Connection, tenant: str, ids: Sequence[str]) -> dict[str, Reservation]:
    """Return the reservations of those ids that there are."""
    table = schema.privacy_reservation
    found: dict[str, Reservation] = {}
    for part in chunks(ids):
        query = select(table).where(table.c.tenant == tenant, table.c.reservation.in_(part))
        found.update((row.reservation, reservation_of(row)) for row in connection.execute(query))
    return found


def account_of(row: Any) -> Account:
    """Return what a row says is spent."""
    return Account(server=_vector(row.server), declared=_vector(row.declared))


def _vector(stored: bytes | None) -> Vector:
    return ZERO if stored is None else unpack(bytes(stored))


def reservation_of(row: Any) -> Reservation:
    """Return what a row says was reserved."""
    spend = Spend(
        noise_multiplier=row.noise_multiplier,
        sampling_rate=row.sampling_rate,
        steps=row.steps,
        noise=Noise(row.noise),
    )
    return Reservation(
        reservation_id=row.reservation,
        federation=row.federation,
        client=row.client,
        round=row.round,
        spend=spend,
        state=row.state,
        at=row.at,
        expires=row.expires,
    )


def newest_seq(connection: Connection, tenant: str) -> int:
    """Return which change of the accounts was the last one."""
    table = schema.privacy_account
    return connection.execute(select(func.max(table.c.seq)).where(table.c.tenant == tenant)).scalar() or 0


# Writing


def add_reservations(connection: Connection, tenant: str, reservations: Sequence[Reservation]) -> None:
    """Write new reservations."""
    rows = [
        {
            "tenant": tenant,
            "reservation": each.reservation_id,
            "federation": each.federation,
            "client": each.client,
            "round": each.round,
            "state": each.state,
            **msgspec.structs.asdict(each.spend),
            "at": each.at,
            "expires": each.expires,
        }
        for each in reservations
    ]
    if rows:
        connection.execute(insert(schema.privacy_reservation), rows)


def set_state(connection: Connection, tenant: str, ids: Sequence[str], state: str) -> None:
    """Write what became of reservations."""
    table = schema.privacy_reservation
    for part in chunks(ids):
        connection.execute(
            update(table).where(table.c.tenant == tenant, table.c.reservation.in_(part)).values(state=state)
        )


def put_accounts(
    connection: Connection, tenant: str, federation: str, seq: int, accounts: Mapping[str, tuple[Account, Balance]]
) -> None:
    """Write accounts by pseudonym, new ones and ones that are there."""
    table = schema.privacy_account
    rows = [
        {
            "tenant": tenant,
            "federation": federation,
            "client": client,
            "seq": seq,
            "server": _stored(account.server),
            "declared": _stored(account.declared),
            **balance._asdict(),
        }
        for client, (account, balance) in accounts.items()
    ]
    if not rows:
        return
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(table)
    keys = [column.name for column in table.primary_key]
    changed = {column.name: statement.excluded[column.name] for column in table.c if column.name not in keys}
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=changed), rows)


def _stored(vector: Vector) -> bytes | None:
    return None if vector == ZERO else pack(vector)


def wake_others(connection: Connection, channel: str) -> None:
    """Tell other processes that there is something new, once the transaction is committed."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_notify(:channel, 'privacy')"), {"channel": channel})
