"""Decisions are encoded here or in a process of its own: to the same bytes, and whatever becomes of that process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import OperationalError
from tests.store.stores import Content, Stores, all_decisions, checked, flush, ids_of, until
from tests.store.test_writer import poison

from policy_engine.model.record import Checked
from policy_engine.store import encoding, offload
from policy_engine.store.batch import Batch
from policy_engine.store.decisions import DecisionQuery
from policy_engine.store.draft import Draft, draft, encode_decision
from policy_engine.store.encode import Decisions, Drafted, Row, decode_entries, decode_records, encode_record
from policy_engine.store.encoder import Encoder
from policy_engine.store.encoding import Encoding
from policy_engine.store.offload import Offload
from policy_engine.store.position import step
from policy_engine.store.redact import Redactor
from policy_engine.store.subjects import Subject, seal, subject_name

PERSONAL = ("client_id", "client_ip", "person.name")
REDACTOR = Redactor(("hidden.deep",), PERSONAL)
NAMES = count()

values = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
keys = st.sampled_from(["client_id", "client_ip", "person", "password", "hidden", "src_type", "component", "note"])
contexts = st.dictionaries(
    keys,
    st.recursive(
        values | st.text(alphabet="\ud800a", min_size=1),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["name", "deep", "x"]), inner),
        max_leaves=4,
    ),
)


class Subjects:
    """The keys of everybody; notes which were asked for."""

    def __init__(self) -> None:
        self.known: dict[str, Subject] = {}
        self.asked: list[set[str]] = []

    def __call__(self, names: set[str]) -> dict[str, Subject]:
        self.asked.append(set(names))
        for name in names:
            if name not in self.known:
                key = name.encode().ljust(64, b"-")[:64]
                self.known[name] = Subject(name, key, seal(key, name))
        return self.known


def drafts(checks: Sequence[Checked]) -> list[Draft]:
    return [draft(item, encode_decision(item.decision, None), "127.0.0.1", 1) for item in checks]


def drafted(*given: dict[str, Any]) -> Drafted:
    made = drafts([checked(**context) for context in given])
    return Drafted([step(1 << 50, number) for number in range(1, len(made) + 1)], made)


def is_gone(pid: int) -> bool:
    with suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] == "Z"
    return True


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the process have the time it needs beside other tests: it gives way to them."""
    monkeypatch.setattr(offload, "_PATIENCE_SECONDS", 30.0)


@pytest.fixture(scope="module")
def running() -> Iterator[Offload]:
    process = Offload(REDACTOR)
    process.start()
    until(process.is_ready, "the process is ready")
    yield process
    process.end()


@settings(max_examples=200, deadline=None)
@given(given_=st.lists(contexts, min_size=1, max_size=4))
def test_both_ways_lead_to_the_same_bytes(running: Offload, given_: list[dict[str, Any]]) -> None:
    waiting = drafted(*given_)
    subjects = Subjects()
    here = Encoder(REDACTOR).rows([waiting], subjects)
    assert running.rows([waiting], (0, 0), subjects) == here
    (row,) = here
    assert len(decode_entries(row.position, row.body)) == row.count == len(given_)


def test_a_key_is_asked_for_once_and_forgotten_when_keys_were_deleted(running: Offload) -> None:
    subjects = Subjects()
    one, other = (drafted({"client_id": f"new-{next(NAMES)}"}) for _ in range(2))
    for generation, waiting in ((7, one), (7, one), (7, other), (7, one), (8, one), (8, other)):
        assert running.rows([waiting], (generation, 0), subjects)
    (first,), (second,) = subjects.asked[0], subjects.asked[1]
    assert first != second
    assert subjects.asked == [{first}, {second}, {first}, {second}]


def test_keys_are_asked_for_once_however_many_rows_there_are() -> None:
    subjects = Subjects()
    many = drafted(*({"client_id": f"c{number}"} for number in range(300)))
    rows = Encoder(REDACTOR).rows([many], subjects)
    assert [row.count for row in rows] == [128, 128, 44]
    assert subjects.asked == [{f"c{number}" for number in range(300)}]


def test_a_row_does_not_become_long_by_sealing() -> None:
    many = drafted(*({"person": {"name": "\u00e9" * 3000}} for _ in range(128)))
    rows = Encoder(REDACTOR).rows([many], Subjects())
    assert max(len(zlib.decompress(row.body)) for row in rows) < 1.2 * (1 << 18)


def test_of_a_long_component_the_beginning_is_kept() -> None:
    (row,) = Encoder(REDACTOR).rows([drafted({"component": "x" * 10_000})], Subjects())
    ((_, entry),) = decode_entries(row.position, row.body)
    assert entry.component == "x" * 128


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), 5])
def test_what_was_spooled_is_logged_as_what_was_not(odd: float) -> None:
    waiting = drafted({"client_id": odd, "client_ip": odd, "password": "\ud800", "person": {"name": "\ud800"}})
    encoder = Encoder(REDACTOR)
    spooled = [encode_record(record) for record in encoder.to_spool(waiting, {})]
    again = [record for record in decode_records(spooled) if isinstance(record, Decisions)]
    assert encoder.rows(again, Subjects()) == encoder.rows([waiting], Subjects())


def test_what_cannot_be_encoded_ends_nothing(running: Offload) -> None:
    assert running.rows([Drafted([1 << 50], [poison("x")])], (0, 0), Subjects()) is None
    assert running.rows([drafted({})], (0, 0), Subjects())


def test_an_error_while_keys_are_looked_up_ends_nothing(running: Offload) -> None:
    def fails(_: set[str]) -> Any:
        raise LookupError

    waiting = drafted({"client_id": f"new-{next(NAMES)}"})
    with pytest.raises(LookupError):
        running.rows([waiting], (0, 0), fails)
    assert running.rows([waiting], (0, 0), Subjects())


def test_a_message_may_be_larger_than_the_memory_at_first(running: Offload) -> None:
    large = drafted(*({"client_id": f"c{number % 7}", "note": os.urandom(1000).hex()} for number in range(1000)))
    subjects = Subjects()
    assert running.rows([large], (0, 0), subjects) == Encoder(REDACTOR).rows([large], subjects)
    assert running.rows([drafted({})], (0, 0), subjects)


def test_no_secret_and_no_name_leaves_the_process(running: Offload) -> None:
    context = {"client_id": "alice-name", "password": "pass-secret", "hidden": {"deep": "deep-secret"}}
    rows = running.rows([drafted(context, {"person": {"name": "ann-name"}})], (0, 0), Subjects())
    assert rows is not None
    (row,) = rows
    said = str(decode_entries(row.position, row.body))
    for secret in ("alice-name", "pass-secret", "deep-secret", "ann-name"):
        assert secret not in said


# The process comes and goes


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Desk:
    """An encoding whose time is made."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.subjects = Subjects()
        self.encoding = Encoding(REDACTOR, much=2, clock=self.clock)

    @property
    def offload(self) -> Offload:
        return self.encoding._offload

    def rows(self, *contexts_: dict[str, Any]) -> list[Row]:
        waiting = drafted(*contexts_)
        rows = self.encoding.rows([waiting], 0, self.subjects)
        assert rows == Encoder(REDACTOR).rows([waiting], self.subjects)
        return rows

    def busy(self) -> None:
        """Bring much until the process has taken over."""
        for _ in range(encoding._BUSY_TURNS + 1):
            self.rows({}, {})
        assert self.offload.is_running
        until(self.offload.is_ready, "the process is ready")
        self.rows({}, {})


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.encoding.close()


def test_a_process_is_started_when_there_is_much_for_a_while_and_ended_when_there_is_not(desk: Desk) -> None:
    for _ in range(20):
        desk.rows({})
    for _ in range(20):  # never often enough in a row
        for _ in range(encoding._BUSY_TURNS):
            desk.rows({}, {})
        desk.rows({})
    assert not desk.offload.is_running
    desk.busy()
    pid = desk.offload.pid
    assert pid is not None
    desk.clock.now += encoding._IDLE_SECONDS - 1
    desk.encoding.rest()
    assert not is_gone(pid)
    desk.clock.now += 2
    desk.encoding.rest()
    until(lambda: is_gone(pid), "the process is gone")
    desk.busy()


def test_a_process_that_was_killed_is_replaced_after_a_while(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.busy()
    pid = desk.offload.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    desk.rows({"client_id": "a"}, {"client_id": "b"})
    assert not desk.offload.is_running
    assert "is gone" in caplog.text
    for _ in range(20):
        desk.rows({}, {})
    assert not desk.offload.is_running
    desk.clock.now += encoding._AGAIN_SECONDS
    desk.busy()


def test_a_process_that_hangs_is_ended(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    desk.busy()
    pid = desk.offload.pid
    assert pid is not None
    monkeypatch.setattr(offload, "_PATIENCE_SECONDS", 0.2)
    os.kill(pid, signal.SIGSTOP)
    desk.rows({}, {})
    assert "does not answer" in caplog.text
    until(lambda: is_gone(pid), "the process is gone")


@pytest.mark.parametrize("program", ["/nowhere/python", "/bin/false"])
def test_where_no_process_can_be_had_nothing_is_lost(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, program: str
) -> None:
    monkeypatch.setattr(sys, "executable", program)

    def tried() -> bool:
        desk.rows({}, {})
        return "of no use" in caplog.text

    until(tried, "it was tried")
    for _ in range(20):
        desk.rows({}, {})
    assert caplog.text.count("of no use") == 1


def test_the_process_takes_no_module_from_where_it_runs(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("msgspec", "mmap", "policy_engine"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(3)", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    desk.busy()
    assert desk.offload.is_ready()


def test_what_is_too_much_to_send_is_encoded_here(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.busy()
    monkeypatch.setattr(desk.offload, "_send_buffer", lambda: pytest.fail("it was sent"))
    large = {"note": "x" * (offload._MAX_BYTES // 2)}
    desk.rows(large, large)


def test_a_process_that_is_of_no_use_again_and_again_is_tried_less_and_less(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    waits = []
    for _ in range(9):
        for _ in range(encoding._BUSY_TURNS + 1):
            desk.rows({}, {})
        waits.append(desk.encoding._not_before - desk.clock.now)
        desk.clock.now = desk.encoding._not_before
    assert waits[:3] == [encoding._AGAIN_SECONDS * factor for factor in (1, 2, 4)]
    assert waits[-1] == encoding._MAX_AGAIN_SECONDS


_OWNER = """
import sys, time
from policy_engine.store.offload import Offload
from policy_engine.store.redact import Redactor
process = Offload(Redactor())
process.start()
while not process.is_ready():
    time.sleep(0.01)
print(process.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_process_ends_with_its_owner(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", _OWNER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        assert not is_gone(pid)
        owner.send_signal(number)
        owner.wait(20)
    until(lambda: is_gone(pid), "the process is gone")


# In a store


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return what opens a store that has a process encode as soon as it can."""
    monkeypatch.setattr(encoding, "_BUSY_TURNS", 0)

    def opened(stores: Stores, **options: Any) -> Any:
        store = stores(much=1, **options)
        process = store.writer._encoding._offload

        def is_ready() -> bool:
            store.writer.record_decisions([checked(client_id="first")], sync=True)
            return process._is_ready

        until(is_ready, "the process is ready")
        return store

    return opened


def test_what_a_process_encoded_is_stored_found_and_erased_like_anything(
    stores: Stores, eager: Callable[..., Any]
) -> None:
    store = eager(stores, masked=("note.inner",))
    known = len(all_decisions(store))
    made = [
        checked(client_id=f"c{number % 50}", api_token="private", note={"inner": "hidden", "outer": number})  # noqa: S106 - it is none
        for number in range(300)
    ]
    for item in made:
        store.writer.record_decisions([item], "10.0.0.1")
        store.events.record("POLICY_UPDATED", {})
    flush(store)
    assert store.writer._encoding._offload.is_running
    shown = all_decisions(store)[: len(made)][::-1]
    assert [item.entry.decision.decision_id for item in shown] == ids_of(made)
    assert [item.entry.context["client_id"] for item in shown] == [item.context["client_id"] for item in made]
    assert {json.dumps(item.entry.context["api_token"]) for item in shown} == {'"***"'}
    assert {item.entry.source for item in shown} == {"10.0.0.1"}
    assert len(Content(stores.url).decision_ids()) == known + len(made)
    text = str(Content(stores.url).entries())
    for gone in ("private", "hidden", '"c1"', "'c1'"):
        assert gone not in text
    stores.stop()
    Content(stores.url).check_chains()


def test_keys_of_a_transaction_that_was_undone_are_not_used_again(
    stores: Stores, eager: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = eager(stores)
    process = store.writer._encoding._offload
    before, write, failing = process.pid, Batch.write, [3]

    def fails(batch: Batch) -> None:
        if failing[0] and batch._rows["decision"]:
            failing[0] -= 1
            raise OperationalError("x", None, Exception("disk I/O error"))
        write(batch)

    monkeypatch.setattr(Batch, "write", fails)
    store.writer.record_decisions([checked(client_id="alice")])
    until(lambda: failing[0] < 3, "it failed")
    failing[0] = 0
    flush(store)
    for _ in range(3):
        store.writer.record_decisions([checked(client_id="alice")], sync=True)
    assert process.pid == before
    assert len(all_decisions(store, DecisionQuery(client="alice"))) == 4
    assert {item.entry.context["client_id"] for item in all_decisions(store)[:4]} == {"alice"}


def test_a_process_that_is_killed_again_and_again_loses_nothing(
    stores: Stores, eager: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "_AGAIN_SECONDS", 0.0)
    store = eager(stores)
    known = len(all_decisions(store))
    made: list[str] = []
    killed: set[int] = set()
    for number in range(400):
        item = checked(client_id=subject_name(number))
        store.writer.record_decisions([item], sync=not number % 10)
        made.append(item.decision.decision_id)
        pid = store.writer._encoding._offload.pid
        if not number % 40 and pid is not None:
            killed.add(pid)
            os.kill(pid, signal.SIGKILL)
    flush(store)
    assert len(killed) > 2
    assert Content(stores.url).decision_ids()[known:] == made
    stores.stop()
    Content(stores.url).check_chains()


def test_a_process_that_comes_and_goes_leaves_nothing_behind(desk: Desk) -> None:
    def held() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    desk.busy()
    desk.encoding.close()
    before = held()
    for _ in range(5):
        desk.busy()
        desk.encoding.close()
    assert held() == before
