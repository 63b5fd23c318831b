"""`policy-engine functions`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from policy_engine.cli.main import main

CODE = "def judge(context):\n    print('seen')\n    return {'allowed': context['n'] > 1}\n"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["functions", *arguments])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "judge.py"
    path.write_text(CODE)
    (tmp_path / "other.json").write_text(json.dumps({"id": "second", "code": CODE}))
    return path


def test_a_file_and_a_directory_are_validated(file: Path) -> None:
    assert run("validate", str(file)).output == f"{file}: valid: judge\n"
    result = run("validate", str(file.parent))
    assert (result.exit_code, result.output) == (0, f"{file.parent}: valid: judge, second\n")


def test_a_description_beside_the_source_counts(file: Path) -> None:
    file.with_suffix(".json").write_text('{"id": "named"}')
    assert run("validate", str(file)).output == f"{file}: valid: named\n"


def test_faults_are_told_with_their_place(file: Path) -> None:
    file.write_text("def judge(context):\n    return contxt\n")
    result = run("validate", str(file))
    assert result.exit_code == 1
    assert "error /judge.py: line 2 column 12: name `contxt` is not defined" in result.output
    assert "hint: did you mean `context`?" in result.output


@pytest.mark.parametrize("name", ["nope.py", "notes.txt"])
def test_what_is_no_file_of_a_function_cannot_be_read(file: Path, name: str) -> None:
    (file.parent / "notes.txt").write_text("x")
    assert run("validate", str(file.parent / name)).exit_code == 2


@pytest.mark.parametrize(("n", "allowed"), [(2, True), (1, False)])
def test_a_function_is_tried_out(file: Path, n: int, allowed: bool) -> None:  # noqa: FBT001 - a parameter of the test
    result = run("test", str(file), "--context", json.dumps({"n": n}))
    assert (result.exit_code, json.loads(result.stdout)) == (int(not allowed), {"allowed": allowed})
    assert result.stderr == "seen\n"


def test_a_failure_says_why_and_where(file: Path) -> None:
    result = run("test", str(file), "--context", "{}")
    assert result.exit_code == 1
    assert result.stderr == "seen\npolicy-engine: KeyError: n at line 3\n"


def test_one_function_is_tried_out_at_a_time(file: Path) -> None:
    assert run("test", str(file.parent), "--context", "{}").exit_code == 2


def test_a_context_is_what_a_check_makes_of_it(file: Path) -> None:
    file.write_text("def judge(context): return {'allowed': sorted(context) == ['src_ip']}")
    file.with_suffix(".json").write_text('{"metadata": {"inputs": ["src_ip"]}}')
    assert run("test", str(file), "--context", '{"source_ip": "1.1.1.1", "n": 1}').exit_code == 0
    assert run("test", str(file), "--context", '{"a.b": 1}').exit_code == 2
