"""The ledger of trust in the store: entries of all federations, in order, and what follows from them.

Clients are stored under pseudonyms. When one is erased its entries and its standing stay, as those of nobody, so that
what was reckoned from them can be reckoned again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple, Protocol

import msgspec
from sqlalchemy import Connection, insert, select

from policy_engine.model.errors import ConflictError
from policy_engine.store import schema
from policy_engine.store.change import Transaction
from policy_engine.store.database import Database, serialise
from policy_engine.store.revisions import CHANNEL
from policy_engine.store.subjects import Subjects, by_pseudonym, erasures
from policy_engine.store.trust_rows import (
    STANDING_COLUMNS,
    advice_of,
    find_overrides,
    find_standings,
    packed,
    put_federation,
    put_overrides,
    put_standings,
    standing_of,
    standing_values,
    wake_others,
)
from policy_engine.store.writer import Writer
from policy_engine.trust.advice import RoundAdvice
from policy_engine.trust.entry import (
    Entry,
    OverrideEntry,
    RecalculationEntry,
    ReleaseEntry,
    RoundEntry,
    State,
    Step,
    ViolationEntry,
    clients_of,
    moment_of,
    renamed,
)
from policy_engine.trust.memory import Answered, Head
from policy_engine.trust.override import Override
from policy_engine.trust.settings import TrustSettings
from policy_engine.trust.standing import Band, Standing
from policy_engine.trust.summary import summarise

_MAX_NAMED = 100
"""How many clients one event names."""

_EVENTS = 2
_ROWS = 5000


class FederationHead(NamedTuple):
    """Where the entries of a federation end.

    Attributes:
        seq: The last one.
        override_seq: The last one that changed an override.
    """

    seq: int
    override_seq: int


class Listener(Protocol):
    """Hears what is new in a ledger."""

    def standings(self, federation: str, standings: Sequence[tuple[str, Standing]]) -> None:
        """Hear where some clients of a federation stand now."""

    def overrides(self, federation: str, overrides: Mapping[str, tuple[Override, ...]]) -> None:
        """Hear everything that is decided about clients of a federation now."""


class TrustStore:
    """The ledger of one tenant; its contract is that of `Ledger`."""

    def __init__(
        self, database: Database, tenant: str, writer: Writer, settings: Callable[[str], TrustSettings]
    ) -> None:
        """Use a database.

        Args:
            database: Where it is.
            tenant: Whose ledger it is.
            writer: Where everything that is written goes through.
            settings: Returns the parameters of a federation.
        """
        self.database = database
        self.tenant = tenant
        self.settings = settings
        self._writer = writer

    # What is known

    def state(self, federation: str, names: Collection[str]) -> tuple[Head, State]:
        """Return the state, as the contract says."""
        with self.database.read() as connection:
            head = self._head(connection, federation)
            if not head.seq:
                return head, State({}, {})
            rows = find_standings(connection, self.tenant, federation, list(names))
            by_client = {row.client: name for name, row in rows.items()}
            found = find_overrides(connection, self.tenant, federation, by_client.keys())
        overrides = {by_client[client]: decided for client, decided in found.items()}
        standings = {name: standing_of(row) for name, row in rows.items()}
        return head, State(standings, overrides, head.last_round)

    def _head(self, connection: Connection, federation: str) -> Head:
        table = schema.trust_federation
        query = select(table.c.seq, table.c.last_round)
        row = connection.execute(query.where(table.c.tenant == self.tenant, table.c.federation == federation)).first()
        return Head(row.seq, row.last_round) if row else Head()

    def answered(self, federation: str, round_number: int) -> Answered | None:
        """Return the answer, as the contract says."""
        table = schema.trust_entry
        query = select(table.c.fingerprint, table.c.answer).where(
            table.c.tenant == self.tenant, table.c.federation == federation, table.c.once == _once_round(round_number)
        )
        with self.database.read() as connection:
            row = connection.execute(query).first()
            return Answered(row.fingerprint, self.named(connection, advice_of(bytes(row.answer)))) if row else None

    def named(self, connection: Connection, advice: RoundAdvice) -> RoundAdvice:
        """Return advice with names in the place of pseudonyms; who was erased keeps the pseudonym."""
        subjects = by_pseudonym(connection, self.tenant, [each.client_id for each in advice.clients])
        return advice.renamed({pseudonym: subject.name for pseudonym, subject in subjects.items()})

    def counted(self, federation: str, violation: ViolationEntry) -> bool:
        """Tell it, as the contract says."""
        with self.database.read() as connection:
            client = self._pseudonym(connection, violation.client_id)
            return client is not None and self._is_there(connection, federation, _once_violation(violation, client))

    def _pseudonym(self, connection: Connection, name: str) -> str | None:
        table = schema.subject
        query = select(table.c.pseudonym).where(table.c.tenant == self.tenant, table.c.name == name)
        return connection.execute(query).scalar()

    def _is_there(self, connection: Connection, federation: str, once: str) -> bool:
        table = schema.trust_entry
        query = select(table.c.seq).where(
            table.c.tenant == self.tenant, table.c.federation == federation, table.c.once == once
        )
        return connection.execute(query).first() is not None

    # What is taken

    def append(  # noqa: PLR0917 - as in the contract
        self, federation: str, head: Head, entry: Entry, step: Step, fingerprint: str, author: str
    ) -> None:
        """Keep an entry, as the contract says, with an event that tells of it."""

        def apply(transaction: Transaction) -> None:
            connection = transaction.connection
            serialise(connection, briefly=True)
            if self._head(connection, federation) != head:
                raise ConflictError("another entry came first")
            names = {*step.standings, *step.overrides, *clients_of(entry)}
            subjects = Subjects(self.tenant).ensure(connection, names)
            pseudonyms = {name: subject.pseudonym for name, subject in subjects.items()}
            self._write(transaction, federation, head, entry, step, fingerprint, author, pseudonyms)
            wake_others(connection, CHANNEL)

        self._writer.transact(apply, _EVENTS + len(step.overrides))

    def append_stored(self, federation: str, head: Head, entry: Entry, step: Step, author: str) -> None:
        """Keep an entry as `append` does, where clients are told by their pseudonyms."""

        def apply(transaction: Transaction) -> None:
            connection = transaction.connection
            serialise(connection, briefly=True)
            if self._head(connection, federation) != head:
                raise ConflictError("another entry came first")
            same = {client: client for client in (*step.standings, *step.overrides)}
            self._write(transaction, federation, head, entry, step, "", author, same)
            wake_others(connection, CHANNEL)

        self._writer.transact(apply, _EVENTS + len(step.overrides))

    def _write(  # noqa: PLR0917 - the parts of one entry
        self,
        transaction: Transaction,
        federation: str,
        head: Head,
        entry: Entry,
        step: Step,
        fingerprint: str,
        author: str,
        pseudonyms: Mapping[str, str],
    ) -> None:
        connection, seq = transaction.connection, head.seq + 1
        stored = renamed(entry, pseudonyms)
        advice = step.advice.renamed(pseudonyms) if step.advice else None
        row = {
            "tenant": self.tenant,
            "federation": federation,
            "seq": seq,
            "kind": _kind(entry),
            "once": _once(stored),
            "round": entry.observation.round if isinstance(entry, RoundEntry) else None,
            "at": moment_of(entry),
            "fingerprint": fingerprint,
            "body": packed(stored),
            "answer": packed(advice) if advice else None,
            "summary": msgspec.json.encode(summarise(advice)) if advice else None,
        }
        connection.execute(insert(schema.trust_entry), row)
        self._write_step(connection, federation, seq, step, pseudonyms)
        for event_type, details in _events(federation, stored, advice, row, author):
            transaction.event(event_type, details)

    def _write_step(
        self, connection: Connection, federation: str, seq: int, step: Step, pseudonyms: Mapping[str, str]
    ) -> None:
        settings, key = self.settings(federation), {"tenant": self.tenant, "federation": federation}
        rows = [
            {**key, "client": pseudonyms[name], "seq": seq, **standing_values(standing, settings)}
            for name, standing in step.standings.items()
        ]
        put_standings(connection, rows)
        for name, overrides in step.overrides.items():
            put_overrides(connection, self.tenant, federation, pseudonyms[name], overrides)
        before = self._federation_head(connection, federation)
        override_seq = seq if step.overrides else before.override_seq
        put_federation(connection, {**key, "seq": seq, "last_round": step.last_round, "override_seq": override_seq})

    def _federation_head(self, connection: Connection, federation: str) -> FederationHead:
        return self._heads(connection).get(federation, FederationHead(0, 0))

    # Following

    def _heads(self, connection: Connection) -> dict[str, FederationHead]:
        table = schema.trust_federation
        rows = connection.execute(select(table).where(table.c.tenant == self.tenant))
        return {row.federation: FederationHead(row.seq, row.override_seq) for row in rows}

    def glance(self) -> tuple[int, dict[str, FederationHead]]:
        """Return how often clients were erased, and where the federations are.

        Raises:
            StoreUnavailableError: The ledger cannot be read.
        """
        with self.database.read() as connection:
            return erasures(connection, self.tenant), self._heads(connection)

    def follow(self, known: Mapping[str, FederationHead], listener: Listener) -> dict[str, FederationHead]:
        """Tell what is new since what is known of each federation; return where they are now.

        Raises:
            StoreUnavailableError: The ledger cannot be read; what was told so far is true.
        """
        with self.database.read() as connection:
            heads = self._heads(connection)
            for federation, head in heads.items():
                before = known.get(federation, FederationHead(0, 0))
                if head.seq > before.seq:
                    self._tell_standings(connection, federation, before.seq, listener)
                if head.override_seq > before.override_seq:
                    listener.overrides(federation, self._all_overrides(connection, federation))
            return heads

    def _tell_standings(self, connection: Connection, federation: str, after: int, listener: Listener) -> None:
        subject, standing = schema.subject, schema.trust_standing
        query = (
            select(subject.c.name, *STANDING_COLUMNS)
            .join(subject, (standing.c.tenant == subject.c.tenant) & (standing.c.client == subject.c.pseudonym))
            .where(standing.c.tenant == self.tenant, standing.c.federation == federation, standing.c.seq > after)
        )
        rows = connection.execution_options(yield_per=_ROWS).execute(query)
        for part in rows.partitions():
            listener.standings(federation, [(row.name, standing_of(row)) for row in part])

    def _all_overrides(self, connection: Connection, federation: str) -> dict[str, tuple[Override, ...]]:
        found = find_overrides(connection, self.tenant, federation)
        subjects = by_pseudonym(connection, self.tenant, found)
        return {subjects[client].name: each for client, each in found.items() if client in subjects}


def _kind(entry: Entry) -> str:
    return str(type(entry).__struct_config__.tag)


def _once(entry: Entry) -> str | None:
    if isinstance(entry, RoundEntry):
        return _once_round(entry.observation.round)
    return _once_violation(entry, entry.client_id) if isinstance(entry, ViolationEntry) else None


def _once_round(number: int) -> str:
    return f"round {number}"


def _once_violation(violation: ViolationEntry, client: str) -> str:
    return f"violation {violation.round} {violation.policy_id}#{violation.rule_index} {client}"


# Events


def _events(
    federation: str, entry: Entry, advice: RoundAdvice | None, row: Mapping[str, Any], author: str
) -> list[tuple[str, dict[str, Any]]]:
    """Return what is told of an entry, in which clients are pseudonyms."""
    told = {
        "federation": federation,
        "seq": row["seq"],
        "author": author,
        "entry_sha256": sha256(row["body"]).hexdigest(),  # binds what is stored of it to the audit chain
        "answer_sha256": sha256(row["answer"]).hexdigest() if row["answer"] else None,
    }
    if isinstance(entry, RoundEntry) and advice is not None:
        by_policy = [_decided_event({**told, "client": name}, each) for name, each in entry.decided.items()]
        return [*_round_events(told, advice), *by_policy]
    if isinstance(entry, RecalculationEntry):
        return [("TRUST_RECALCULATED", {**told, "changed": entry.changed})]
    details = {**told, "client": clients_of(entry)[0]}
    if isinstance(entry, ViolationEntry):
        rule = {"policy_id": entry.policy_id, "rule_index": entry.rule_index, "round": entry.round}
        return [("TRUST_VIOLATION", {**details, **rule})]
    if isinstance(entry, ReleaseEntry):
        return [("CLIENT_RELEASED", {**details, "kind": entry.kind, "reason": entry.reason})]
    assert isinstance(entry, OverrideEntry)  # noqa: S101 - what is left
    return [_decided_event(details, entry.override)]


def _decided_event(details: dict[str, Any], decided: Override) -> tuple[str, dict[str, Any]]:
    details |= {"author": decided.author, "reason": decided.reason, "expires_at": decided.expires_at}
    if decided.kind == "quarantine":
        return "CLIENT_QUARANTINED", details
    return "TRUST_OVERRIDDEN", {**details, "trust_score": decided.trust}


def _round_events(told: dict[str, Any], advice: RoundAdvice) -> list[tuple[str, dict[str, Any]]]:
    """Return the event of a round, and the alert when it is held."""
    excluded = [each.client_id for each in advice.clients if each.band is Band.EXCLUDED]
    details = {
        **told,
        "round": advice.round,
        "clients": len(advice.clients),
        "answered": sum(each.quality is not None for each in advice.clients),
        "accepted": sum(each.accept for each in advice.clients),
        "excluded": len(excluded),
        "excluded_clients": excluded[:_MAX_NAMED],
        "excluded_share": advice.excluded_share,
        "refused_share": advice.refused_share,
        "held": advice.held,
    }
    events = [("TRUST_ROUND_CLOSED", details)]
    if advice.held:
        of_round = ("federation", "round", "excluded", "clients", "excluded_share", "refused_share")
        alert = {key: details[key] for key in of_round}
        events.append(("TRUST_ROUND_HELD", {**alert, "severity": "critical"}))
    return events
