"""Ask the exact code alone, which otherwise runs only where the fast code bails out."""

from __future__ import annotations

from collections.abc import Callable
from inspect import getclosurevars
from typing import Any

from policy_engine.language.condition import Condition


def exact(condition: Condition) -> Callable[[dict[str, Any], Any], bool]:
    """Return the function that the fast code of a condition falls back on."""
    recover: Callable[[dict[str, Any], Any], bool] = getclosurevars(condition.evaluate).nonlocals["recover"]
    return recover
