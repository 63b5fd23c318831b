"""What is known of the trust in the client of a request, ready to be looked up while it is checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from struct import Struct
from threading import Lock
from typing import Any, NamedTuple

FEDERATION = "federation"
"""The attribute of a request that says which federation it is about."""

QUARANTINED_BAND = "quarantined"
UNKNOWN_BAND = "unknown"
"""The band of every client while nobody can tell whether what is known here still holds."""


class TrustRecord(NamedTuple):
    """What facts say of one client in one federation.

    Attributes:
        change: How much trust was won over the last rounds.
        answered: In how many rounds it answered.
        excluded_in: The round in which it was excluded, 0 while it is not.
    """

    trust: float
    participation: float
    update_quality: float
    behavioral_consistency: float
    compliance: float
    change: float
    answered: int
    excluded_in: int


class Known(NamedTuple):
    """A client of a request, looked up.

    Attributes:
        band: What its trust means.
        known: Whether it is on record.
    """

    record: TrustRecord
    band: str
    known: bool


def _now() -> datetime:
    return datetime.now(UTC)


BandOf = Callable[[str, float], str]
"""Returns the band of a trust score in a federation."""

Decided = Callable[[datetime], tuple[float | None, bool]]
"""Returns what people decided about a client, as far as it holds: the trust they set, and whether it is quarantined."""


def named_client(context: Mapping[str, Any]) -> str | None:
    """Return the client that a request names, None when it names none; a number names the client of that name."""
    client = context.get("client_id")
    if client.__class__ is str:
        named: str = client
        return named
    return str(client) if client.__class__ is int else None


_LAYOUT = Struct("<IddddddIQ")
"""The number of the federation, then the record. Packed, a million clients take a quarter of a gigabyte; as tuples,
which the collector of garbage has to visit besides, twice that."""

_READ: Mapping[str, Callable[[Known], Any]] = {
    "client.known": lambda client: client.known,
    "client.trust_score": lambda client: client.record.trust,
    "client_reputation": lambda client: client.record.trust,
    "client.trust_band": lambda client: client.band,
    "client.participation_rate": lambda client: client.record.participation,
    "client.update_quality": lambda client: client.record.update_quality,
    "client.behavioral_consistency": lambda client: client.record.behavioral_consistency,
    "client.compliance": lambda client: client.record.compliance,
    "trust_score_change": lambda client: client.record.change,
}


class _Index:
    """Everything that is known, so that all of it can be replaced at once."""

    __slots__ = ("decided", "federations", "numbers", "packed")

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.federations: list[str] = []
        self.packed: dict[str, bytes] = {}
        self.decided: dict[str, dict[str, Decided]] = {}


class TrustFacts:
    """Knows the facts about the client that a request names by `client_id`.

    A request that names no client has none of these facts, and one that names a client nobody has seen has those of a
    new one. Where a client is in several federations and the request says of none, the lowest trust counts. Trust is a
    matter of one federation, a quarantine is one of all: who is in quarantine anywhere is so everywhere.
    """

    names = frozenset(_READ)

    def __init__(self, new: TrustRecord, band_of: BandOf, clock: Callable[[], datetime] = _now) -> None:
        """Begin with nobody on record.

        Args:
            new: The record of a client that nobody has seen.
            band_of: Tells the band of a trust score in a federation.
            clock: Tells until when decisions of people hold, whatever time a request is simulated at.
        """
        self._new = new
        self._band_of = band_of
        self._clock = clock
        self._index = _Index()
        self._lock = Lock()
        self.away = False

    def __len__(self) -> int:
        """Return how many clients are on record."""
        return len(self._index.packed)

    def put(self, federation: str, records: Iterable[tuple[str, TrustRecord]]) -> None:
        """Note what is known of clients from now on."""
        with self._lock:
            index = self._index
            number = index.numbers.get(federation)
            if number is None:
                index.federations.append(federation)
                number = index.numbers[federation] = len(index.federations) - 1
            packed, several = index.packed, len(index.federations) > 1
            for name, record in records:
                mine = _LAYOUT.pack(number, *record)
                others = packed.get(name, b"") if several else b""
                packed[name] = _others(others, number) + mine if others else mine

    def decide(self, federation: str, client_id: str, decided: Decided | None) -> None:
        """Note what people decided about a client; None when that is nothing any more."""
        with self._lock:
            _put(self._index.decided, federation, client_id, decided)

    def decide_all(self, federation: str, decided: Mapping[str, Decided]) -> None:
        """Note everything that people decided about clients of a federation."""
        with self._lock:
            index = self._index.decided
            for client_id in {name for name, known in index.items() if federation in known} | decided.keys():
                _put(index, federation, client_id, decided.get(client_id))

    def replace(self, other: TrustFacts) -> None:
        """Take over all that another one knows, at once."""
        with self._lock:
            self._index = other._index

    def federations(self, client_id: str) -> list[str]:
        """Return in which federations a client is on record."""
        index = self._index
        packed = index.packed.get(client_id, b"")
        return [index.federations[number] for number, *_ in _LAYOUT.iter_unpack(packed)]

    def add(self, facts: dict[str, Any], wanted: frozenset[str], context: dict[str, Any], now: datetime) -> None:  # noqa: ARG002 - facts about trust hold now
        """Add what is known of the client."""
        client = named_client(context)
        if client is None:
            return
        if self.away:  # no answer is better than one that may have been true
            if "client.trust_band" in wanted:
                facts["client.trust_band"] = UNKNOWN_BAND
            return
        found = self.find(client, context.get(FEDERATION))
        for name in wanted & self.names:
            facts[name] = _READ[name](found)

    @classmethod
    def told(cls, client: Known) -> dict[str, Any]:
        """Return all facts about a client."""
        return {name: read(client) for name, read in _READ.items()}

    def find(self, client_id: str, federation: Any) -> Known:
        """Return what is known of a client, in a federation if that is one we know."""
        found = self._found(client_id, federation)
        decided = self._index.decided.get(client_id) if self._index.decided else None
        if decided is not None:
            now = self._clock()
            if any(each(now)[1] for each in decided.values()):
                return found._replace(band=QUARANTINED_BAND)
        return found

    def _found(self, client_id: str, federation: Any) -> Known:
        index = self._index
        packed = index.packed.get(client_id)
        if packed is None:
            named = federation if federation.__class__ is str else ""
            return Known(self._new, self._band_of(named, self._new.trust), known=False)
        if len(packed) == _LAYOUT.size:
            number, *values = _LAYOUT.unpack(packed)
            if federation is None or index.federations[number] == federation:
                return self._told(index, client_id, number, TrustRecord(*values))
        return self._one_of(index, client_id, packed, federation)

    def _one_of(self, index: _Index, client_id: str, packed: bytes, federation: Any) -> Known:
        wanted = index.numbers.get(federation) if federation.__class__ is str else None
        told = {
            number: self._told(index, client_id, number, TrustRecord(*values))
            for number, *values in _LAYOUT.iter_unpack(packed)
        }
        if wanted is None:
            return min(told.values(), key=lambda known: known.record.trust)
        if wanted in told:
            return told[wanted]
        return Known(self._new, self._band_of(index.federations[wanted], self._new.trust), known=False)

    def _told(self, index: _Index, client_id: str, number: int, record: TrustRecord) -> Known:
        federation = index.federations[number]
        decided = index.decided.get(client_id) if index.decided else None
        if decided is not None and federation in decided:
            trust, _ = decided[federation](self._clock())
            if trust is not None:
                record = record._replace(trust=trust, change=record.change + trust - record.trust)
        return Known(record, self._band_of(federation, record.trust), known=True)


def _put(index: dict[str, dict[str, Decided]], federation: str, client_id: str, decided: Decided | None) -> None:
    """Note what people decided about a client in a federation; who reads about it meanwhile is not disturbed."""
    mine = {name: each for name, each in index.get(client_id, {}).items() if name != federation}
    if decided is not None:
        mine[federation] = decided
    if mine:
        index[client_id] = mine
    else:
        index.pop(client_id, None)


def _others(packed: bytes, number: int) -> bytes:
    """Return the records of other federations."""
    size = _LAYOUT.size
    kept = (packed[start : start + size] for start in range(0, len(packed), size))
    return b"".join(record for record in kept if _LAYOUT.unpack(record)[0] != number)
