"""Compare the entries of trust with what the events in the audit trail say of them."""

from __future__ import annotations

from hashlib import sha256
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, func, select

from policy_engine.store import schema
from policy_engine.store.faults import Fault, Faults
from policy_engine.store.position import writer_of
from policy_engine.store.raw import rows


class TrustSaid(NamedTuple):
    """What an event says of an entry of trust.

    Attributes:
        answer: The digest of what was answered; None for what is no round.
    """

    federation: str
    seq: int
    entry: str
    answer: str | None


class _Details(msgspec.Struct):
    federation: str = ""
    seq: int = 0
    entry_sha256: str = ""
    answer_sha256: str | None = None


class _Told(msgspec.Struct):
    details: _Details


_decode = msgspec.json.Decoder(_Told).decode
_MARK = b'"entry_sha256":'


def trust_said(body: bytes) -> TrustSaid | None:
    """Return what the body of an event says of an entry of trust; None when it is about something else."""
    if _MARK not in body:
        return None
    try:
        found = _decode(body).details
    except msgspec.ValidationError:  # another event that has words like these
        return None
    return TrustSaid(found.federation, found.seq, found.entry_sha256, found.answer_sha256)


class TrustEntries:
    """Takes in what events say, and compares it with what is stored."""

    def __init__(self, connection: Connection, tenant: str, faults: Faults) -> None:
        self._connection = connection
        self._tenant = tenant
        self._faults = faults
        self._seen: set[tuple[str, int]] = set()

    def check(self, said: TrustSaid, position: int) -> None:
        """Compare one entry."""
        self._seen.add((said.federation, said.seq))
        table = schema.trust_entry
        where = (table.c.tenant == self._tenant, table.c.federation == said.federation, table.c.seq == said.seq)
        found = list(rows(self._connection, table, *where, names=("body", "answer")))
        name = f"entry {said.seq} of the trust in federation `{said.federation}`"
        if not found:
            self._fault(position, f"{name} is missing")
        elif [_digest(value) for value in found[0]] != [said.entry, said.answer]:
            self._fault(position, f"{name} was altered")

    def finish(self) -> None:
        """Look for entries that no event tells of; where events were removed because of their age, some may be."""
        chain, table = schema.chain, schema.trust_entry
        removed = select(func.max(chain.c.tail_seq)).where(chain.c.tenant == self._tenant, chain.c.stream == "event")
        if self._connection.execute(removed).scalar():
            return
        query = rows(self._connection, table, table.c.tenant == self._tenant, names=("federation", "seq"))
        for federation, seq in query:
            if (federation, seq) not in self._seen:
                self._fault(None, f"no event tells of entry {seq} of the trust in federation `{federation}`")

    def _fault(self, position: int | None, text: str) -> None:
        writer = None if position is None else writer_of(position)
        self._faults.add(Fault(what="part", text=text, stream="event", writer=writer, position=position))


def _digest(value: Any) -> str | None:
    if value is None:
        return None
    return sha256(value).hexdigest() if type(value) is bytes else "-"
