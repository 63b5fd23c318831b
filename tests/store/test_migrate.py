"""The tables are what the code expects, whoever makes them, and however many at once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text
from tests.store.stores import Stores

from policy_engine.model.errors import StateError
from policy_engine.store import schema
from policy_engine.store.database import Database
from policy_engine.store.migrate import NEWEST, migrate


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    made = Database(database_url)
    yield made
    made.close()


def differences(database: Database) -> list[object]:
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        return list(compare_metadata(context, schema.metadata))


def test_the_tables_are_those_of_the_schema(database: Database) -> None:
    migrate(database)
    assert differences(database) == []
    with database.read() as connection:
        found = inspect(connection)
        assert set(found.get_table_names()) == {*schema.metadata.tables, "alembic_version"}
        for name, table in schema.metadata.tables.items():
            assert found.get_pk_constraint(name)["constrained_columns"] == [column.name for column in table.primary_key]
            assert {column["name"]: column["nullable"] for column in found.get_columns(name)} == {
                column.name: column.nullable for column in table.columns
            }


def test_it_may_be_done_again(database: Database) -> None:
    for _ in range(3):
        migrate(database)
    assert differences(database) == []


def test_several_threads_at_once(database_url: str) -> None:
    def work(_: int) -> None:
        mine = Database(database_url, busy_seconds=10)
        migrate(mine)
        mine.close()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    database = Database(database_url)
    assert differences(database) == []
    database.close()


CHILD = """
import sys
from pathlib import Path
from tests.store.stores import Stores, patiently
stores = Stores(sys.argv[1], Path(sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
store = patiently(stores)
print(store.store_id, store.writer.number, flush=True)
sys.stdin.readline()
stores.stop()
"""


def test_several_processes_open_a_new_store_at_once(stores: Stores) -> None:
    command = [sys.executable, "-W", "error", "-c", CHILD, stores.url, str(stores.directory)]
    children = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    told = []
    for word in ("ready", None):
        for child in children:
            assert child.stdout is not None
            assert child.stdin is not None
            answer = child.stdout.readline().strip()
            assert word in (None, answer)
            if word is None:
                told.append(answer.split())
        for child in children:
            assert child.stdin is not None
            child.stdin.write("\n")
            child.stdin.flush()
    for child in children:
        child.communicate()
        assert child.returncode == 0
    assert len({store for store, _ in told}) == 1
    assert sorted(number for _, number in told) == ["1", "2", "3"]


def test_a_newer_version_is_refused(database: Database) -> None:
    migrate(database)
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StateError, match=f"newer version of the engine .*`9999`.*`{NEWEST}`"):
        migrate(database)


def test_a_failure_leaves_nothing(database: Database) -> None:
    with database.write() as connection:
        connection.execute(text("CREATE TABLE writer (tenant TEXT)"))
    with pytest.raises(StateError):
        migrate(database)
    with database.read() as connection:
        assert inspect(connection).get_table_names() == ["writer"]
    with database.write() as connection:
        connection.execute(text("DROP TABLE writer"))
    migrate(database)
    assert differences(database) == []
