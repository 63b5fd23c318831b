"""Links lead somewhere, and no file tells of the machine it was written on."""

from __future__ import annotations

import re

import pytest
from tests.docs.generate import PAGES, ROOT
from tests.docs.pages import anchors, files, page, prose

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FORBIDDEN = re.compile(
    r"(?<![\w.])/(?:work|root|home)/|py[p]i\.org|pythonhoste[d]\.org|registry\.npmj[s]|--(?:extra-)?index-ur[l]"
)
"""Paths of one machine, and registries; written so that it does not find itself."""

_BESIDE = "../" + "shared"


@pytest.mark.parametrize("name", PAGES)
def test_links_resolve(name: str) -> None:
    for target in _LINK.findall(prose(name)):
        if re.match(r"[a-z]+:", target):
            assert target.startswith("https://"), f"{name}: {target}"
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / name).parent / path if path else ROOT / name
        assert file.exists(), f"{name}: {target}"
        if anchor:
            assert anchor in anchors(str(file.resolve().relative_to(ROOT))), f"{name}: {target}"


def test_every_page_is_listed_in_the_readme() -> None:
    linked = set(_LINK.findall(page("README.md")))
    assert {name for name in PAGES if name != "README.md"} <= linked


def test_no_file_tells_of_the_machine() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in files()
        if path.suffix != ".lock"
        for match in _FORBIDDEN.finditer(path.read_bytes().decode("utf-8", "replace"))
    ]
    assert not found


def test_no_merge_was_left_half_done() -> None:
    marks = tuple(f"{sign * 7} " for sign in "<>")
    found = [
        path
        for path in files()
        if any(line.startswith(marks) for line in path.read_text("utf-8", "replace").splitlines())
    ]
    assert not found


def test_what_stands_beside_the_checkout_is_optional() -> None:
    for path in files():
        text = path.read_bytes().decode("utf-8", "replace")
        if _BESIDE in text:
            way_out = "skip" if path.is_relative_to(ROOT / "tests") else ".exists()"
            assert way_out in text, f"{path} needs what may not be there"
