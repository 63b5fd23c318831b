"""Both databases keep the same promises."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert, make_url, select, text
from sqlalchemy.exc import DataError, IntegrityError
from tests.databases import running_postgres
from tests.postgres import Postgres
from tests.store.outages import Frozen, Locked, away
from tests.store.stores import until

from policy_engine.model.errors import BusyError, StateError, StoreUnavailableError
from policy_engine.store import schema
from policy_engine.store.database import Database, serialise, serialise_now
from policy_engine.store.migrate import migrate

TABLE = schema.imported


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    made = Database(database_url)
    migrate(made)
    yield made
    made.close()


def row(path: str, number: int = 1) -> dict[str, object]:
    return {"tenant": "t", "path": path, "fingerprint": "f", "number": number}


def fail_after(connection: Connection, given: dict[str, object]) -> None:
    connection.execute(insert(TABLE), given)
    raise LookupError


def paths(database: Database) -> list[str]:
    with database.read() as connection:
        return list(connection.execute(select(TABLE.c.path).order_by(TABLE.c.path)).scalars())


def test_what_is_committed_is_there_and_what_failed_is_not(database: Database) -> None:
    with database.write() as connection:
        connection.execute(insert(TABLE), row("a"))
    with pytest.raises(LookupError), database.write() as connection:
        fail_after(connection, row("b"))
    assert paths(database) == ["a"]


def test_a_reader_sees_one_state(database: Database) -> None:
    with database.read() as connection:
        assert connection.execute(select(TABLE)).all() == []
        with database.write() as writing:
            writing.execute(insert(TABLE), row("a"))
        assert connection.execute(select(TABLE)).all() == []
    assert paths(database) == ["a"]


def test_nobody_waits_for_a_server_that_does_not_answer(postgres: Postgres, postgres_url: str) -> None:
    database = Database(postgres_url)
    database.watch()
    with database.read() as connection:  # so there is a connection, which stays open
        assert connection.execute(text("SELECT pg_sleep(2.5)")).all(), "much work may take its time"
    with away(Frozen(postgres)):
        with pytest.raises(StoreUnavailableError, match="does not answer"), database.read() as connection:
            connection.execute(text("SELECT 1"))
        for use in (database.read, database.write):
            with pytest.raises(StoreUnavailableError, match="does not answer"), use():
                pass
        with pytest.raises(StoreUnavailableError, match="does not answer"):
            database.connect()

    def answers() -> bool:
        with suppress(StoreUnavailableError), database.read() as connection:
            return bool(connection.execute(text("SELECT 1")).scalar_one())
        return False

    until(answers, "the server is used again")
    database.close()


def test_who_has_no_patience_does_not_wait_for_a_server_that_takes_long(postgres_url: str) -> None:
    database = Database(postgres_url)
    with (
        pytest.raises(StoreUnavailableError, match="does not answer"),
        database.write(patience=0.3) as connection,
    ):
        connection.execute(text("SELECT pg_sleep(30)"))
    with database.write() as connection:
        assert connection.execute(text("SELECT pg_sleep(0.5)")).all(), "the next one has as much patience as it takes"
    database.close()


def test_another_host_takes_over_from_one_that_does_not_answer(postgres: Postgres) -> None:
    with running_postgres() as frozen:
        hosts = [str(server.directory) for server in (frozen, postgres)]
        url = make_url(frozen.url("postgres")).set(query={"host": hosts})
        database = Database(url.render_as_string(hide_password=False))
        database.watch()

        def host() -> str:
            with suppress(StoreUnavailableError), database.read() as connection:
                return str(connection.execute(text("SHOW data_directory")).scalar_one())
            return ""

        assert host() == hosts[0]
        with away(Frozen(frozen)):
            until(lambda: host() == hosts[1], "the other one is used")
        database.close()


def test_what_the_url_says_of_connections_holds(postgres_url: str) -> None:
    given = {"options": "-c lock_timeout=5s -c work_mem=8MB", "application_name": "mine", "connect_timeout": "7"}
    url = make_url(postgres_url).update_query_dict(given)
    database = Database(url.render_as_string(hide_password=False))
    names = ("lock_timeout", "work_mem", "application_name", "idle_in_transaction_session_timeout")
    with database.read() as connection:
        shown = [connection.execute(text(f"SHOW {name}")).scalar_one() for name in names]
    assert shown == ["5s", "8MB", "mine", "1min"]
    database.close()


def test_what_contradicts_the_database_is_no_outage(database: Database) -> None:
    with pytest.raises(IntegrityError), database.write() as connection:
        connection.execute(insert(TABLE), [row("a"), row("a")])
    assert paths(database) == []


def test_what_the_database_cannot_hold_is_no_outage(postgres_url: str) -> None:
    database = Database(postgres_url)
    migrate(database)
    with pytest.raises(DataError, match="NUL"), database.write() as connection:
        connection.execute(insert(TABLE), row("a\0b"))
    database.close()


def test_no_error_tells_what_was_to_be_written(database: Database) -> None:
    with pytest.raises(IntegrityError) as told, database.write() as connection:
        connection.execute(insert(TABLE), [row("secret-x"), row("secret-x")])
    assert "secret-x" not in str(told.value).partition("DETAIL")[0]


def test_writers_take_turns(database: Database) -> None:
    def count(_: int) -> None:
        while True:
            try:
                with database.write() as connection:
                    serialise(connection)
                    last = connection.execute(select(TABLE.c.number).order_by(TABLE.c.number.desc())).scalar() or 0
                    connection.execute(insert(TABLE), row(f"p{last + 1:03}", last + 1))
            except StoreUnavailableError:
                continue
            return

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(count, range(30)))
    assert paths(database) == [f"p{number:03}" for number in range(1, 31)]


def test_many_read_at_once(database: Database) -> None:
    with ExitStack() as stack:
        held = [stack.enter_context(database.read()) for _ in range(12)]
        assert {connection.execute(text("SELECT 1")).scalar_one() for connection in held} == {1}


def test_readers_do_not_wait_for_a_writer(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    migrate(database)
    path = database.path
    assert path is not None
    with away(Locked(path)):
        assert paths(database) == []
        fresh = Database(sqlite_url)
        assert paths(fresh) == []
        with pytest.raises(StoreUnavailableError, match="locked"), fresh.write():
            pass
        fresh.close()
    with database.write() as connection:
        connection.execute(insert(TABLE), row("a"))
    database.close()


def test_an_sqlite_file_waits_for_the_disk_and_forgets_what_is_deleted(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    migrate(database)
    for opened in (database, Database(sqlite_url)):
        with opened.read() as connection:
            pragmas = {
                name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
                for name in ("journal_mode", "synchronous", "auto_vacuum", "page_size")
            }
            deletes = connection.exec_driver_sql("PRAGMA secure_delete").scalar_one()
        assert pragmas == {"journal_mode": "wal", "synchronous": 2, "auto_vacuum": 2, "page_size": 8192}
        assert deletes in {1, 2}
        opened.close()


def test_a_server_that_is_away_and_back(postgres_url: str, postgres: Postgres) -> None:
    database = Database(postgres_url)
    migrate(database)
    postgres.stop()
    try:
        for _ in range(2):
            with pytest.raises(StoreUnavailableError):
                paths(database)
            with pytest.raises(StoreUnavailableError), database.write():
                pass
    finally:
        postgres.start()
    assert paths(database) == []
    postgres.cut(postgres_url.rpartition("/")[2].partition("?")[0])
    assert paths(database) == []
    database.close()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "is not one such as"),
        ("sqlite://", "needs a file"),
        ("sqlite:///", "needs a file"),
        ("mysql://a/b", "not supported|no driver"),
        ("oracle://a/b", "not supported|no driver"),
        ("unheard-of://a/b", "is not one such as"),
        ("unheardof://a/b", "not supported|no driver"),
    ],
)
def test_a_url_that_cannot_be_used_is_told(url: str, message: str) -> None:
    with pytest.raises(StateError, match=message):
        Database(url)


def test_a_directory_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StateError, match="data directory"):
        Database(f"sqlite:///{tmp_path}/file/x.db")


def test_a_password_is_not_shown() -> None:
    database = Database("postgresql://me:hidden@/x?host=/nowhere")
    assert "hidden" not in database.url
    with pytest.raises(StoreUnavailableError) as told, database.read() as connection:
        connection.execute(text("SELECT 1"))
    assert "hidden" not in str(told.value)


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(b"no database" * 1000)
    database = Database(f"sqlite:///{path}")
    with pytest.raises(StateError, match="cannot be used"):
        migrate(database)
    database.close()


def test_the_size_of_a_file_is_that_of_its_content(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    migrate(database)
    before = database.bytes_used()
    with database.write() as connection:
        body = {"tenant": "t", "type": "x", "seq": 1, "body": b"x" * 10_000, "hash": b""}
        connection.execute(insert(schema.event), [{**body, "position": number} for number in range(100)])
    assert database.bytes_used() - before in range(1_000_000, 2_000_000)
    database.close()


def test_a_new_file_is_for_its_owner_alone(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    migrate(database)
    assert database.path is not None
    modes = {path.name: path.stat().st_mode & 0o777 for path in database.path.parent.glob(f"{database.path.name}*")}
    assert set(modes.values()) == {0o600}, modes
    database.close()


def test_a_linked_file_is_one_database(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "real")
    real, linked = (Database(f"sqlite:///{tmp_path}/{name}/log.db") for name in ("real", "linked"))
    assert real.path == linked.path, "seats and locks lie beside it"


def test_a_turn_is_not_waited_for_when_the_log_waits_too(postgres_url: str) -> None:
    database = Database(postgres_url)
    migrate(database)
    with database.write() as first:
        serialise(first)
        with pytest.raises(BusyError), database.write() as second:
            serialise(second, briefly=True)
        with database.write() as third:
            assert not serialise_now(third)
    with database.write() as fourth:
        assert serialise_now(fourth)
    database.close()
