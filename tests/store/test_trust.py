"""The ledger of trust in the store: the same as in memory, on both databases, for one process or several."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from random import Random
from typing import Any

import pytest
from sqlalchemy import insert, select, update
from tests.store.stores import Content, Stores, patiently, until
from tests.trust.rounds import ATTACK, HONEST, observed, random_round
from tests.trust.rounds import update as client

from policy_engine import PolicyEngine
from policy_engine.authority import TrustAuthority
from policy_engine.model.errors import ConflictError, RoundConflictError
from policy_engine.model.record import Checked
from policy_engine.reputation import Reputation
from policy_engine.store import schema
from policy_engine.store.opened import Store
from policy_engine.store.options import DEFAULT_TENANT
from policy_engine.store.subjects import erase
from policy_engine.store.trust import TrustStore
from policy_engine.store.trust_replay import Replay
from policy_engine.store.verify import verify
from policy_engine.trust.advice import RoundAdvice
from policy_engine.trust.entry import RoundEntry, State, advance
from policy_engine.trust.memory import Head
from policy_engine.trust.observation import RoundObservation
from policy_engine.trust.settings import TrustSettings, parameters
from policy_engine.trust.standing import Standing

NAMES = [f"c{number}" for number in range(12)]


class Desk:
    """What a process has of trust."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.ledger = TrustStore(store.database, DEFAULT_TENANT, store.writer, parameters({}))
        self.authority = TrustAuthority(self.ledger)
        self.reputation = Reputation(store, self.ledger, self.authority)

    def observe(self, observation: RoundObservation, author: str = "") -> RoundAdvice:
        return patiently(partial(self.authority.observe, observation, author=author))  # type: ignore[no-any-return]

    def override(self, client: str, **decided: Any) -> None:
        told: dict[str, Any] = {"author": "ann", "reason": "why", "federation": "f"}
        patiently(partial(self.authority.override, client, **told, **decided))

    def report(self, client: str, rule: int) -> bool:
        told: dict[str, Any] = {"federation": "f", "policy_id": "p", "rule_index": rule, "author": "switch"}
        return bool(patiently(partial(self.authority.report, client, **told)))

    def standings(self, federation: str = "f") -> dict[str, Standing]:
        return dict(self.ledger.state(federation, NAMES)[1].standings)


@pytest.fixture
def desk(stores: Stores) -> Callable[..., Desk]:
    return lambda **options: Desk(patiently(lambda: stores(**options)))


def in_memory(*observations: Any) -> TrustAuthority:
    authority = TrustAuthority()
    for observation in observations:
        authority.observe(observation)
    return authority


def test_it_answers_as_the_one_in_memory_does(desk: Callable[..., Desk]) -> None:
    mine, memory = desk(), TrustAuthority()
    for number in range(1, 15):
        observation = random_round(1, number)
        assert mine.observe(observation) == memory.observe(observation)
    assert mine.standings() == memory.ledger.state("f", NAMES)[1].standings
    assert mine.ledger.state("f", [])[0] == Head(14, 14)


def test_two_replicas_score_as_one(desk: Callable[..., Desk]) -> None:
    replicas = desk(name="one"), desk(name="two")
    observations = [random_round(2, number) for number in range(1, 21)]
    for number, observation in enumerate(observations):
        replicas[number % 2].observe(observation)
    memory = in_memory(*observations)
    for replica in replicas:
        replica.reputation.refresh()
        assert replica.standings() == memory.ledger.state("f", NAMES)[1].standings
        for name in NAMES:
            assert replica.authority.known(name) == memory.known(name)


def test_replicas_that_send_the_same_rounds_at_once_count_them_once(desk: Callable[..., Desk]) -> None:
    replicas = [desk(name="one"), desk(name="two")]
    with ThreadPoolExecutor(8) as pool:
        for number in range(1, 6):
            observation = random_round(4, number)
            jobs = [pool.submit(replicas[turn % 2].observe, observation) for turn in range(8)]
            answers = [job.result() for job in jobs]
            assert all(answer == answers[0] for answer in answers)
    memory = in_memory(*(random_round(4, number) for number in range(1, 6)))
    assert replicas[0].standings() == memory.ledger.state("f", NAMES)[1].standings
    assert replicas[0].ledger.state("f", [])[0] == Head(5, 5)


def test_what_was_reckoned_from_an_old_head_is_refused(desk: Callable[..., Desk]) -> None:
    mine = desk()
    entry = RoundEntry(observation=random_round(1, 1), at=1.0)
    step = advance(entry, State({}, {}), TrustSettings())
    patiently(lambda: mine.ledger.append("f", Head(), entry, step, "", ""))
    with pytest.raises(ConflictError):
        mine.ledger.append("f", Head(), entry, step, "", "")
    assert mine.ledger.state("f", [])[0] == Head(1, 1)


def test_a_resend_gets_the_first_answer_after_a_restart(desk: Callable[..., Desk], stores: Stores) -> None:
    first = desk()
    answer = first.observe(random_round(1, 1))
    stores.end(first.store)
    again = desk()
    assert again.authority.observe(random_round(1, 1)) == answer
    with pytest.raises(RoundConflictError):
        again.authority.observe(random_round(9, 1))
    assert [again.authority.known(name) for name in NAMES] == [first.authority.known(name) for name in NAMES]


def test_decisions_of_people_reach_other_replicas(desk: Callable[..., Desk]) -> None:
    one, two = desk(name="one"), desk(name="two")
    one.observe(random_round(1, 1))
    one.override("c0", kind="quarantine")
    two.reputation.refresh()
    assert two.authority.known("c0", "f").band == "quarantined"
    patiently(lambda: two.authority.release("c0", kind="quarantine", author="bob", reason="", federation="f"))
    one.reputation.refresh()
    assert one.authority.known("c0", "f").band != "quarantined"


def test_a_violation_counts_once_a_rule_and_round(desk: Callable[..., Desk]) -> None:
    mine = desk()

    mine.observe(random_round(1, 1))
    before = mine.authority.known("c0").record.compliance
    assert [mine.report("c0", rule) for rule in (0, 0, 1)] == [True, False, True]
    assert mine.authority.known("c0").record.compliance == pytest.approx(before * 0.65**2)
    mine.observe(random_round(1, 2))
    assert mine.report("c0", 0)


# Recalculation


@pytest.fixture
def lived(desk: Callable[..., Desk]) -> Desk:
    """A ledger with a past of every kind."""
    mine = desk()
    for number in range(1, 25):
        mine.observe(random_round(7, number))
        if number % 5 == 0:
            mine.report(f"c{number % 12}", number)
            mine.override(f"c{number % 12}", kind="trust", trust=0.2)
        if number % 7 == 0:
            mine.override("c3", kind="quarantine")
    mine.observe(random_round(8, 3, federation="g"))
    return mine


def scores(row: Any) -> dict[str, Any]:
    """What a row says of a client; not which entry wrote it."""
    return {name: value for name, value in row._mapping.items() if name != "seq"}


def recalculate(desk: Desk) -> int:
    seen: list[tuple[int, int]] = []
    changed = patiently(lambda: Replay(desk.ledger, "ann", lambda *done: seen.append(done)).run())
    assert seen[0][0] == 0
    assert seen[-1][0] == seen[-1][1] > 0
    return int(changed)


def test_recalculation_reproduces_the_ledger_bit_for_bit(lived: Desk, stores: Stores) -> None:
    before = Content(stores.url).all("trust_standing")
    assert recalculate(lived) == 0
    assert Content(stores.url).all("trust_standing") == before


def test_recalculation_puts_right_what_differs(lived: Desk, stores: Stores) -> None:
    before = {row.client: row for row in Content(stores.url).all("trust_standing") if row.federation == "f"}
    broken = sorted(before)[:3]
    table = schema.trust_standing
    in_f = table.c.federation == "f"
    with lived.store.database.write() as connection:
        connection.execute(update(table).where(in_f, table.c.client.in_(broken)).values(compliance=0.123))
        connection.execute(table.delete().where(in_f, table.c.client == sorted(before)[4]))
    assert recalculate(lived) == 4
    after = {row.client: row for row in Content(stores.url).all("trust_standing") if row.federation == "f"}
    assert {client: scores(row) for client, row in after.items()} == {
        client: scores(row) for client, row in before.items()
    }
    lived.reputation.refresh()
    assert recalculate(lived) == 0


def test_recalculation_finds_what_was_not_decided_and_what_was(lived: Desk, stores: Stores) -> None:
    lived.override("c1", kind="quarantine")
    lived.override("c2", kind="trust", trust=0.4)
    before = Content(stores.url).all("trust_override")
    table, standing = schema.trust_override, schema.trust_standing
    forged = next(row for row in before if row.kind == "trust")
    with lived.store.database.write() as connection:
        connection.execute(table.delete().where(table.c.kind == "quarantine"))
        connection.execute(insert(table), {**forged._mapping, "client": "somebody"})
        row = connection.execute(standing.select().where(standing.c.federation == "f").limit(1)).one()
        connection.execute(insert(standing), {**row._mapping, "client": "forged", "trust": 1.0, "compliance": 0.99})
    lived.reputation.refresh()
    taken = sum(row.kind == "quarantine" for row in before)
    assert recalculate(lived) == taken + 2
    assert sorted(map(tuple, Content(stores.url).all("trust_override"))) == sorted(map(tuple, before))
    lived.reputation.refresh()
    assert lived.authority.known("c1", "f").band == "quarantined"
    assert lived.authority.select("f", 99, ["c1"]).left_out == {"c1": "the client is in quarantine"}
    assert recalculate(lived) == 0


def test_clients_are_judged_while_many_more_are_noted(
    desk: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = desk()
    mine.observe(random_round(1, 1))
    mine.observe(random_round(1, 1, federation="g"))
    judged: set[tuple[str, str]] = set()

    def judge(client: str, federation: str) -> None:
        if not judged:
            judged.add((client, federation))
            raise ValueError("a fault of ours")
        judged.add((client, federation))

    monkeypatch.setattr(mine.authority, "evaluate", judge)
    mine.reputation.start()
    decider = PolicyEngine.from_document(
        {"policies": [{"id": "p", "type": "security", "rules": [{"action": "evaluate_trust"}]}]}
    )

    def note(number: int) -> None:
        for _ in range(50):
            context = {"client_id": NAMES[number], **({"federation": "f"} if number % 2 else {})}
            mine.reputation.note([Checked(decider.check("security", context), context, {})])

    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(note, range(len(NAMES))))
        known = {(name, where) for name in NAMES for where in mine.authority.facts.federations(name)}
        wanted = {(name, where) for name, where in known if where == "f" or not NAMES.index(name) % 2}
        until(lambda: judged >= wanted, "all are judged")
        assert judged == wanted
    finally:
        mine.reputation.stop()


def test_a_job_tells_how_it_ended(lived: Desk) -> None:
    job = lived.reputation.recalculate("ann", "to be sure")
    assert job.state == "running"
    thread = lived.reputation._recalculation
    assert thread is not None
    thread.join()
    found = lived.reputation.jobs.get(job.job_id)
    assert found is not None
    assert (found.state, found.changed, found.done, found.author) == ("done", 0, found.total, "ann")
    assert lived.reputation.jobs.newest() == found


# Erasure


def test_an_erased_client_is_nobody_and_the_rest_is_as_it_was(lived: Desk, stores: Stores) -> None:
    before = lived.standings()
    patiently(lambda: lived.store.writer.transact(lambda found: erase(found.connection, DEFAULT_TENANT, "c1")))
    lived.reputation.refresh()
    assert not lived.authority.known("c1").known
    assert lived.standings() == {name: standing for name, standing in before.items() if name != "c1"}
    assert recalculate(lived) == 0
    for table in ("trust_entry", "trust_standing", "trust_override"):
        for row in Content(stores.url).all(table):
            assert "c1" not in row
    page = lived.reputation.reports.page(federation="f", at=0.0)
    assert [each.client_id for each in page].count(None) == 1
    resent = lived.authority.observe(random_round(7, 24))
    assert "c1" not in resent.by_client


def test_names_are_nowhere_in_the_tables_of_trust(desk: Callable[..., Desk], stores: Stores) -> None:
    mine = desk()
    mine.observe(observed(1, *HONEST, ATTACK))
    mine.override("h1", kind="quarantine")
    tables = ("trust_entry", "trust_standing", "trust_override")
    values = {value for table in tables for row in Content(stores.url).all(table) for value in row}
    assert "f" in values
    assert values.isdisjoint(update.client_id for update in HONEST)


# Proof


def test_each_round_is_one_event_in_the_audit_chain(desk: Callable[..., Desk], stores: Stores) -> None:
    mine = desk()
    for number in range(1, 4):
        mine.observe(observed(number, *HONEST, ATTACK), author="fl-server")
    events = [event for event in mine.store.events.page(limit=100).events if event.event_type == "TRUST_ROUND_CLOSED"]
    assert [event.details["round"] for event in events] == [1, 2, 3]
    assert (
        events[-1].details | {"author": "fl-server", "clients": 9, "accepted": 8, "excluded": 1} == events[-1].details
    )
    stores.end(mine.store)
    Content(stores.url).check_chains()


def verified(desk: Desk) -> list[str]:
    keys = [desk.store.keys.current().public]
    with desk.store.database.read() as connection:
        return [fault.text for fault in verify(connection, DEFAULT_TENANT, keys).faults]


def test_every_entry_is_bound_to_the_audit_trail(lived: Desk) -> None:
    assert verified(lived) == []
    random = Random(1)
    table = schema.trust_entry
    with lived.store.database.read() as connection:
        entries = connection.execute(select(table)).all()
    for entry in random.sample(list(entries), 12):
        here = (table.c.federation == entry.federation, table.c.seq == entry.seq)
        name = f"entry {entry.seq} of the trust in federation `{entry.federation}`"
        column = random.choice(["body", "answer"] if entry.answer else ["body"])
        stored = bytearray(getattr(entry, column))
        stored[random.randrange(len(stored))] ^= 1 << random.randrange(8)
        with lived.store.database.write() as connection:
            connection.execute(table.update().where(*here).values({column: bytes(stored)}))
        assert f"{name} was altered" in verified(lived)
        with lived.store.database.write() as connection:
            connection.execute(table.delete().where(*here))
        assert f"{name} is missing" in verified(lived)
        with lived.store.database.write() as connection:
            connection.execute(table.insert(), dict(entry._mapping))
    added = {**entries[0]._mapping, "seq": 999, "once": None}
    with lived.store.database.write() as connection:
        connection.execute(table.insert(), added)
    assert verified(lived) == [f"no event tells of entry 999 of the trust in federation `{entries[0].federation}`"]


def test_a_held_round_is_an_alert(desk: Callable[..., Desk]) -> None:
    mine = desk()
    bad = [client(f"x{number}", cos_ref=-0.5) for number in range(8)]
    for number in range(1, 5):
        mine.observe(observed(number, *HONEST[:4], *bad))
    held = [event for event in mine.store.events.page(limit=100).events if event.event_type == "TRUST_ROUND_HELD"]
    assert held
    assert held[-1].details["severity"] == "critical"
    assert held[-1].details["excluded"] > held[-1].details["clients"] / 2
