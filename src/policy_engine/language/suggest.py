"""Guess what somebody meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from functools import lru_cache


@lru_cache(maxsize=4096)
def _closest(word: str, known: tuple[str, ...], cutoff: float) -> str | None:
    found = get_close_matches(word, known, n=1, cutoff=cutoff)
    return found[0] if found else None


def closest(word: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Return the known word that is most like `word`, or None when none is close."""
    return _closest(word[:128], tuple(known), cutoff)


def did_you_mean(word: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """Return "did you mean `x`?", or an empty string."""
    found = closest(word, known, cutoff=cutoff)
    return f"did you mean `{found}`?" if found else ""
