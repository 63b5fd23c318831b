"""A writer's number belongs to one process at a time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.postgres import Postgres
from tests.store.stores import until

from policy_engine.model.errors import StateError, StoreUnavailableError
from policy_engine.store import seat as seats
from policy_engine.store.database import Database
from policy_engine.store.seat import Seat, take_seat


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    made = Database(database_url)
    yield made
    made.close()


def test_the_lowest_free_number_is_taken(database: Database) -> None:
    held = [take_seat(database) for _ in range(4)]
    assert [seat.number for seat in held] == [1, 2, 3, 4]
    held[1].release()
    held[1].release()
    held[1] = take_seat(database)
    assert held[1].number == 2
    for seat in held:
        seat.release()


def test_the_number_that_is_wanted_is_taken_if_it_is_free(database: Database) -> None:
    one = take_seat(database, wanted=7)
    two = take_seat(database, wanted=7)
    assert (one.number, two.number) == (7, 1)
    one.release()
    again = take_seat(database, wanted=7)
    assert again.number == 7
    two.release()
    again.release()


def test_threads_get_different_numbers(database: Database) -> None:
    with ThreadPoolExecutor(6) as pool:
        held: list[Seat] = list(pool.map(lambda _: take_seat(database), range(6)))
    assert sorted(seat.number for seat in held) == [1, 2, 3, 4, 5, 6]
    for seat in held:
        seat.release()


def test_no_number_may_be_free(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seats, "MAX_WRITERS", 3)
    held = [take_seat(database), take_seat(database)]
    with pytest.raises(StateError, match="every writer's number is taken"):
        take_seat(database)
    for seat in held:
        seat.release()


CHILD = """
import sys
from policy_engine.store.database import Database
from policy_engine.store.seat import take_seat
seat = take_seat(Database(sys.argv[1]))
print(seat.number, flush=True)
sys.stdin.readline()
"""


def test_a_killed_process_gives_its_number_back(database: Database, database_url: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, database_url], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"1\n"
        seat = take_seat(database)
        assert seat.number == 2
        seat.release()
        child.kill()

    def is_free() -> bool:
        seat = take_seat(database)
        seat.release()
        return seat.number == 1

    until(is_free, "the number is free")


def test_without_the_database_there_is_no_number(postgres_url: str, postgres: Postgres) -> None:
    database = Database(postgres_url)
    seat = take_seat(database)
    postgres.stop()
    try:
        with pytest.raises(StoreUnavailableError):
            take_seat(database)
        seat.release()
    finally:
        postgres.start()
    again = take_seat(database)
    assert again.number == 1
    again.release()
    database.close()
