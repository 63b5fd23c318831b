"""Epsilon, as Google's dp-accounting computes it. The library is loaded when the first epsilon is asked for."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from types import ModuleType
from typing import Any

from policy_engine.model.errors import InvalidRequestError, MissingExtraError
from policy_engine.privacy.spend import Mechanism, Spend
from policy_engine.privacy.vector import ORDERS, ZERO, Vector, add, times

MAX_PLD_EPSILON = 30.0
MAX_PLD_STEPS = 100_000
MAX_PLD_MECHANISMS = 20
MIN_PLD_NOISE = 0.3
"""Beyond these a privacy loss distribution takes minutes, or all memory there is."""

_EXCLUDED = "_compute_log_a_frac failed to converge"


@cache
def _library() -> ModuleType:
    """Return dp-accounting.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import dp_accounting  # noqa: PLC0415 - it brings SciPy: a second or two, and 130 MB
        import dp_accounting.pld  # noqa: PLC0415 - the same
        import dp_accounting.rdp  # noqa: PLC0415 - the same
    except ImportError as error:
        raise MissingExtraError("privacy", "to reckon epsilon") from error
    logging.getLogger("absl").addFilter(_is_news)
    library: ModuleType = dp_accounting
    return library


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a warning is worth a line: an order that is left out makes epsilon larger, if anything."""
    return not str(record.msg).startswith(_EXCLUDED)


@lru_cache(maxsize=1024)
def step_vector(mechanism: Mechanism) -> Vector:
    """Return what one step spends.

    An order whose divergence cannot be computed counts as infinite, one that rounding made negative as zero.

    Raises:
        MissingExtraError: dp-accounting is not installed.
    """
    accountant = _library().rdp.RdpAccountant(ORDERS)
    accountant.compose(_event(mechanism))
    return tuple(max(0.0, each) if each == each else float("inf") for each in accountant.rdp.tolist())  # noqa: PLR0124 - not a number


def spend_vector(spend: Spend) -> Vector:
    """Return what a spend spends.

    Raises:
        MissingExtraError: dp-accounting is not installed.
    """
    return times(spend.steps, step_vector(spend.mechanism))


def epsilon(vector: Vector, delta: float) -> float:
    """Return the epsilon of what was spent, at a delta; the least that follows from any order.

    Raises:
        MissingExtraError: dp-accounting is not installed.
    """
    if vector == ZERO:
        return 0.0
    return float(_library().rdp.compute_epsilon(ORDERS, vector, delta)[0])


def pld_epsilon(spends: Mapping[Mechanism, int], delta: float) -> float:
    """Return the epsilon by privacy loss distributions: tighter, and much dearer.

    Args:
        spends: How many steps of each mechanism.
        delta: At which delta.

    Raises:
        InvalidRequestError: It would take too long, or too much memory.
        MissingExtraError: dp-accounting is not installed.
    """
    if not spends:
        return 0.0
    _check_size(spends, delta)
    return _pld_epsilon(tuple(sorted(spends.items())), delta)


@lru_cache(maxsize=256)
def _pld_epsilon(spends: tuple[tuple[Mechanism, int], ...], delta: float) -> float:
    accountant = _library().pld.PLDAccountant()
    for mechanism, steps in spends:
        accountant.compose(_event(mechanism), steps)
    return float(accountant.get_epsilon(delta))


def _check_size(spends: Mapping[Mechanism, int], delta: float) -> None:
    reason = ""
    if len(spends) > MAX_PLD_MECHANISMS:
        reason = f"there are {len(spends)} different mechanisms, more than {MAX_PLD_MECHANISMS}"
    elif sum(spends.values()) > MAX_PLD_STEPS:
        reason = f"there are {sum(spends.values())} steps, more than {MAX_PLD_STEPS}"
    elif min(spends).noise_multiplier < MIN_PLD_NOISE:
        reason = f"noise multiplier {min(spends).noise_multiplier:g} is below {MIN_PLD_NOISE:g}"
    elif (spent := epsilon(total(spends.items()), delta)) > MAX_PLD_EPSILON:
        reason = f"epsilon is {spent:.4g} by `rdp`, more than {MAX_PLD_EPSILON:g}"
    if reason:
        raise InvalidRequestError("/method", f"`pld` takes too long here: {reason}; ask for `rdp`")


def total(spends: Iterable[tuple[Mechanism, int]]) -> Vector:
    """Return what steps of several mechanisms spend together.

    Raises:
        MissingExtraError: dp-accounting is not installed.
    """
    vector = ZERO
    for mechanism, steps in spends:
        vector = add(vector, times(steps, step_vector(mechanism)))
    return vector


def _event(mechanism: Mechanism) -> Any:
    library = _library()
    gaussian = library.GaussianDpEvent(mechanism.noise_multiplier)
    return library.PoissonSampledDpEvent(mechanism.sampling_rate, gaussian)
