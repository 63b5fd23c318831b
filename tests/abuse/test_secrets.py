"""Secrets stay secret: a service is driven with some through every place, and none comes out anywhere."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from tests.conftest import DOCUMENT
from tests.databases import empty_database, running_postgres
from tests.http.test_access import REQUESTS
from tests.http.test_routes import CASES, PLACEHOLDER
from tests.postgres import Postgres
from tests.service.running import COMMAND, Running, environment, eventually

ADMIN, GUESS, DATABASE, TOKEN, PASSWORD = CANARIES = tuple(
    f"canary-{name}-5f1d" for name in ("admin", "guess", "database", "token", "password")
)
CONTEXT = {
    "protocol": "tcp",
    "dst_port": 22,
    "password": PASSWORD,
    "api_key": PASSWORD,
    "nested": {"access_token": PASSWORD, "list": [{"secret": PASSWORD}]},
    "diagnosis": PASSWORD,
}


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with empty_database("postgresql", tmp_path, request) as url:
        assert "postgres:@" in url
        yield url.replace("postgres:@", f"postgres:{DATABASE}@")


def start(directory: Path, database: str) -> Running:
    for name, content in (("policies.json", json.dumps(DOCUMENT)), ("admin", ADMIN), ("database", database)):
        (directory / name).write_text(content)
    settings = {
        "POLICY_FILE": str(directory / "policies.json"),
        "POLICY_ADMIN_KEY_FILE": str(directory / "admin"),
        "POLICY_DATABASE_FILE": str(directory / "database"),
        "POLICY_MASKED_FIELDS": "diagnosis",
        "LOG_LEVEL": "DEBUG",
    }
    return Running.start(directory, settings)


def drive(running: Running) -> list[str]:
    """Send secrets to every route, as keys, as tokens and in requests; return everything that was answered."""
    heads = [
        {"X-API-Key": ADMIN},
        {"X-API-Key": GUESS},
        {"Authorization": f"Bearer {TOKEN}"},
        {"Authorization": f"Basic {TOKEN}", "Cookie": f"session={TOKEN}"},
    ]
    said = []
    for route, case in CASES.items():
        method, path = route.split(maxsplit=1)
        for headers in heads:
            answer = running.request(method, PLACEHOLDER.sub("2", path), case.body, headers=headers)
            said.append(f"{answer.headers} {answer.body.decode()}")
    for method, path, body in REQUESTS.values():
        answer = running.request(method, path, body, headers={"X-API-Key": GUESS})
        said.append(f"{answer.headers} {answer.body.decode()}")
    for explain in (False, True):
        check = {"policy_type": "network_security", "context": CONTEXT, "explain": explain}
        running.request("POST", "/api/v1/check", check, headers={"Authorization": f"Bearer {TOKEN}"})
        batch = {"policy_type": "network_security", "contexts": [CONTEXT], "explain": explain}
        said.append(running.request("POST", "/api/v1/check/batch", batch).body.decode())
    looked = ("/events", "/api/v1/decisions", "/api/v1/revisions", "/readyz", "/api/v1/freeze")
    return said + [running.request("GET", path, headers={"X-API-Key": ADMIN}).body.decode() for path in looked]


def arguments_and_environments(running: Running) -> str:
    """What everybody on the machine can read of the service's processes."""
    own = [path for path in Path("/proc").glob("[0-9]*") if _session(path) == running.process.pid]
    assert own
    return "".join((path / "cmdline").read_bytes().decode() + (path / "environ").read_bytes().decode() for path in own)


def _session(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[3])
    except OSError:
        return 0


def test_none_comes_out(tmp_path: Path, database: str) -> None:
    running = start(tmp_path, database)
    try:
        said = drive(running)
        eventually(lambda: running.get("/api/v1/decisions")["decisions"], "decisions are on the disk")
        said.append(arguments_and_environments(running))
    finally:
        running.stop()
    said.append(running.log())
    assert "serving" in said[-1]
    for secret in CANARIES:
        for form in (secret, quote(secret), secret.encode().hex()):
            assert not [text[:500] for text in said if form in text], f"{form} came out"


def test_none_is_in_the_files(tmp_path: Path) -> None:
    running = start(tmp_path, f"sqlite:///{tmp_path}/kept.db")
    try:
        drive(running)
    finally:
        running.stop()
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.name not in {"admin", "database"}]
    assert tmp_path / "kept.db" in files
    for path in files:
        content = path.read_bytes()
        assert not [secret for secret in CANARIES if secret.encode() in content], path


def test_a_database_that_cannot_be_had_is_named_without_its_password(tmp_path: Path) -> None:

    (tmp_path / "database").write_text(f"postgresql://engine:{DATABASE}@127.0.0.1:1/none")
    for settings in (
        {"POLICY_DATABASE_FILE": str(tmp_path / "database")},
        {"POLICY_DATABASE": f"postgresql://engine:{DATABASE}@127.0.0.1:1/none"},
        {"POLICY_DATABASE": f"oracle://engine:{DATABASE}@127.0.0.1:1/none"},
        {"POLICY_DATABASE": f"postgresql://engine:{DATABASE}@[/none"},
    ):
        done = subprocess.run(
            [*COMMAND, "serve", "--data-dir", str(tmp_path / "data"), "--port", "1"],
            env=environment(**settings),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 2, done.stderr
        assert DATABASE not in done.stdout + done.stderr
