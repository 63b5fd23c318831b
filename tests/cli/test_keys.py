"""`policy-engine keys`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.conftest import Services
from tests.service.running import eventually

from policy_engine.cli.keys import keys
from policy_engine.http.app import create_app


@pytest.fixture(autouse=True)
def store(services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    services.end(services())
    monkeypatch.chdir(tmp_path)
    for variable in ("POLICY_DATABASE", "POLICY_DATA_DIR"):
        monkeypatch.delenv(variable, raising=False)


def run(*arguments: str) -> Any:
    return CliRunner().invoke(keys, arguments)


def listed() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run("list", "--json").stdout)
    return found


def test_a_key_that_is_made_here_is_good_there(services: Services) -> None:
    service = services(trusted_networks=())
    made = run("create", "site 1", "--role", "client", "--client-id", "s", "--expires-in-days", "2")
    assert made.exit_code == 0, made.output
    text = made.stdout.strip()
    (key,) = listed()
    assert text not in run("list").output
    assert (key["name"], key["roles"], key["client_id"]) == ("site 1", ["client"], "s")
    assert key["expires_at"] == pytest.approx(time.time() + 2 * 86_400, abs=600)
    client = create_app(service).test_client()

    def status() -> int:
        service.keys.refresh()
        return client.get("/api/v1/whoami", headers={"X-API-Key": text}).status_code

    eventually(lambda: status() == 200, "the service knows the key")
    assert run("revoke", key["key_id"]).exit_code == 0
    eventually(lambda: status() == 401, "the service refuses the key")
    assert "revoked" in run("list").stdout
    types = {event.event_type for event in service.events.page().events}
    assert {"KEY_CREATED", "KEY_REVOKED"} <= types


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("x",), "--role"),
        (("x", "--role", "root"), "root"),
        (("x", "--role", "client"), "needs the id"),
        (("x", "--role", "viewer", "--client-id", "c"), "only the role"),
        (("", "--role", "viewer"), "a name has"),
        (("a\nb", "--role", "viewer"), "a name has"),
        (("x", "--role", "viewer", "--expires-in-days", "0"), "expires-in-days"),
        (("x", "--role", "viewer", "--data-dir", "nowhere"), "no database"),
    ],
)
def test_what_is_refused(arguments: tuple[str, ...], said: str) -> None:
    result = run("create", *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert listed() == []


def test_a_key_that_is_not_there() -> None:
    result = run("revoke", "nope")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no key `nope`" in result.stderr
