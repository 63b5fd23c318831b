"""Positions sort as things happened, and cursors survive any treatment."""

from __future__ import annotations

from time import time_ns

from hypothesis import given
from hypothesis import strategies as st

from policy_engine.store.position import (
    MAX_WRITERS,
    Positions,
    decode_cursor,
    encode_cursor,
    microseconds_of,
    position_at,
    step,
    vector_at,
    vector_of,
    writer_of,
)

writers = st.integers(0, MAX_WRITERS - 1)
moments = st.integers(0, 2**53 - 1)
positions = st.builds(position_at, moments, writers)
stores = st.integers(0, 2**60 - 1)


@given(moment=moments, writer=writers, count=st.integers(0, 10**6))
def test_a_position_says_when_and_who(moment: int, writer: int, count: int) -> None:
    position = position_at(moment, writer)
    assert (microseconds_of(position), writer_of(position)) == (moment, writer)
    later = step(position, count)
    assert (microseconds_of(later), writer_of(later)) == (moment + count, writer)
    assert step(later, -count) == position


@given(one=positions, other=positions)
def test_positions_sort_by_time(one: int, other: int) -> None:
    if microseconds_of(one) < microseconds_of(other):
        assert one < other


@given(writer=writers, after=positions, counts=st.lists(st.integers(1, 2000), min_size=1, max_size=20))
def test_a_writer_hands_out_rising_positions_that_do_not_overlap(writer: int, after: int, counts: list[int]) -> None:
    handed = Positions(writer, after)
    before = microseconds_of(after)
    now = time_ns() // 1000
    for count in counts:
        last = handed.take(count)
        assert writer_of(last) == writer
        assert microseconds_of(last) - count >= before
        assert microseconds_of(last) >= now
        assert handed.last == last
        before = microseconds_of(last)


@given(store=stores, seen=st.lists(positions))
def test_a_cursor_is_read_as_it_was_written(store: int, seen: list[int]) -> None:
    vector = vector_of(seen)
    text = encode_cursor(store, vector)
    assert text.isascii()
    assert text.replace("-", "").replace("_", "").isalnum()
    assert decode_cursor(text, store) == vector
    assert decode_cursor(text, store ^ 1) is None


@given(store=stores, seen=st.lists(positions), place=st.integers(0, 200), letter=st.characters())
def test_a_damaged_cursor_is_another_one_or_none(store: int, seen: list[int], place: int, letter: str) -> None:
    text = encode_cursor(store, vector_of(seen))
    for damaged in (
        text[:place],
        text[place:],
        text[:place] + letter + text[place + 1 :],
        text + letter,
        letter + text,
    ):
        vector = decode_cursor(damaged, store)
        assert vector is None or all(writer_of(position) == writer for writer, position in vector.items())


@given(text=st.text())
def test_any_text_may_be_asked_about(text: str) -> None:
    assert decode_cursor(text, 1) is None
    assert decode_cursor("c" + text, 1) is None


@given(seen=positions, others=st.lists(positions))
def test_the_vector_at_a_position_has_seen_what_is_not_above_it(seen: int, others: list[int]) -> None:
    vector = vector_at(seen, range(MAX_WRITERS))
    assert decode_cursor(encode_cursor(7, vector), 7) == vector
    for other in (*others, seen):
        assert (other <= vector[writer_of(other)]) == (other <= seen) or microseconds_of(seen) == 0
