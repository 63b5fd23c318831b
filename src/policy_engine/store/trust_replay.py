"""Reckon trust again from everything that was ever entered, and compare it with what is on record."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection, insert, select

from policy_engine.model.errors import BusyError, ConflictError
from policy_engine.store import schema
from policy_engine.store.change import Transaction
from policy_engine.store.trust import TrustStore
from policy_engine.store.trust_rows import entry_of, find_overrides, standing_of
from policy_engine.store.writer import Writer
from policy_engine.trust.entry import RecalculationEntry, State, Step, advance
from policy_engine.trust.memory import Head
from policy_engine.trust.override import Override, Overrides
from policy_engine.trust.standing import NEW, Standing, trust_score

_ENTRIES = 50
_ROWS = 5000
_ATTEMPTS = 20
_LOST_SECONDS = 60.0

Progress = Callable[[int, int], None]
"""Called with the entries that were reckoned again, and how many there are."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A recalculation.

    Attributes:
        state: "running", "done", "failed", or "lost" when the process that did it is gone.
        done: Entries that were reckoned again.
        total: How many there are.
        changed: How many standings were not what they should have been, once it is done.
        started_at: Seconds since 1970, as the other times.
    """

    job_id: str
    state: Literal["running", "done", "failed", "lost"]
    author: str
    reason: str
    started_at: float
    updated_at: float
    done: int = 0
    total: int = 0
    changed: int = 0
    error: str = ""


_decode = msgspec.json.Decoder(Job).decode


class Jobs:
    """The recalculations of one tenant, seen by all its processes."""

    def __init__(self, store: TrustStore, writer: Writer) -> None:
        self._store = store
        self._writer = writer

    def put(self, job: Job) -> None:
        """Write a job.

        Raises:
            BusyError, StoreUnavailableError: As `Writer.transact`.
        """
        table = schema.trust_job
        values = {
            "tenant": self._store.tenant,
            "job": job.job_id,
            "started": int(job.started_at * 1e6),
            "updated": int(job.updated_at * 1e6),
            "body": msgspec.json.encode(job),
        }

        def apply(transaction: Transaction) -> None:
            connection = transaction.connection
            connection.execute(table.delete().where(table.c.tenant == self._store.tenant, table.c.job == job.job_id))
            connection.execute(insert(table), values)

        self._writer.transact(apply)

    def get(self, job_id: str) -> Job | None:
        """Return a job, None when there is none.

        Raises:
            StoreUnavailableError: The store is away.
        """
        table = schema.trust_job
        query = select(table.c.body).where(table.c.tenant == self._store.tenant, table.c.job == job_id)
        with self._store.database.read() as connection:
            body = connection.execute(query).scalar()
        return None if body is None else _seen(_decode(bytes(body)))

    def newest(self) -> Job | None:
        """Return the job that was started last, None when there is none.

        Raises:
            StoreUnavailableError: The store is away.
        """
        table = schema.trust_job
        query = select(table.c.body).where(table.c.tenant == self._store.tenant).order_by(table.c.started.desc())
        with self._store.database.read() as connection:
            body = connection.execute(query.limit(1)).scalar()
        return None if body is None else _seen(_decode(bytes(body)))


def _seen(job: Job) -> Job:
    """Return a job as it is now: one that says nothing any more is lost."""
    if job.state == "running" and time.time() - job.updated_at > _LOST_SECONDS:
        return msgspec.structs.replace(job, state="lost")
    return job


class Replay:
    """Reckons everything again and puts right what differs.

    It works on pseudonyms throughout, so clients that were erased are reckoned like all others.
    """

    def __init__(self, store: TrustStore, author: str, progress: Progress) -> None:
        self._store = store
        self._author = author
        self._progress = progress
        self._done = 0
        self._total = 0

    def run(self) -> int:
        """Return how many standings were put right.

        Raises:
            BusyError, StoreUnavailableError: It could not be finished; what it had put right stays so.
        """
        heads = self._heads()
        self._total = sum(head.seq for head in heads.values())
        self._progress(0, self._total)
        changed = sum(self._federation(name) for name in heads)
        self._progress(self._total, self._total)
        return changed

    def _heads(self) -> dict[str, Head]:
        table = schema.trust_federation
        with self._store.database.read() as connection:
            rows = connection.execute(select(table).where(table.c.tenant == self._store.tenant)).all()
        return {row.federation: Head(row.seq, row.last_round) for row in rows}

    def _federation(self, federation: str) -> int:
        reckoned = _Reckoned(self._store, federation)
        for _ in range(_ATTEMPTS):
            for seq in reckoned.catch_up():
                self._done += 1
                self._total = max(self._total, self._done)
                if seq % _ENTRIES == 0:
                    self._progress(self._done, self._total)
            different = self._different(federation, reckoned.standings)
            decided = self._decided_otherwise(federation, reckoned.overrides)
            if not different and not decided:
                return 0
            changed = len(different.keys() | decided.keys())
            entry = RecalculationEntry(author=self._author, changed=changed, at=time.time())
            step = Step(different, decided, reckoned.last_round)
            try:
                self._store.append_stored(
                    federation, Head(reckoned.seq, reckoned.last_round), entry, step, self._author
                )
            except ConflictError:
                continue
            return changed
        raise BusyError(f"new entries of federation `{federation}` keep coming; try again")

    def _different(self, federation: str, reckoned: Mapping[str, Standing]) -> dict[str, Standing]:
        """Return those that are not on record as they should be."""
        table = schema.trust_standing
        query = select(table).where(table.c.tenant == self._store.tenant, table.c.federation == federation)
        different, settings = dict(reckoned), self._store.settings(federation)
        with self._store.database.read() as connection:
            rows = connection.execution_options(yield_per=_ROWS).execute(query)
            for part in rows.partitions():
                for row in part:
                    standing = reckoned.get(row.client)
                    wanted = standing or NEW  # of some, nothing was ever entered
                    if wanted == standing_of(row) and row.trust == trust_score(wanted, settings):
                        different.pop(row.client, None)
                    else:
                        different[row.client] = wanted
        return different

    def _decided_otherwise(self, federation: str, reckoned: Overrides) -> Overrides:
        """Return what was decided about clients of whom something else is on record."""
        with self._store.database.read() as connection:
            known = find_overrides(connection, self._store.tenant, federation)
        names = known.keys() | {name for name, each in reckoned.items() if each}
        wanted = {name: reckoned.get(name, ()) for name in names}
        return {name: each for name, each in wanted.items() if _sorted(each) != _sorted(known.get(name, ()))}


def _sorted(overrides: Sequence[Override]) -> list[Override]:
    return sorted(overrides, key=lambda each: each.kind)


class _Reckoned:
    """What follows from the entries of a federation, as far as they were read."""

    def __init__(self, store: TrustStore, federation: str) -> None:
        self._store = store
        self._federation = federation
        self._settings = store.settings(federation)
        self.overrides: dict[str, tuple[Override, ...]] = {}
        self.standings: dict[str, Standing] = {}
        self.seq = 0
        self.last_round = 0

    def catch_up(self) -> Iterator[int]:
        """Take what is there; yield after each entry."""
        while bodies := self._next():
            for seq, body in bodies:
                step = advance(entry_of(body), State(self.standings, self.overrides, self.last_round), self._settings)
                self.standings.update(step.standings)
                self.overrides.update(step.overrides)
                self.seq, self.last_round = seq, step.last_round
                yield seq

    def _next(self) -> list[tuple[int, bytes]]:
        table = schema.trust_entry
        query = select(table.c.seq, table.c.body).where(
            table.c.tenant == self._store.tenant,
            table.c.federation == self._federation,
            table.c.seq > self.seq,
        )
        with self._store.database.read() as connection:
            return _pairs(connection, query.order_by(table.c.seq).limit(_ENTRIES))


def _pairs(connection: Connection, query: Any) -> list[tuple[int, bytes]]:
    return [(row.seq, bytes(row.body)) for row in connection.execute(query)]
