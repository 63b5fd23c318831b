"""`policy-engine validate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from policy_engine.cli.main import main

Document = dict[str, Any]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["validate", *arguments])


@pytest.fixture
def warned(policy_file: Path, document: Document) -> Path:
    document["policies"]["web"]["type"] = "unheard_of"
    policy_file.write_text(json.dumps(document))
    return policy_file


@pytest.fixture
def refused(policy_file: Path, document: Document) -> Path:
    document["policies"]["web"]["rules"][0]["action"] = "denny"
    document["policies"]["web"]["priority"] = "high"
    policy_file.write_text(json.dumps(document))
    return policy_file


def test_valid(policy_file: Path) -> None:
    for options in ([], ["--strict"]):
        result = run(str(policy_file), *options)
        assert result.exit_code == 0
        assert result.stdout == f"{policy_file}: valid: 3 policies, 4 rules, 0 warnings\n"


def test_warnings(warned: Path) -> None:
    result = run(str(warned))
    assert result.exit_code == 0
    assert "warning /policies/web/type: type `unheard_of` is not declared" in result.stdout
    strict = run(str(warned), "--strict")
    assert strict.exit_code == 1
    assert "refused by --strict" in strict.stdout


def test_every_fault_with_its_place(refused: Path) -> None:
    result = run(str(refused))
    assert result.exit_code == 1
    assert 'error /policies/web/rules/0/action: unknown action `"denny"`\n  hint: did you mean `deny`?' in result.stdout
    assert "error /policies/web/priority: " in result.stdout
    assert result.stdout.endswith("refused: 2 errors\n")


@pytest.mark.parametrize(
    ("name", "code", "errors", "warnings"), [("policy_file", 0, 0, 0), ("warned", 0, 0, 1), ("refused", 1, 2, 0)]
)
def test_json(request: pytest.FixtureRequest, name: str, code: int, errors: int, warnings: int) -> None:
    path = request.getfixturevalue(name)
    result = run(str(path), "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == code
    assert report["valid"] is (code == 0)
    assert len(report["errors"]) == errors
    assert len(report["warnings"]) >= warnings
    assert bool(report["warnings"]) is bool(warnings)
    strict = json.loads(run(str(path), "--json", "--strict").stdout)
    assert strict["valid"] is (errors == 0 and warnings == 0)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000, b'{"policies": {}, "policies": {}}'])
def test_a_file_that_is_no_document(policy_file: Path, content: bytes) -> None:
    policy_file.write_bytes(content)
    result = run(str(policy_file))
    assert result.exit_code == 1
    assert result.stdout.startswith("error /")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        result = run(str(path))
        assert result.exit_code == 2
        assert f"cannot read `{path}`" in result.stderr
        assert result.stdout == ""
