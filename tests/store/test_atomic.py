"""Files are replaced whole or stay as they are."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from policy_engine.store.atomic import write_atomically


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_new_and_old(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"one", b"", b"three"):
        write_atomically(path, content)
        assert path.read_bytes() == content
    assert names(tmp_path) == ["file"]


def test_a_new_file_can_be_read_by_all(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", b"")
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755])
def test_the_mode_stays(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(mode)
    write_atomically(path, b"new")
    assert path.stat().st_mode & 0o777 == mode


@pytest.mark.parametrize("links", [1, 3])
def test_a_link_stays_a_link(tmp_path: Path, links: int) -> None:
    (tmp_path / "real").mkdir()
    target = tmp_path / "real" / "file"
    target.write_bytes(b"old")
    previous = Path("real/file")
    for number in range(links):
        link = tmp_path / f"link-{number}"
        link.symlink_to(previous)
        previous = Path(link.name)
    write_atomically(tmp_path / f"link-{links - 1}", b"new")
    assert target.read_bytes() == b"new"
    assert not target.is_symlink()
    assert all((tmp_path / f"link-{number}").is_symlink() for number in range(links))
    assert names(tmp_path / "real") == ["file"]


@pytest.mark.parametrize("step", ["fsync", "replace", "rename", "chmod"])
def test_a_failure_leaves_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "no space left on device")

    for name in ("replace", "rename") if step == "rename" else (step,):
        monkeypatch.setattr(os, name, fail)
    with pytest.raises(OSError, match="no space"):
        write_atomically(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_what_cannot_be_replaced(tmp_path: Path) -> None:
    directory = tmp_path / "directory"
    directory.mkdir()
    (directory / "kept").touch()
    for path in (directory, tmp_path / "nowhere" / "file", directory / "kept" / "file"):
        with pytest.raises(OSError, match=r"directory|exists|empty"):
            write_atomically(path, b"new")
    assert names(tmp_path) == ["directory"]
    assert names(directory) == ["kept"]


def test_readers_see_whole_contents(tmp_path: Path) -> None:
    path = tmp_path / "file"
    contents = [bytes([letter]) * 100_000 for letter in b"abc"]
    write_atomically(path, contents[0])

    def write() -> None:
        for number in range(60):
            write_atomically(path, contents[number % 3])

    with ThreadPoolExecutor() as pool:
        writers = [pool.submit(write) for _ in range(2)]
        reads = 0
        while not all(writer.done() for writer in writers) or reads == 0:
            assert path.read_bytes() in contents
            reads += 1
        for writer in writers:
            writer.result()
    assert names(tmp_path) == ["file"]
