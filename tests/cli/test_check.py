"""`policy-engine check` and `explain`, mostly through the real command."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.service.running import COMMAND, DEADLINE_SECONDS, environment

from policy_engine.cli.main import main

WEB = '{"protocol": "tcp", "dst_port": 8080}'
SSH = '{"protocol": "tcp", "dst_port": 22}'


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty directory, with the policies of the tests."""
    monkeypatch.chdir(tmp_path)


def run(policy_file: Path, *arguments: str, given: str | bytes | None = None, **variables: str) -> Result:
    return CliRunner(env={"POLICY_FILE": str(policy_file), **variables}).invoke(main, arguments, input=given)


def start(directory: Path, *arguments: str, given: bytes = b"", **variables: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*COMMAND, *arguments],
        input=given,
        capture_output=True,
        cwd=directory,
        env=environment(**variables),
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.mark.parametrize("command", ["check", "explain"])
@pytest.mark.parametrize(
    ("context", "code", "said"),
    [
        (WEB, 0, "allow (rule_allow): policy `web access` rule 1: server"),
        (SSH, 1, "deny (rule_deny): policy `web access` rule 0: no ssh"),
        ('{"protocol": "udp"}', 1, "deny (default_deny): "),
        (
            "{}",
            1,
            "deny (missing_attribute): required attribute `protocol` is missing\n  error in request: missing protocol",
        ),
    ],
)
def test_decision(policy_file: Path, command: str, context: str, code: int, said: str) -> None:
    result = run(policy_file, command, "--type", "network_security", "--context", context)
    assert result.exit_code == code
    assert said in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize("command", ["check", "explain"])
def test_json(policy_file: Path, command: str) -> None:
    result = run(policy_file, command, "--type", "network_security", "--context", SSH, "--json")
    decision = json.loads(result.stdout)
    assert result.exit_code == 1
    assert decision["allowed"] is False
    assert (decision["explanation"] is None) is (command == "check")


def test_contexts_from_elsewhere(policy_file: Path, tmp_path: Path) -> None:
    (tmp_path / "request.json").write_text(WEB)
    for given, source in ((None, "@request.json"), (WEB, "-")):
        result = run(policy_file, "check", "--type", "network_security", "--context", source, given=given)
        assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("at", "code"), [("2026-01-01T05:00:00Z", 1), ("2026-01-01T12:00:00Z", 0), ("2026-01-01T12:00:00+06:00", 1)]
)
def test_another_time(policy_file: Path, at: str, code: int) -> None:
    result = run(policy_file, "check", "--type", "fl_client_training", "--context", "{}", "--at", at)
    assert result.exit_code == code


def test_settings_are_those_of_the_service(policy_file: Path, tmp_path: Path) -> None:
    arguments = ("check", "--type", "fl_client_training", "--context", "{}", "--at", "2026-01-01T00:00:00Z")
    assert run(policy_file, *arguments).exit_code == 1
    assert run(policy_file, *arguments, POLICY_TIMEZONE="Asia/Tokyo").exit_code == 0
    other = tmp_path / "other.json"
    other.write_text('{"policies": []}')
    assert run(policy_file, *arguments, "--policy-file", str(other)).exit_code == 0, "a flag wins"


def test_marks(policy_file: Path) -> None:
    rules: list[dict[str, Any]] = [
        {"action": "allow", "description": "applies", "match": {"a": 1}},
        {"action": "allow", "description": "does not", "match": {"a": 2}},
        {"action": "log", "description": "breaks", "match": {"condition": "b > 1"}},
        {"action": "log", "description": "skips", "match": {"condition": "c > 1"}, "on_missing": "skip"},
        {"action": "throttle", "description": "duty", "match": {"a": 1}, "parameters": {"rate": 5}},
    ]
    shadow = {
        "type": "door",
        "mode": "shadow",
        "rules": [{"action": "allow", "description": "shadow", "match": {"a": 1}}],
    }
    types = {"door": {"default": "deny"}}
    policy_file.write_text(
        json.dumps({"types": types, "policies": {"door": {"type": "door", "rules": rules}, "dark": shadow}})
    )
    context = json.dumps({"a": 1, "b": "x", "password": "hunter2"})
    result = run(policy_file, "explain", "--type", "door", "--context", context)
    lines = result.stdout.splitlines()
    assert result.exit_code == 0
    for line in (
        "+ door#0 allow: applies  <- decides",
        "- door#1 allow: does not",
        "! door#2 log: breaks",
        "~ door#3 log: skips",
        "+ door#4 throttle: duty",
        "+ dark#0 [shadow] allow: shadow",
        "      a: 2 ~ 1: false",
        "      b > 1 [b='x']: wrong_type",
        "  parameters: rate=5",
        "  obligation: limit (required) by door#4",
        "  error in door#2: wrong_type b",
    ):
        assert line in lines


def test_what_was_not_reached(policy_file: Path) -> None:
    result = run(policy_file, "explain", "--type", "network_security", "--context", SSH)
    assert "+ web#0 deny: no ssh  <- decides" in result.stdout.splitlines()
    assert "  web#1 allow: server" in result.stdout.splitlines()


REFUSED: list[tuple[list[str], str]] = [
    (["--type", "a", "--context", "{"], "not valid JSON"),
    (["--type", "a", "--context", ""], "empty"),
    (["--type", "a", "--context", "[]"], "expected an object"),
    (["--type", "a", "--context", '{"a": 1, "a": 2}'], "more than once"),
    (["--type", "a", "--context", '{"a.b": 1}'], "/context/a.b"),
    (["--type", "a", "--context", "@nowhere.json"], "cannot read `nowhere.json`"),
    (["--type", "a", "--context", "@."], "cannot read `.`"),
    (["--type", "", "--context", "{}"], "/policy_type"),
    (["--type", "a", "--context", "{}", "--at", "noon"], "/at"),
    (["--type", "a", "--context", "{}", "--at", "2026-01-01T12:00:00"], "/at"),
    (["--type", "fl_client_training", "--context", "{}", "--at", "9999-12-31T23:59:59-12:00"], "/at"),
    (["--type", "a", "--context", "{}", "--policy-file", "nowhere.json"], "cannot read `nowhere.json`"),
    (["--type", "a"], "--context"),
    (["--context", "{}"], "--type"),
]


@pytest.mark.parametrize("command", ["check", "explain"])
@pytest.mark.parametrize(("arguments", "said"), REFUSED)
def test_what_cannot_be_decided(policy_file: Path, command: str, arguments: list[str], said: str) -> None:
    result = run(policy_file, command, *arguments)
    assert result.exit_code == 2, (result.output, result.exception)
    assert said in result.stderr
    assert result.stdout == ""


def test_a_refused_policy_file(policy_file: Path) -> None:
    policy_file.write_text('{"policies": [{"id": "a", "type": "b", "rules": [{"action": "denny"}]}]}')
    result = run(policy_file, "check", "--type", "b", "--context", "{}")
    assert result.exit_code == 2
    assert "/policies/0/rules/0/action" in result.output
    assert "the policy file is refused" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "given", "variables", "code", "said"),
    [
        (["--context", WEB], b"", {}, 0, "allow (rule_allow)"),
        (["--context", SSH], b"", {}, 1, "deny (rule_deny)"),
        (["--context", "-"], WEB.encode(), {}, 0, "allow (rule_allow)"),
        (["--context", "@bad.json"], b"", {}, 2, "bad.json"),
        (["--context", "-"], b'{"a": "\xff"}', {}, 2, "UTF-8"),
        (["--context", WEB], b"", {"NODE_IP_FL_SERVER": "bogus"}, 2, "NODE_IP_FL_SERVER"),
        (["--context", WEB], b"", {"POLICY_TIMEZONE": "Mars"}, 2, "POLICY_TIMEZONE"),
        (["--context", WEB], b"", {"POLICY_CONFIG": "nowhere.json"}, 2, "nowhere.json"),
    ],
)
def test_the_command(  # noqa: PLR0917 - fixtures
    tmp_path: Path,
    policy_file: Path,
    arguments: list[str],
    given: bytes,
    variables: dict[str, str],
    code: int,
    said: str,
) -> None:
    (tmp_path / "bad.json").write_bytes(b'{"a": "\xff"}')
    variables = {"POLICY_FILE": str(policy_file), **variables}
    done = start(tmp_path, "check", "--type", "network_security", *arguments, given=given, **variables)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert said in (done.stderr if code == 2 else done.stdout)


def test_without_any_file_the_packaged_policies_decide(tmp_path: Path) -> None:
    done = start(tmp_path, "check", "--type", "network_security", "--context", '{"protocol": "arp"}')
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ((), ("Exit codes: 0", "First steps", "serve", "validate", "check", "explain")),
        (("check",), ("Exit code 0", "1 when", "2 when", "@FILE", "standard input", "--at")),
        (("explain",), ("Exit codes", "every rule", "--at")),
        (("validate",), ("Exit code 0", "1 when", "2 when", "--strict")),
        (("serve",), ("POLICY_PORT", "POLICY_ADMIN_KEY", "default: 5000", "Exit code")),
    ],
)
def test_help_teaches(command: tuple[str, ...], words: tuple[str, ...]) -> None:
    for flag in ("--help", "-h"):
        result = CliRunner().invoke(main, [*command, flag])
        assert result.exit_code == 0
        text = " ".join(result.stdout.split())
        assert [word for word in words if word not in text] == []


def test_version() -> None:
    result = CliRunner().invoke(main, ["--version"])
    assert result.exit_code == 0
    assert result.stdout.startswith("policy-engine, version ")


@pytest.mark.parametrize(
    "arguments", [["sevre"], ["check", "--tpye", "a"], ["serve", "--port", "x"], ["serve", "--log-level", "LOUD"]]
)
def test_mistyped_commands(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert arguments[-1] in result.stderr or "--type" in result.stderr


def test_functions_are_asked(policy_file: Path, tmp_path: Path) -> None:
    directory = tmp_path / "functions"
    directory.mkdir()
    (directory / "judge.py").write_text("def judge(context): return {'allowed': context['n'] > 1}")
    policy_file.write_text(json.dumps({"policies": [{"id": "f", "type": "door", "function_id": "judge"}]}))
    asked = ("check", "--type", "door", "--json", "--context")
    for n, code in ((2, "function_allow"), (1, "function_deny")):
        result = run(policy_file, *asked, json.dumps({"n": n}), POLICY_FUNCTIONS_DIR=str(directory))
        assert json.loads(result.stdout)["reason_code"] == code
    (directory / "judge.py").write_text("def judge(context): return x")
    assert run(policy_file, *asked, "{}", POLICY_FUNCTIONS_DIR=str(directory)).exit_code == 2
    assert json.loads(run(policy_file, *asked, "{}").stdout)["reason_code"] == "function_error"
