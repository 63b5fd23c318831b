"""`policy-engine export`, `import`, `backup` and `restore`: what they do, what they say, and their exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from tests.conftest import Services

from policy_engine.cli.audit import audit
from policy_engine.cli.backup import backup, restore
from policy_engine.cli.policies import export_policies, import_policies
from policy_engine.config import Settings
from policy_engine.service import PolicyService

POLICY = {"type": "network_security", "rules": [{"action": "allow", "match": {"protocol": "tcp"}}]}


def run(directory: Path, command: click.Command, *arguments: str, given: str | None = None) -> Result:
    return CliRunner(env={"POLICY_DATA_DIR": str(directory / "data")}).invoke(command, arguments, input=given)


def test_what_is_exported_can_be_imported(service: PolicyService, tmp_path: Path) -> None:
    file = tmp_path / "exported.json"
    result = run(tmp_path, export_policies, str(file))
    assert (result.exit_code, result.output) == (0, f"version 2, 3 policies, written to `{file}`\n")
    assert json.loads(file.read_text())["policies"].keys() == service.policies.keys()
    result = run(tmp_path, import_policies, str(file))
    assert (result.exit_code, result.output) == (0, "nothing changed: version 2 holds the same 3 policies\n")
    document = json.loads(file.read_text())
    del document["policies"]["web"]
    result = run(tmp_path, import_policies, "-", "--reason", "no web", given=json.dumps(document))
    assert result.exit_code == 0, result.output
    assert result.output.endswith("2 policies are in force as version 3\n")
    service._activation.catch_up()
    assert set(service.policies) == {"night", "start"}
    revision = service.store.revisions.get(3)
    assert (revision.source, revision.reason) == ("import", "no web")


def test_an_older_revision_is_exported_to_standard_output(service: PolicyService, tmp_path: Path) -> None:
    service.administration.delete("web")
    assert "web" not in json.loads(run(tmp_path, export_policies).output)["policies"]
    assert "web" in json.loads(run(tmp_path, export_policies, "--revision", "2").output)["policies"]
    result = run(tmp_path, export_policies, "--revision", "99")
    assert result.exit_code == 2
    assert "no revision 99" in result.stderr


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"policies": {"a": {"type": "x", "rules": [{"action": "denny"}]}}}', "/policies/a/rules/0/action"),
        ("{", "is refused"),
    ],
)
def test_a_file_that_is_refused_changes_nothing(
    service: PolicyService, tmp_path: Path, content: str, said: str
) -> None:
    result = run(tmp_path, import_policies, "-", given=content)
    assert result.exit_code == 1
    assert said in result.output
    assert service.store.revisions.newest()[0].number == service.revision.version


@pytest.mark.parametrize("command", [export_policies, import_policies, backup])
def test_there_has_to_be_a_store(tmp_path: Path, command: click.Command) -> None:
    result = run(tmp_path, command, str(tmp_path / "x"))
    assert result.exit_code == 2
    assert "there is no database" in result.stderr
    assert not (tmp_path / "data").exists()


def test_back_up_and_restore(services: Services, tmp_path: Path) -> None:
    service = services()
    file = tmp_path / "backup.db"
    result = run(tmp_path, backup, str(file))
    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"backed up to `{file}`: ")
    service.administration.delete("web")
    result = run(tmp_path, restore, str(file), given="n\n")
    assert result.exit_code == 2
    assert "nothing was restored" in result.stderr
    assert "web" not in service.policies
    result = run(tmp_path, restore, str(file), "--yes")
    assert result.exit_code == 0, result.output
    assert result.output == "restored: the policies of version 2 are in force as version 4\n"
    service._activation.catch_up()
    assert "web" in service.policies
    result = run(tmp_path, restore, str(tmp_path / "none"), "--yes")
    assert result.exit_code == 2
    assert "there is no backup" in result.stderr


def test_a_restored_store_starts(services: Services, tmp_path: Path, policy_file: Path) -> None:
    service = services()
    service.administration.create({"id": "new", **POLICY})
    file = tmp_path / "backup.db"
    assert run(tmp_path, backup, str(file)).exit_code == 0
    other = tmp_path / "other"
    keys = tmp_path / "data" / "keys"
    result = run(other, restore, str(file), "--yes", "--key-dir", str(keys))
    assert result.exit_code == 0, result.output
    again = PolicyService(Settings(policy_file=str(policy_file), data_dir=str(other / "data"), key_dir=str(keys)))
    assert "new" in again.policies
    assert [trouble.code for trouble in again.troubles.all()] == []
    again.stop()


def test_the_store_does_not_write_over_itself(service: PolicyService, tmp_path: Path) -> None:
    data = tmp_path / "data"
    before = (data / "keys" / "audit.pem").read_bytes()
    for command, target in (
        (backup, data / "policy-engine.db"),
        (backup, data / "policy-engine.db-wal"),
        (export_policies, data / "keys" / "audit.pem"),
        (export_policies, data / "spool" / "x"),
    ):
        result = run(tmp_path, command, str(target))
        assert result.exit_code == 2
        assert f"`{target}` belongs to the store itself" in result.stderr
    assert (data / "keys" / "audit.pem").read_bytes() == before
    service.administration.delete("web")


def test_functions_outlast_an_import_and_come_with_a_backup(services: Services, tmp_path: Path) -> None:
    service = services()
    service.functions.create({"id": "judge", "code": "def judge(context): return {'allowed': True}"})
    service.administration.create({"id": "f", "type": "door", "function_id": "judge"})
    wanted = {"policies": {"g": {"function_id": "judge", "type": "d"}}}
    result = run(tmp_path, import_policies, "-", given=json.dumps(wanted))
    assert result.exit_code == 0, result.output
    saved = tmp_path / "saved"
    assert run(tmp_path, backup, str(saved)).exit_code == 0
    service._activation.catch_up()
    assert service.check("d", {}).reason_code == "function_allow"
    service.administration.delete("g")
    service.functions.delete("judge")
    services.end(service)
    assert run(tmp_path, restore, str(saved), "--yes").exit_code == 0
    again = services()
    assert again.check("d", {}).reason_code == "function_allow"
    services.end(again)
    assert run(tmp_path, audit, "verify").exit_code == 0
