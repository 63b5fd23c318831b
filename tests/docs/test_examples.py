"""What the pages show works."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient
from tests.docs.generate import ROOT
from tests.docs.pages import Block, blocks

from policy_engine import PolicyEngine
from policy_engine.cli.main import main
from policy_engine.config import ENVIRONMENT, Settings, load_settings
from policy_engine.http.app import create_app
from policy_engine.keyring import make_first_key
from policy_engine.language.document import read_document
from policy_engine.service import PolicyService
from policy_engine.store.api_keys import ApiKeys
from policy_engine.store.options import DEFAULT_TENANT


def _name(block: Block) -> str:
    return block.place


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand where the pages stand, with no settings from the environment."""
    monkeypatch.chdir(ROOT)
    for variable in (*ENVIRONMENT, "POLICY_CONFIG"):
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize("block", blocks("json"), ids=_name)
def test_json_parses_and_policies_are_accepted(block: Block) -> None:
    value = json.loads(block.text)
    if "policies" in value and isinstance(value["policies"], dict | list):
        read_document(value)
    elif "rules" in value and isinstance(value["rules"], list):
        read_document({"policies": [{"id": "example", **value}]})


_SETTINGS = ("docs/settings.md", "docs/operations.md", "docs/security.md")


def test_example_settings_are_accepted(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("a key of sixteen letters and more")
    shown = [json.loads(block.text) for block in blocks("json", pages=_SETTINGS)]
    assert len(shown) == 5
    for settings in shown:
        file = tmp_path / "config.json"
        file.write_text(
            json.dumps({**settings, **({"admin_key_file": str(key)} if "admin_key_file" in settings else {})})
        )
        loaded = load_settings({}, config_file=str(file))
        assert not loaded.warnings
        PolicyEngine.from_file("config/policies/policies.json", components=loaded.settings.components)


@pytest.mark.parametrize("block", blocks("python"), ids=_name)
def test_python_prints_what_it_says(block: Block) -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block.text, block.place, "exec"), {"__name__": "example"})  # noqa: S102 - our own page
    said = re.findall(r"^print\(.*\)  # (.*)$", block.text, re.MULTILINE)
    assert printed.getvalue().splitlines() == said


@pytest.mark.parametrize("block", blocks("console"), ids=_name)
def test_commands_print_what_is_shown(block: Block) -> None:
    command, _, shown = block.text.removeprefix("$ policy-engine ").partition("\n")
    assert CliRunner().invoke(main, shlex.split(command)).output == shown


def _commands(block: Block) -> list[list[str]]:
    """Return the commands of a shell block as words."""
    text = re.sub(r"(^|\s+)# .*$", "", block.text.replace("\\\n", " "), flags=re.MULTILINE)
    lexer = shlex.shlex(text, posix=True, punctuation_chars="|&;\n")
    lexer.whitespace = " \t"
    lexer.whitespace_split = True
    found: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set("|&;\n"):
            found.append([])
        else:
            found[-1].append(word)
    return [words for words in found if words]


SHELL = blocks("sh")


@pytest.mark.parametrize("block", SHELL, ids=_name)
def test_shell_commands_exist(block: Block) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for program, *arguments in _commands(block):
        if program == "make":
            assert f"\n{arguments[0]}:" in makefile
            flags = next((word.removeprefix("ARGS=") for word in arguments if word.startswith("ARGS=")), "")
            if arguments[0] == "run":
                _check_options("serve", shlex.split(flags))
        elif program == ".venv/bin/policy-engine":
            _check_options(arguments[0], arguments[1:])
        else:
            assert program in {"curl", "cp", "sed", "echo", "export"}


def _check_options(name: str, arguments: list[str], group: click.Group = main) -> None:
    """Parse the arguments of a command without running it."""
    command = group.get_command(click.Context(group), name)
    assert command is not None, name
    if isinstance(command, click.Group):
        _check_options(arguments[0], arguments[1:], command)
        return
    parent = click.Context(main, **main.context_settings)  # click remembers the options for help of the first context
    with command.make_context(name, list(arguments), parent=parent) as context:
        assert isinstance(context, click.Context)


_SERVICE = "http://127.0.0.1:5000"


class Request(NamedTuple):
    """What a curl command asks."""

    method: str
    path: str
    headers: dict[str, str]
    body: str | None


def _requests(block: Block) -> list[Request]:
    found = []
    for program, *arguments in _commands(block):
        url = next((word for word in arguments if word.startswith(_SERVICE)), None)
        if program == "curl" and url is not None:
            body = next(iter(_values("-d", arguments)), None)
            method = next(iter(_values("-X", arguments)), "POST" if body else "GET")
            headers = dict(header.split(": ", 1) for header in _values("-H", arguments))
            found.append(Request(method, url.removeprefix(_SERVICE), headers, body))
    return found


def _with(key: str, headers: dict[str, str]) -> dict[str, str]:
    return {name: value.replace("$POLICY_KEY", key) for name, value in headers.items()}


def _values(flag: str, arguments: list[str]) -> list[str]:
    return [value for before, value in pairwise(arguments) if before == flag]


def _within(shown: Any, real: Any, *, key: str = "") -> bool:
    """Whether an answer has what is shown of it; what differs from time to time only has to be there."""
    if key in _VARIES or re.search(r"_at$", key) or _is_made(shown):
        return type(shown) is type(real)
    if isinstance(shown, dict):
        return isinstance(real, dict) and all(
            name in real and _within(shown[name], real[name], key=name) for name in shown
        )
    if isinstance(shown, list):
        return len(shown) == len(real) and all(map(_within, shown, real))
    return bool(shown == real)


def _is_made(value: Any) -> bool:
    """Whether a value is one that is made anew each time: a UUID, an API key or its prefix."""
    return isinstance(value, str) and re.fullmatch(_MADE, value) is not None


_MADE = r"(.* \(key )?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(, .*\))?|[0-9a-f]{12}|pe_[0-9a-f]{12}_[\w-]{43}"


_VARIES = {
    "decision_id",
    "request_id",
    "event_id",
    "last_event_id",
    "timestamp",
    "valid_until",
    "evaluation_time_ms",
    "revision_digest",
    "policy_version",
    "version",
    "total",
    "time",
    "digest",
}


@pytest.mark.parametrize("page", ["README.md", "docs/http.md"])
def test_requests_are_answered_as_shown(page: str, tmp_path: Path) -> None:
    service = PolicyService(Settings(data_dir=str(tmp_path), policy_file="config/policies/policies.json"))
    try:
        key = make_first_key(ApiKeys(service.store.database, DEFAULT_TENANT, service.store.writer))
        assert key is not None
        service.keys.refresh()
        _compare(page, create_app(service).test_client(), key)
    finally:
        service.stop()


def _compare(page: str, client: FlaskClient, key: str) -> None:
    """Ask what the page asks, with the key that the first start prints, and compare the answers."""
    answer: Any = None
    compared = 0
    for block in blocks("sh", "json", pages=(page,)):
        if block.language == "sh":
            for asked in _requests(block):
                response = client.open(
                    asked.path, method=asked.method, headers=_with(key, asked.headers), data=asked.body
                )
                assert response.status_code < 300, f"{block.place}: {response.get_data(as_text=True)}"
                answer = json.loads(response.data)
        elif answer is not None:
            shown = json.loads(block.text)
            assert _within(shown, answer), f"{block.place}: {json.dumps(answer, indent=2)}"
            answer = None
            compared += 1
    assert compared
