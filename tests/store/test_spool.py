"""The spool keeps what it took, through crashes and full disks."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.store.outages import FileLimit, away

from policy_engine.model.errors import StateError
from policy_engine.store.spool import Spool, SpoolFullError, orphans

LARGE = 2**20


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    made = Spool(tmp_path / "spool", LARGE)
    yield made
    made.close()


def files(directory: Path) -> list[str]:
    return sorted(path.suffix for path in directory.glob("*"))


def test_nothing_is_on_disk_before_there_is_anything_to_keep(spool: Spool) -> None:
    spool.add([])
    assert list(spool.records()) == []
    assert not spool.directory.exists()


def test_what_was_added_comes_back_in_order(spool: Spool) -> None:
    records = [b"", b"one", b"\0" * 100, b"x" * 70_000]
    for start in range(0, 4, 2):
        spool.add(records[start : start + 2])
    assert list(spool.records()) == records
    spool.clear()
    assert list(spool.records()) == []
    assert files(spool.directory) == []
    spool.add([b"again"])
    assert list(spool.records()) == [b"again"]


def test_what_does_not_fit_is_refused_whole(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 100)
    spool.add([b"x" * 40])
    with pytest.raises(SpoolFullError):
        spool.add([b"a", b"y" * 60])
    spool.add([b"z" * 20])
    assert list(spool.records()) == [b"x" * 40, b"z" * 20]
    spool.close()


def test_what_a_full_disk_cut_short_was_not_added(spool: Spool) -> None:
    spool.add([b"one"])
    with away(FileLimit(100)):
        for _ in range(3):
            with pytest.raises(StateError):
                spool.add([b"two", b"three", b"x" * 200])
        assert list(spool.records()) == [b"one"]
        spool.add([b"four"])
        with pytest.raises(StateError):
            spool.replace([b"y" * 200])
    assert list(spool.records()) == [b"one", b"four"]
    spool.close()
    (orphan,) = orphans(spool.directory)
    assert list(orphan.records()) == [b"one", b"four"]
    orphan.close()


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StateError, match="cannot write the spool"):
        Spool(tmp_path / "file" / "spool", LARGE).add([b"one"])


def test_damage_is_told(spool: Spool, caplog: pytest.LogCaptureFixture) -> None:
    spool.add([b"one", b"two", b"three"])
    (path,) = spool.directory.glob("*.spool")
    path.write_bytes(path.read_bytes().replace(b"two", b"tw0"))
    assert list(spool.records()) == [b"one"]
    assert "is damaged: 24 bytes" in caplog.text


def test_records_are_replaced_all_at_once(spool: Spool) -> None:
    spool.add([b"one", b"two"])
    spool.replace(record.upper() for record in spool.records())
    assert list(spool.records()) == [b"ONE", b"TWO"]
    spool.add([b"three"])
    assert list(spool.records()) == [b"ONE", b"TWO", b"three"]

    def fails() -> Iterator[bytes]:
        yield b"four"
        raise LookupError

    with pytest.raises(LookupError):
        spool.replace(fails())
    assert list(spool.records()) == [b"ONE", b"TWO", b"three"]
    assert files(spool.directory) == [".spool"]
    assert orphans(spool.directory) == []


def test_a_spool_belongs_to_one_process(spool: Spool) -> None:
    spool.add([b"one"])
    assert orphans(spool.directory) == []
    spool.close()
    (orphan,) = orphans(spool.directory)
    assert orphans(spool.directory) == []
    assert list(orphan.records()) == [b"one"]
    orphan.close()
    (orphan,) = orphans(spool.directory)
    orphan.replace([b"two"])
    assert orphans(spool.directory) == []
    assert list(orphan.records()) == [b"two"]
    orphan.drop()
    assert files(spool.directory) == []
    assert orphans(spool.directory) == []


def test_there_are_no_spools_where_there_is_no_directory(tmp_path: Path) -> None:
    assert orphans(tmp_path / "nowhere") == []


CHILD = """
import sys
from pathlib import Path
from policy_engine.store.spool import Spool
spool = Spool(Path(sys.argv[1]), 2**20)
for number in range(20):
    spool.add([b"%d" % number, b"x" * number])
print("done", flush=True)
sys.stdin.readline()
"""


def test_what_a_killed_process_added_is_there(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CHILD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"done\n"
        assert orphans(tmp_path) == []
        child.kill()
    (orphan,) = orphans(tmp_path)
    assert list(orphan.records()) == [record for number in range(20) for record in (b"%d" % number, b"x" * number)]
    orphan.drop()


@given(
    records=st.lists(st.binary(max_size=50), max_size=8),
    cut=st.integers(0, 500),
    noise=st.binary(max_size=30),
)
@settings(deadline=None, max_examples=100)
def test_a_file_that_is_cut_short_gives_its_beginning(
    tmp_path_factory: pytest.TempPathFactory, records: list[bytes], cut: int, noise: bytes
) -> None:
    directory = tmp_path_factory.mktemp("spool")
    spool = Spool(directory, LARGE)
    spool.add([b"first", *records])
    spool.close()
    (path,) = directory.glob("*.spool")
    content = path.read_bytes()
    path.write_bytes(content[: min(cut, len(content))] + noise)
    (orphan,) = orphans(directory)
    read = list(orphan.records())
    whole = [b"first", *records]
    known = read[: len(whole)]
    assert known == whole[: len(known)] or noise
    orphan.drop()


def test_random_use_is_what_a_list_would_do(tmp_path: Path) -> None:
    choose = Random(1)
    spool = Spool(tmp_path, 2000)
    model: list[bytes] = []
    for _ in range(300):
        what = choose.randrange(10)
        if what == 0:
            spool.clear()
            model = []
        elif what == 1 and model:
            model = [json.dumps(record.decode()).encode() for record in model[::2]]
            spool.replace(model)
        else:
            records = [choose.randbytes(choose.randrange(30)).hex().encode() for _ in range(choose.randrange(4))]
            if spool.size + sum(len(record) + 8 for record in records) > 2000:
                with pytest.raises(SpoolFullError):
                    spool.add(records)
            else:
                spool.add(records)
                model += records
        assert list(spool.records()) == model
    spool.close()
