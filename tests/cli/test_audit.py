"""`policy-engine audit` and `erase`: what they say, what they leave behind, and their exit codes."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
import pytest
from click.testing import CliRunner, Result
from sqlalchemy import delete, select, update
from tests.store.stores import Content, Stores, all_decisions, checked
from tests.store.trail import changed, checkpoint, record_some, verified, write_trail

from policy_engine.cli.audit import audit
from policy_engine.cli.erase import erase
from policy_engine.model.event import Event
from policy_engine.signing import new_key
from policy_engine.store import schema
from policy_engine.store.decisions import DecisionQuery
from policy_engine.store.keys import PRIVATE, KeyDirectory
from policy_engine.store.position import MAX_WRITERS

NAME = "policy-engine.db"


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    made = Stores(f"sqlite:///{tmp_path / NAME}", tmp_path)
    yield made
    made.stop()


@pytest.fixture
def written(stores: Stores) -> Stores:
    """A store with a trail, and nobody in it; its data directory is that of the test."""
    write_trail(stores)
    stores.stop()
    return stores


@pytest.fixture
def keys(tmp_path: Path) -> KeyDirectory:
    return KeyDirectory(tmp_path / "keys")


def entries(stores: Stores) -> int:
    """How many entries there are in all streams."""
    content = Content(stores.url)
    return sum(len(content.rows(stream)) for stream in schema.STREAMS)


def run(directory: Path, command: click.Command, *arguments: str, given: str | None = None, **variables: str) -> Result:
    variables = {"POLICY_DATA_DIR": str(directory), **variables}
    return CliRunner(env=variables).invoke(command, arguments, input=given)


def alter(stores: Stores) -> None:
    with changed(stores.url) as connection:
        table = schema.event
        where = (table.c.position.op("&")(MAX_WRITERS - 1) == 1, table.c.seq == 5)
        connection.execute(update(table).where(*where).values(body=b"{}"))


# verify


def test_a_trail_that_verifies(tmp_path: Path, written: Stores) -> None:
    result = run(tmp_path, audit, "verify")
    assert result.exit_code == 0, result.output
    held = entries(written)
    assert result.stdout == f"verified: {held} entries, 8 checkpoints; 0 entries are covered by no checkpoint yet\n"
    assert verified(written.url, KeyDirectory(tmp_path / "keys")).ok


def test_a_trail_that_was_altered(tmp_path: Path, written: Stores) -> None:
    alter(written)
    result = run(tmp_path, audit, "verify")
    assert result.exit_code == 1
    assert result.stdout.startswith("altered: writer 1 in `event`: entry 5 does not follow the one before")
    assert result.stdout.splitlines()[-1].startswith(f"not as it was stored: {entries(written)} entries")


def test_the_report_as_json(tmp_path: Path, written: Stores) -> None:
    result = run(tmp_path, audit, "verify", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {
        "ok": True,
        "entries": entries(written),
        "checkpoints": 8,
        "uncovered": 0,
        "faults": [],
    }
    alter(written)
    result = run(tmp_path, audit, "verify", "--json")
    assert result.exit_code == 1
    (fault,) = json.loads(result.stdout)["faults"]
    assert (fault["what"], fault["stream"], fault["writer"], fault["seq"]) == ("altered", "event", 1, 5)


def test_more_faults_than_are_shown(tmp_path: Path, written: Stores) -> None:
    with changed(written.url) as connection:
        connection.execute(update(schema.event).values(type="X"))
    result = run(tmp_path, audit, "verify")
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 12
    assert "more; --json lists them" in result.stdout.splitlines()[-2]


@pytest.mark.usefixtures("written")
def test_where_the_store_is(tmp_path: Path) -> None:
    database, keys = str(tmp_path / NAME), str(tmp_path / "keys")
    away = tmp_path / "away"
    flags = ("--database", f"sqlite:///{database}", "--key-dir", keys)
    assert run(away, audit, "verify", *flags).exit_code == 0
    assert run(away, audit, "verify", "--data-dir", str(tmp_path)).exit_code == 0
    assert run(away, audit, "verify", POLICY_DATABASE=f"sqlite:///{database}", POLICY_KEY_DIR=keys).exit_code == 0
    assert not away.exists()


def test_with_public_keys_of_ones_own(tmp_path: Path, written: Stores) -> None:
    with changed(written.url) as connection:
        table = schema.audit_key
        first = connection.execute(select(table.c.key_id).where(table.c.endorsed_by.is_(None))).scalar_one()
    kept = tmp_path / "kept.pem"
    (tmp_path / "keys" / f"audit-{first}.pub.pem").rename(kept)
    assert run(tmp_path, audit, "verify", "--key", str(kept)).exit_code == 0
    foreign = KeyDirectory(tmp_path / "foreign")
    foreign.rotate(new_key())
    (other,) = foreign.directory.glob("*.pub.pem")
    assert run(tmp_path, audit, "verify", "--key", str(other)).exit_code == 1
    assert run(tmp_path, audit, "verify", "--key", str(other), "--key", str(kept)).exit_code == 0


def test_with_a_checkpoint_that_was_kept(tmp_path: Path, written: Stores) -> None:
    kept = tmp_path / "kept.json"
    assert run(tmp_path, audit, "export", str(kept)).exit_code == 0
    assert run(tmp_path, audit, "verify", "--checkpoint", str(kept)).exit_code == 0
    with changed(written.url) as connection:
        connection.execute(delete(schema.checkpoint).where(schema.checkpoint.c.number == 8))
    assert run(tmp_path, audit, "verify").exit_code == 0
    result = run(tmp_path, audit, "verify", "--checkpoint", str(kept))
    assert result.exit_code == 1
    assert result.stdout.startswith("checkpoint missing: checkpoint 8 ")


def test_while_the_service_is_running(tmp_path: Path, stores: Stores) -> None:
    write_trail(stores)
    result = run(tmp_path, audit, "verify")
    assert result.exit_code == 0
    assert re.search(r"; [1-9]\d* entries are covered by no checkpoint yet", result.stdout)


# export


@pytest.mark.usefixtures("written")
def test_export_to_a_file_and_to_standard_output(tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    assert run(tmp_path, audit, "export", str(kept)).stdout == ""
    assert run(tmp_path, audit, "export", "-").stdout_bytes == kept.read_bytes()
    assert json.loads(kept.read_bytes())["payloadType"].endswith("checkpoint+json")


def test_export_without_a_checkpoint(tmp_path: Path, stores: Stores) -> None:
    stores()
    result = run(tmp_path, audit, "export", str(tmp_path / "kept.json"))
    assert result.exit_code == 2
    assert "there is no checkpoint yet" in result.stderr
    assert not (tmp_path / "kept.json").exists()


# rotate-key


def test_a_rotated_key_signs_and_the_old_one_is_still_trusted(
    tmp_path: Path, written: Stores, keys: KeyDirectory
) -> None:
    old = keys.current().public
    result = run(tmp_path, audit, "rotate-key")
    assert result.exit_code == 0, result.output
    new = keys.current().public
    assert old != new
    assert old.key_id in result.stdout
    assert new.key_id in result.stdout
    assert {old, new} < set(keys.trusted())
    assert stat.S_IMODE((keys.directory / PRIVATE).stat().st_mode) == 0o600
    report = verified(written.url, keys)
    assert report.faults == []
    (event,) = [event for event in events(written.url) if event.event_type == "AUDIT_KEY_ROTATED"]
    assert event.details["key_id"] == new.key_id
    assert event.details["endorsed_by"] == old.key_id
    assert event.details["author"]


def test_a_running_service_takes_up_the_rotated_key(tmp_path: Path, stores: Stores, keys: KeyDirectory) -> None:
    one, _ = write_trail(stores)
    assert run(tmp_path, audit, "rotate-key").exit_code == 0
    record_some(one, 50)
    checkpoint(one)
    assert Content(stores.url).all("checkpoint")[-1].key_id == keys.current().public.key_id
    assert verified(stores.url, keys).faults == []


def test_a_key_that_is_none_of_the_store_cannot_be_rotated(tmp_path: Path, written: Stores, keys: KeyDirectory) -> None:
    listed = Content(written.url).all("audit_key")
    foreign = KeyDirectory(tmp_path / "foreign")
    key = foreign.make().public
    result = run(tmp_path, audit, "rotate-key", "--key-dir", str(foreign.directory))
    assert result.exit_code == 2
    assert f"the audit key `{key.key_id}` is not one of this store" in result.stderr
    assert foreign.current().public == key
    assert Content(written.url).all("audit_key") == listed
    result = run(tmp_path, audit, "rotate-key", "--key-dir", str(tmp_path / "nowhere"))
    assert result.exit_code == 2
    assert "there is no audit key in" in result.stderr
    assert not (tmp_path / "nowhere").exists()
    assert verified(written.url, keys).ok


# erase


def events(url: str) -> list[Event]:
    decode = msgspec.json.Decoder(Event).decode
    return [decode(row.body) for row in Content(url).rows("event")]


def test_an_erased_client_cannot_be_read_any_more(tmp_path: Path, written: Stores, keys: KeyDirectory) -> None:
    before = {row.name: row for row in Content(written.url).all("subject")}
    result = run(tmp_path, erase, "north", "--yes")
    assert result.exit_code == 0, result.output
    assert {row.name for row in Content(written.url).all("subject")} == before.keys() - {"north"}
    pseudonym = before["north"].pseudonym
    assert result.stdout == f"`north` is erased; what is stored names `{pseudonym}`\n"
    (event,) = [event for event in events(written.url) if event.event_type == "CLIENT_ERASED"]
    assert event.details["pseudonym"] == pseudonym
    assert event.details["author"]
    assert "north" not in str(event.details)
    store = written(name="one")
    assert all_decisions(store, DecisionQuery(client="north")) == []
    assert {entry.entry.client for entry in all_decisions(store, DecisionQuery(client=pseudonym))} == {pseudonym}
    assert verified(written.url, keys).ok


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
def test_the_key_of_an_erased_client_is_in_no_file_any_more(tmp_path: Path, stores: Stores, *, running: bool) -> None:
    write_trail(stores)
    if not running:
        stores.stop()
    (row,) = [row for row in Content(stores.url).all("subject") if row.name == "north"]

    def found() -> list[str]:
        return [path.name for path in tmp_path.iterdir() if path.is_file() and bytes(row.key) in path.read_bytes()]

    assert found()
    assert run(tmp_path, erase, "north", "--yes").exit_code == 0
    assert found() == []


def test_erasing_beside_a_running_service(tmp_path: Path, stores: Stores) -> None:
    one, _ = write_trail(stores)
    assert run(tmp_path, erase, "south", "--yes").exit_code == 0
    assert all_decisions(one, DecisionQuery(client="south")) == []
    one.writer.notice_erasures()
    one.writer.record_decisions([checked(client_id="south")], sync=True)
    assert len(all_decisions(one, DecisionQuery(client="south"))) == 1, "it may come back, as somebody new"


def test_erasing_asks_first(tmp_path: Path, written: Stores) -> None:
    result = run(tmp_path, erase, "north", given="n\n")
    assert result.exit_code == 2
    assert "nothing was erased" in result.stderr
    assert len(Content(written.url).all("subject")) == 4
    assert run(tmp_path, erase, "north", given="y\n").exit_code == 0
    assert len(Content(written.url).all("subject")) == 3


def test_erasing_somebody_unknown(tmp_path: Path, written: Stores) -> None:
    before = len(events(written.url))
    result = run(tmp_path, erase, "nobody", "--yes")
    assert result.exit_code == 1
    assert "there is no client `nobody`" in result.stderr
    assert len(events(written.url)) == before


# What cannot be carried out

COMMANDS = [(audit, ("verify",)), (audit, ("export", "-")), (audit, ("rotate-key",)), (erase, ("north", "--yes"))]


@pytest.mark.parametrize(("command", "arguments"), COMMANDS)
def test_a_database_is_never_made(tmp_path: Path, command: click.Command, arguments: tuple[str, ...]) -> None:
    for given, said in (
        ((), f"there is no database `{tmp_path / NAME}`"),
        (("--database", "sqlite:///nowhere/x.db"), "there is no database `nowhere/x.db`"),
        (("--database", "sqlite://"), "there is no database ``"),
        (("--database", f"sqlite:///{tmp_path}"), f"there is no database `{tmp_path}`"),
        (("--database", "nonsense"), "the database URL is not one such as"),
        (("--database", "mysql://localhost/x"), "`mysql` databases are not supported"),
        (("--database", "postgresql://127.0.0.1:1/x"), "the database `postgresql://127.0.0.1:1/x` cannot be used"),
    ):
        (tmp_path / "keys").mkdir(exist_ok=True)
        KeyDirectory(tmp_path / "keys").make()
        result = run(tmp_path, command, *arguments, *given)
        assert result.exit_code == 2, (given, result.output, result.exception)
        assert said in result.stderr
        assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []


@pytest.mark.parametrize(("command", "arguments"), COMMANDS)
def test_a_file_that_is_no_database(
    tmp_path: Path, keys: KeyDirectory, command: click.Command, arguments: tuple[str, ...]
) -> None:
    keys.make()
    (tmp_path / NAME).write_bytes(b"something else" * 1000)
    result = run(tmp_path, command, *arguments)
    assert result.exit_code == 2
    assert "cannot be used: file is not a database" in result.stderr
    assert (tmp_path / NAME).read_bytes() == b"something else" * 1000


@pytest.mark.usefixtures("written")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("verify", "--checkpoint", "nowhere.json"), "cannot use `nowhere.json`: No such file or directory"),
        (("verify", "--checkpoint", "/dev/null"), "this is not an exported checkpoint"),
        (("verify", "--key", "nowhere.pem"), "cannot read the key `nowhere.pem`"),
        (("verify", "--key", "/dev/null"), "`/dev/null` holds no public key"),
        (("verify", "--key-dir", "nowhere"), "there is no public key in `nowhere`; name one with --key"),
        (("export", "nowhere/kept.json"), "cannot use `"),
        (("export",), "Missing argument 'FILE'"),
    ],
)
def test_what_cannot_be_carried_out(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    result = run(tmp_path, audit, *arguments)
    assert result.exit_code == 2, result.output
    assert said in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ((audit,), ("verify", "export", "rotate-key")),
        ((audit, "verify"), ("Exit code 0", "1 when", "2 when", "--checkpoint", "--key", "--json", "POLICY_DATABASE")),
        ((audit, "export"), ("latest checkpoint", "standard output", "Exit code 2")),
        ((audit, "rotate-key"), ("vouches", "public key", "Exit code 2")),
        ((erase,), ("--yes", "Exit code 1", "Backups", "POLICY_DATA_DIR")),
    ],
)
def test_help_teaches(tmp_path: Path, command: tuple[click.Command, *tuple[str, ...]], words: tuple[str, ...]) -> None:
    result = run(tmp_path, command[0], *command[1:], "--help")
    text = " ".join(result.stdout.split())
    assert [word for word in words if word not in text] == []
