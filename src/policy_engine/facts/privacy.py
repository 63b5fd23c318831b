"""What is known of the privacy that clients have spent, ready to be looked up while a request is checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from struct import Struct
from threading import Lock
from time import monotonic
from typing import Any, NamedTuple

FEDERATION = "federation"
"""The attribute of a request that says which federation it is about."""

DEFAULT_FEDERATION = "default"
"""The federation of requests that name none, about clients that have spent nothing anywhere."""

SPENT = "client.epsilon_spent"
REMAINING = "client.epsilon_remaining"

STALE_SECONDS = 1.0
"""For how long the facts hold when the database does not say so again."""


class PrivacyRecord(NamedTuple):
    """What facts say of one client in one federation.

    Attributes:
        seq: The number of the change that made it so.
        spent: The epsilon of what is spent.
        held: The epsilon of that and what is reserved.
        until: When the last of the reservations expires, in seconds since 1970.
    """

    seq: int
    spent: float
    held: float
    until: float

    def held_at(self, now: datetime) -> float:
        """Return what is spent or reserved at a time."""
        return self.held if self.until > now.timestamp() else self.spent


_NEW = PrivacyRecord(0, 0.0, 0.0, 0.0)
_LAYOUT = Struct("<IQddd")
"""The number of the federation, then the record; packed, because there may be a million of them."""


class _Index:
    """Everything that is known, so that all of it can be replaced at once."""

    __slots__ = ("federations", "numbers", "packed")

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.federations: list[str] = []
        self.packed: dict[str, bytes] = {}


class PrivacyFacts:
    """Knows the privacy facts about the client that a request names by `client_id`.

    Where a client is in several federations and the request says of none, the one in which the least remains counts.
    """

    names = frozenset({SPENT, REMAINING})

    def __init__(self, budget_of: Callable[[str], float | None], clock: Callable[[], float] = monotonic) -> None:
        """Begin with nothing spent.

        Args:
            budget_of: Returns the epsilon of each client's budget in a federation, None where there is no budget.
            clock: Seconds that only rise.
        """
        self._budget_of = budget_of
        self._clock = clock
        self._index = _Index()
        self._lock = Lock()
        self._asked_at: float | None = None

    def __len__(self) -> int:
        """Return how many clients are on record."""
        return len(self._index.packed)

    # How true it is

    def asked(self) -> None:
        """Note that the database is asked what is new, unless an earlier question has not been answered yet."""
        if self._asked_at is None:
            self._asked_at = self._clock()

    def answered(self) -> None:
        """Note that it answered."""
        self._asked_at = None

    @property
    def away(self) -> bool:
        """Whether the database has not answered for so long that nobody knows what is spent by now."""
        asked_at = self._asked_at
        return asked_at is not None and self._clock() - asked_at > STALE_SECONDS

    # What is known

    def put(self, federation: str, client_id: str, record: PrivacyRecord) -> None:
        """Note what is known of a client from now on, unless something newer is known."""
        with self._lock:
            index = self._index
            number = index.numbers.get(federation)
            if number is None:
                index.federations.append(federation)
                number = index.numbers[federation] = len(index.federations) - 1
            others = b""
            for known, seq, *rest in _LAYOUT.iter_unpack(index.packed.get(client_id, b"")):
                if known != number:
                    others += _LAYOUT.pack(known, seq, *rest)
                elif seq > record.seq:
                    return
            index.packed[client_id] = others + _LAYOUT.pack(number, *record)

    def replace(self, other: PrivacyFacts) -> None:
        """Take over all that another one knows, at once."""
        with self._lock:
            self._index = other._index

    def records(self, client_id: str) -> Iterable[tuple[str, PrivacyRecord]]:
        """Yield what is known of a client, by federation."""
        index = self._index
        for number, *values in _LAYOUT.iter_unpack(index.packed.get(client_id, b"")):
            yield index.federations[number], PrivacyRecord(*values)

    def add(self, facts: dict[str, Any], wanted: frozenset[str], context: dict[str, Any], now: datetime) -> None:
        """Add what is known of the client; nothing where no budget is set, or while nobody knows."""
        client = context.get("client_id")
        if client.__class__ is int:
            client = str(client)
        if client.__class__ is not str or self.away:
            return
        found = self._find(client, context.get(FEDERATION), now)
        if found is None:
            return
        spent, remaining = found
        if SPENT in wanted:
            facts[SPENT] = spent
        if REMAINING in wanted:
            facts[REMAINING] = remaining

    def _find(self, client_id: str, federation: Any, now: datetime) -> tuple[float, float] | None:
        """Return what is spent and what remains, None where no budget says."""
        known = dict(self.records(client_id))
        if federation is not None:
            if federation.__class__ is not str:
                return None
            return self._told(federation, known.get(federation, _NEW), now)
        told = [each for name, record in known.items() if (each := self._told(name, record, now)) is not None]
        return min(told, key=lambda each: each[1]) if told else self._told(DEFAULT_FEDERATION, _NEW, now)

    def _told(self, federation: str, record: PrivacyRecord, now: datetime) -> tuple[float, float] | None:
        budget = self._budget_of(federation)
        if budget is None:
            return None
        return record.spent, max(0.0, budget - record.held_at(now))
