"""The statistics of updates, held to a plain computation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from policy_engine.trust.observation import ClientUpdate
from policy_engine.trust.statistics import MOMENTUM, RoundStatistics, clipped

Vectors = arrays(np.float64, 6, elements=st.floats(-1e3, 1e3, allow_subnormal=False))


def cosine(one: Any, other: Any) -> float:
    length = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(np.dot(one, other)) / length if length > 1e-200 else 0.0


def unit(vector: Any) -> Any:
    return vector / np.linalg.norm(vector)


def by_name(found: list[ClientUpdate]) -> dict[str, ClientUpdate]:
    return {each.client_id: each for each in found}


@pytest.fixture
def updates() -> dict[str, Any]:
    random = np.random.default_rng(5)
    return {name: random.normal(size=12) + 1.0 for name in "abcde"}


def test_the_first_reference_is_the_median(updates: dict[str, Any]) -> None:
    found = by_name(RoundStatistics().observe(updates))
    median = np.median(np.stack(list(updates.values())), axis=0)
    for name, update in updates.items():
        assert found[name].norm == pytest.approx(float(np.linalg.norm(update)))
        assert found[name].cos_ref == pytest.approx(cosine(update, median))
        assert found[name].cos_prev is None
        others = [cosine(update, other) for key, other in updates.items() if key != name]
        assert found[name].max_pair_cos == pytest.approx(max(others))


def test_excluded_clients_do_not_make_the_reference(updates: dict[str, Any]) -> None:
    updates["d"], updates["e"] = -100 * updates["a"], -100 * updates["b"]
    found = by_name(RoundStatistics().observe(updates, excluded={"d", "e"}))
    median = np.median(np.stack([updates[name] for name in "abc"]), axis=0)
    assert found["d"].cos_ref == pytest.approx(cosine(updates["d"], median))


def test_where_all_are_excluded_all_count(updates: dict[str, Any]) -> None:
    assert RoundStatistics().observe(updates, excluded=set("abcde")) == RoundStatistics().observe(updates)


def test_a_root_update_takes_the_place_of_the_median(updates: dict[str, Any]) -> None:
    root = np.ones(12)
    found = by_name(RoundStatistics().observe(updates, root=root))
    assert found["a"].cos_ref == pytest.approx(cosine(updates["a"], root))


def test_what_was_accepted_counts_on(updates: dict[str, Any]) -> None:
    statistics = RoundStatistics()
    first, second = np.arange(12.0), np.arange(12.0)[::-1]
    statistics.accept(first)
    statistics.accept(second)
    found = by_name(statistics.observe(updates, root=np.ones(12)))
    reference = unit(np.ones(12)) + unit(MOMENTUM * first + second)
    assert found["b"].cos_ref == pytest.approx(cosine(updates["b"], reference))
    assert found["b"].cos_prev == pytest.approx(cosine(updates["b"], second))


def test_one_client_has_no_other(updates: dict[str, Any]) -> None:
    (alone,) = RoundStatistics().observe({"a": updates["a"]})
    assert alone.max_pair_cos is None
    assert alone.cos_ref == pytest.approx(1.0)
    assert RoundStatistics().observe({}) == []


def test_the_shape_of_an_update_does_not_matter(updates: dict[str, Any]) -> None:
    folded = {name: update.reshape(3, 4).astype(np.float32) for name, update in updates.items()}
    for flat, other in zip(RoundStatistics().observe(updates), RoundStatistics().observe(folded), strict=True):
        assert other.cos_ref == pytest.approx(flat.cos_ref, abs=1e-6)


@pytest.mark.parametrize("bad", [np.full(12, np.nan), np.full(12, np.inf), np.ones(11)])
def test_what_is_no_update_is_refused(updates: dict[str, Any], bad: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - NumPy has words of its own for shapes
        RoundStatistics().observe({**updates, "bad": bad})


@given(st.lists(Vectors, min_size=1, max_size=5), Vectors)
def test_whatever_comes_is_a_sound_observation(vectors: list[Any], accepted: Any) -> None:
    statistics = RoundStatistics()
    for _ in range(2):
        for each in statistics.observe({f"c{number}": vector for number, vector in enumerate(vectors)}):
            assert each.norm is not None
            assert each.norm >= 0
        statistics.accept(accepted)


@given(Vectors, st.floats(0, 1e3))
def test_clipping_bounds_the_norm_and_keeps_the_direction(vector: Any, bound: float) -> None:
    short = clipped(vector, bound)
    assert np.linalg.norm(short) <= bound * (1 + 1e-9) + 1e-12 or np.array_equal(short, vector)
    assert np.linalg.norm(short) <= np.linalg.norm(vector) * (1 + 1e-9)
    assert np.array_equal(clipped(vector, None), vector)
    if np.linalg.norm(short) > 1e-6:
        assert cosine(short, vector) == pytest.approx(1.0)
