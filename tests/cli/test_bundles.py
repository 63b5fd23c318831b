"""`policy-engine keygen`, `sign` and `verify`: what they do, what they say, and their exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from tests.bundle.making import policies

from policy_engine.cli.bundles import keygen, sign, verify

FUNCTION = "def check(context):\n    return {'allowed': True, 'reason': 'so'}\n"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with two key pairs and a policy file, to work in."""
    monkeypatch.chdir(tmp_path)
    for name in ("ann", "ben"):
        assert run(keygen, name).exit_code == 0
    (tmp_path / "policies.json").write_bytes(policies())
    return tmp_path


def run(command: click.Command, *arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


def signed(*arguments: str) -> Result:
    return run(sign, "policies.json", "--key", "ann.pem", "--output", "b.json", *arguments)


def test_keys_are_made_once_and_kept_secret(place: Path) -> None:
    assert (place / "ann.pem").stat().st_mode & 0o777 == 0o600
    before = (place / "ann.pem").read_bytes()
    result = run(keygen, "ann")
    assert (result.exit_code, result.stderr) == (2, "policy-engine: `ann.pub.pem` is there already\n")
    (place / "ann.pub.pem").unlink()
    result = run(keygen, "ann")
    assert result.exit_code == 2
    assert "ann.pem" in result.stderr
    assert (place / "ann.pem").read_bytes() == before
    assert not (place / "ann.pub.pem").exists()


def test_two_people_sign_one_after_another(place: Path) -> None:
    assert signed("--version", "7").exit_code == 0
    asked = ("b.json", "--key", "ann.pub.pem", "--key", "ben.pub.pem", "--threshold", "2")
    result = run(verify, *asked)
    assert (result.exit_code, result.output) == (
        1,
        "policy-engine: `b.json` is refused (too_few_signatures): 1 trusted keys signed it, 2 have to\n",
    )
    result = run(sign, "b.json", "--key", "ben.pem")
    assert result.exit_code == 0, result.output
    assert "policies version 7, good until " in result.output
    result = run(verify, *asked)
    assert result.exit_code == 0, result.output
    assert result.output.startswith("accepted: policies version 7, good until ")
    assert result.output.count("\nsigned by ") == 2
    assert "\nholds `policies.json` sha256 " in result.output
    assert "1 policies: web\n" in result.output
    assert (place / "b.json").stat().st_mode & 0o777 == 0o644


def test_a_directory_is_signed_in_place(place: Path) -> None:
    directory = place / "set"
    (directory / "functions").mkdir(parents=True)
    (directory / "policies.json").write_bytes(policies())
    (directory / "functions" / "check.py").write_text(FUNCTION)
    (directory / ".git").mkdir()
    assert run(sign, "set", "--key", "ann.pem").exit_code == 1
    assert run(sign, "set", "--key", "ann.pem", "--version", "1", "--name", "lab").exit_code == 0
    assert run(sign, "set", "--key", "ben.pem", "--output", "set.json").exit_code == 0
    for bundle, signers in (("set", 1), ("set.json", 2)):
        result = run(verify, bundle, "--key", "ann.pub.pem", "--key", "ben.pub.pem", "--name", "lab", "--json")
        answer = json.loads(result.output)
        assert (result.exit_code, answer["accepted"], len(answer["signers"])) == (0, True, signers)
        assert answer["manifest"]["files"].keys() == {"policies.json", "functions/check.py"}
        assert answer["functions"] == ["check"]
        assert "\n1 functions: check\n" in run(verify, bundle, "--key", "ann.pub.pem", "--name", "lab").output
    (directory / "functions" / "check.py").write_text(FUNCTION.replace("True", "False"))
    result = run(verify, "set", "--key", "ann.pub.pem", "--json")
    assert (result.exit_code, json.loads(result.output)["code"]) == (1, "altered_file")
    assert run(sign, "set", "--key", "ben.pem").exit_code == 1
    (directory / "functions" / "check.py").unlink()
    assert json.loads(run(verify, "set", "--key", "ann.pub.pem", "--json").output)["code"] == "missing_file"


REFUSALS: dict[str, tuple[Callable[[], object], tuple[str, ...], str]] = {
    "another key": (lambda: signed("--version", "1"), ("--key", "ben.pub.pem"), "unknown_key"),
    "no key": (lambda: signed("--version", "1"), (), "no_keys"),
    "expired": (lambda: signed("--version", "1", "--expires-in", "-1"), ("--key", "ann.pub.pem"), "expired"),
    "old": (lambda: signed("--version", "3"), ("--key", "ann.pub.pem", "--newer-than", "3"), "replayed"),
    "name": (lambda: signed("--version", "3"), ("--key", "ann.pub.pem", "--name", "x"), "other_name"),
    "text": (lambda: Path("b.json").write_text("{"), ("--key", "ann.pub.pem"), "malformed"),
    "a policy file": (lambda: Path("b.json").write_bytes(policies()), ("--key", "ann.pub.pem"), "malformed"),
}


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("about", REFUSALS)
def test_refused(about: str) -> None:
    prepare, arguments, code = REFUSALS[about]
    prepare()
    result = run(verify, "b.json", *arguments)
    assert result.exit_code == 1
    assert f"is refused ({code})" in result.stderr


FAILURES: dict[str, tuple[tuple[str, ...], str]] = {
    "no file": (("nope", "--key", "ann.pem", "--version", "1"), "nope"),
    "no key": (("policies.json", "--key", "nope.pem", "--version", "1", "--output", "b.json"), "nope.pem"),
    "a public key": (("policies.json", "--key", "ann.pub.pem", "--version", "1", "--output", "b"), "ann.pub.pem"),
    "no output": (("policies.json", "--key", "ann.pem", "--version", "1"), "--output"),
    "a name alone": (("policies.json", "--key", "ann.pem", "--name", "x", "--output", "b.json"), "--version"),
    "eternity": (
        ("policies.json", "--key", "ann.pem", "--version", "1", "--expires-in", "1e9", "--output", "b.json"),
        "cannot expire",
    ),
}


@pytest.mark.parametrize("about", FAILURES)
def test_what_cannot_be_carried_out(place: Path, about: str) -> None:
    arguments, said = FAILURES[about]
    result = run(sign, *arguments)
    assert result.exit_code == 2, result.output
    assert said in result.stderr
    assert not (place / "b.json").exists()


def test_policies_that_cannot_be_used_are_not_signed(place: Path) -> None:
    (place / "policies.json").write_text('{"policies": {"a": {"type": "x", "rules": [{"action": "denny"}]}}}')
    result = signed("--version", "1")
    assert result.exit_code == 1
    assert "error /policies/a/rules/0/action: unknown action" in result.output
    assert not (place / "b.json").exists()


def test_a_key_that_others_can_read_does_not_sign(place: Path) -> None:
    (place / "ann.pem").chmod(0o644)
    result = signed("--version", "1")
    assert (result.exit_code, "can be read by others" in result.stderr) == (2, True)
