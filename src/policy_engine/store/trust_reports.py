"""Questions to the ledger of trust, as people ask them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import and_, case, false, func, or_, select

from policy_engine.model.errors import UnknownClientError
from policy_engine.store import schema
from policy_engine.store.subjects import by_pseudonym, find
from policy_engine.store.trust import TrustStore
from policy_engine.store.trust_rows import advice_of, entry_of, find_overrides, standing_of
from policy_engine.trust.advice import ClientAdvice
from policy_engine.trust.entry import RoundEntry
from policy_engine.trust.override import Override
from policy_engine.trust.settings import TrustSettings
from policy_engine.trust.standing import Band, Standing, band_of
from policy_engine.trust.summary import RoundSummary

BINS = 10
_ROUNDS_LOOKED_AT = 1000
_STATISTICS = ("norm", "cos_ref", "cos_prev", "max_pair_cos", "samples", "loss")

_decode_summary = msgspec.json.Decoder(RoundSummary).decode


class Listed(NamedTuple):
    """A client on a page.

    Attributes:
        key: Where the next page begins.
        client_id: None when the client was erased.
    """

    key: tuple[str, str]
    federation: str
    client_id: str | None
    pseudonym: str
    standing: Standing
    overrides: tuple[Override, ...]


class PastRound(NamedTuple):
    """What came of a round for one client.

    Attributes:
        at: When it was closed, in seconds since 1970.
    """

    round: int
    at: float
    held: bool
    advice: ClientAdvice


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """What feeds the trust of one federation.

    Attributes:
        kind: "observations", "violations", "overrides" or "recalculations".
        feeds: The factors that follow from it.
        entries: How many there are.
        last_seen: When the last one came, in seconds since 1970.
        last_round: The last round that was observed, for observations.
        missing_rounds: Rounds among the last thousand that nobody observed.
        missing_statistics: What the last round lacked: name -> of how many of its updates.
    """

    federation: str
    kind: str
    feeds: list[str]
    entries: int
    last_seen: float | None = None
    last_round: int | None = None
    missing_rounds: list[int] = []
    missing_statistics: dict[str, int] = {}


_FEEDS: Mapping[str, tuple[str, list[str]]] = {
    "round": ("observations", ["participation", "update_quality", "behavioral_consistency", "compliance"]),
    "violation": ("violations", ["compliance"]),
    "override": ("overrides", []),
    "release": ("releases", []),
    "recalculation": ("recalculations", []),
}


class TrustReports:
    """Answers from the ledger; every method raises StoreUnavailableError while the store is away."""

    def __init__(self, store: TrustStore) -> None:
        self._store = store
        self._database = store.database
        self._tenant = store.tenant

    def federations(self) -> list[str]:
        """Return the federations on record."""
        table = schema.trust_federation
        query = select(table.c.federation).where(table.c.tenant == self._tenant).order_by(table.c.federation)
        with self._database.read() as connection:
            return list(connection.execute(query).scalars())

    # Clients

    def page(
        self,
        *,
        federation: str | None = None,
        band: Band | None = None,
        after: tuple[str, str] | None = None,
        limit: int = 100,
        at: float,
    ) -> list[Listed]:
        """Return clients in a steady order.

        Args:
            federation: Of which; of all by default.
            band: In which band.
            after: The key of the last one of the page before.
            limit: How many at most.
            at: The time for which bands are told, in seconds since 1970.
        """
        table = schema.trust_standing
        wanted = [federation] if federation is not None else self.federations()
        query = select(table).where(table.c.tenant == self._tenant, table.c.federation.in_(wanted))
        if after is not None:
            later = and_(table.c.federation == after[0], table.c.client > after[1])
            query = query.where(or_(table.c.federation > after[0], later))
        with self._database.read() as connection:
            overrides = {name: find_overrides(connection, self._tenant, name) for name in wanted}
            if band is not None:
                query = query.where(or_(false(), *(self._in_band(name, band, overrides[name], at) for name in wanted)))
            rows = connection.execute(query.order_by(table.c.federation, table.c.client).limit(limit)).all()
            names = by_pseudonym(connection, self._tenant, [row.client for row in rows])
        return [
            Listed(
                (row.federation, row.client),
                row.federation,
                names[row.client].name if row.client in names else None,
                row.client,
                standing_of(row),
                overrides[row.federation].get(row.client, ()),
            )
            for row in rows
        ]

    def _in_band(self, federation: str, band: Band, overrides: Mapping[str, Sequence[Override]], at: float) -> Any:
        """Return the condition for a band: that of the stored score, but for clients that were decided about."""
        table = schema.trust_standing
        settings = self._store.settings(federation)
        decided = {client: _band_decided(found, settings, at) for client, found in overrides.items()}
        decided = {client: found for client, found in decided.items() if found is not None}
        inside = [client for client, found in decided.items() if found is band]
        low, high = _bounds(band, settings)
        by_score = and_(table.c.trust >= low, table.c.trust < high, table.c.client.not_in(list(decided)))
        return and_(table.c.federation == federation, or_(by_score, table.c.client.in_(inside)))

    def history(self, client_id: str, federation: str, *, before: int | None, limit: int) -> list[PastRound]:
        """Return what came of the last rounds for a client, newest first.

        Args:
            client_id: Whom it is about.
            federation: Where.
            before: Only rounds below this one.
            limit: How many rounds of the federation are looked at, at most.

        Raises:
            UnknownClientError: There is no such client.
        """
        table = schema.trust_entry
        query = select(table.c.round, table.c.at, table.c.answer).where(
            table.c.tenant == self._tenant, table.c.federation == federation, table.c.kind == "round"
        )
        if before is not None:
            query = query.where(table.c.round < before)
        with self._database.read() as connection:
            subject = find(connection, self._tenant, client_id)
            if subject is None:
                raise UnknownClientError(client_id)
            rows = connection.execute(query.order_by(table.c.seq.desc()).limit(limit)).all()
        found = []
        for row in rows:
            advice = advice_of(bytes(row.answer))
            mine = next((each for each in advice.clients if each.client_id == subject.pseudonym), None)
            if mine is not None:
                renamed = msgspec.structs.replace(mine, client_id=client_id)
                found.append(PastRound(row.round, row.at, advice.held, renamed))
        return found

    # Federations

    def distribution(self, federation: str) -> list[int]:
        """Return how many clients have a trust in each tenth from 0 to 1, as reckoned; the last one includes 1."""
        table = schema.trust_standing
        borders = [number / BINS for number in range(BINS)] + [2.0]
        counted = [
            func.sum(case((and_(table.c.trust >= low, table.c.trust < high), 1), else_=0))
            for low, high in pairwise(borders)
        ]
        query = select(*counted).where(table.c.tenant == self._tenant, table.c.federation == federation)
        with self._database.read() as connection:
            return [int(count or 0) for count in connection.execute(query).one()]

    def trends(self, federation: str, *, before: int | None, limit: int) -> list[tuple[float, RoundSummary]]:
        """Return the last rounds in numbers, newest first, each with when it was closed."""
        table = schema.trust_entry
        query = select(table.c.at, table.c.summary).where(
            table.c.tenant == self._tenant, table.c.federation == federation, table.c.kind == "round"
        )
        if before is not None:
            query = query.where(table.c.round < before)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(table.c.seq.desc()).limit(limit)).all()
        return [(row.at, _decode_summary(bytes(row.summary))) for row in rows]

    def sources(self) -> list[Source]:
        """Return what feeds the trust of each federation, and what is missing."""
        table = schema.trust_entry
        query = (
            select(table.c.federation, table.c.kind, func.count().label("entries"), func.max(table.c.at).label("last"))
            .where(table.c.tenant == self._tenant)
            .group_by(table.c.federation, table.c.kind)
        )
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        found = {(row.federation, row.kind): row for row in rows}
        federations = sorted({row.federation for row in rows})
        return [
            self._source(federation, kind, found.get((federation, kind)))
            for federation in federations
            for kind in _FEEDS
        ]

    def _source(self, federation: str, kind: str, row: Any) -> Source:
        name, feeds = _FEEDS[kind]
        if row is None:
            return Source(federation=federation, kind=name, feeds=feeds, entries=0)
        source = Source(federation=federation, kind=name, feeds=feeds, entries=row.entries, last_seen=row.last)
        return self._with_gaps(source) if kind == "round" else source

    def _with_gaps(self, source: Source) -> Source:
        table = schema.trust_entry
        query = select(table.c.round, table.c.body).where(
            table.c.tenant == self._tenant, table.c.federation == source.federation, table.c.kind == "round"
        )
        with self._database.read() as connection:
            newest = query.with_only_columns(table.c.round).order_by(table.c.seq.desc()).limit(_ROUNDS_LOOKED_AT)
            rounds = sorted(connection.execute(newest).scalars())
            body = connection.execute(query.where(table.c.round == rounds[-1])).one().body
        return msgspec.structs.replace(
            source,
            last_round=rounds[-1],
            missing_rounds=_missing(rounds)[:BINS],
            missing_statistics=_lacking(bytes(body)),
        )


def _band_decided(overrides: Sequence[Override], settings: TrustSettings, at: float) -> Band | None:
    """Return the band that people decided on, None when they left it to the score."""
    holding = [each for each in overrides if each.holds(at)]
    if any(each.kind == "quarantine" for each in holding):
        return Band.QUARANTINED
    fixed = next((each.trust for each in holding if each.trust is not None), None)
    return None if fixed is None else band_of(fixed, settings)


def _bounds(band: Band, settings: TrustSettings) -> tuple[float, float]:
    """Return from which score, and below which, a client is in a band."""
    return {
        Band.EXCLUDED: (0.0, settings.exclude_below),
        Band.REDUCED: (settings.exclude_below, settings.reduce_below),
        Band.TRUSTED: (settings.reduce_below, 2.0),
        Band.QUARANTINED: (2.0, 2.0),
    }[band]


def _missing(rounds: Collection[int]) -> list[int]:
    """Return the first rounds of each gap."""
    return [number for one, other in pairwise(rounds) for number in range(one + 1, min(other, one + 1 + BINS))]


def _lacking(body: bytes) -> dict[str, int]:
    entry = entry_of(body)
    if not isinstance(entry, RoundEntry):
        return {}
    came = [update for update in entry.observation.clients if update.answered]
    counts = {name: sum(getattr(update, name) is None for update in came) for name in _STATISTICS}
    return {name: count for name, count in counts.items() if count}
