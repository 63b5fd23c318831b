"""The version number rises and never falls."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from policy_engine.model.errors import StateError
from policy_engine.store.version import FILE_NAME, Stamp, VersionFile


@pytest.mark.parametrize(
    ("last", "digest", "floor", "number"),
    [
        ((0, ""), "a", 0, 1),
        ((0, ""), "a", 2, 3),
        ((5, "a"), "a", 2, 5),
        ((5, "a"), "b", 2, 6),
        ((5, "a"), "a", 5, 6),
        ((5, "a"), "a", 9, 10),
        ((5, "a"), "b", 9, 10),
    ],
)
def test_number(tmp_path: Path, last: tuple[int, str], digest: str, floor: int, number: int) -> None:
    VersionFile(tmp_path).save(*last)
    assert VersionFile(tmp_path).number_for(digest, floor) == number


def test_it_is_remembered(tmp_path: Path) -> None:
    directory = tmp_path / "made" / "when needed"
    versions = VersionFile(directory)
    assert versions.last == Stamp(version=0, digest="")
    versions.save(4, "a")
    assert versions.last == VersionFile(directory).last == Stamp(version=4, digest="a")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"version": "x"}', b'{"version": 1.5}', b'{"digest": "\xff"}'])
def test_a_file_that_holds_something_else(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(StateError, match=FILE_NAME):
        VersionFile(tmp_path)


@pytest.mark.parametrize("inside", [False, True])
def test_a_directory_that_is_a_file(tmp_path: Path, inside: bool) -> None:  # noqa: FBT001
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="data directory"):
        VersionFile(tmp_path / "file" / "data" if inside else tmp_path / "file")


def test_a_number_that_is_not_on_the_disk_is_not_used(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    versions = VersionFile(directory)
    versions.save(4, "a")
    shutil.rmtree(directory)
    directory.touch()
    versions.save(4, "a")
    with pytest.raises(StateError, match="cannot write"):
        versions.save(5, "b")
    assert versions.last == Stamp(version=4, digest="a")
    directory.unlink()
    directory.mkdir()
    versions.save(5, "b")
    assert VersionFile(directory).last == Stamp(version=5, digest="b")
