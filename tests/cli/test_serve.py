"""`policy-engine serve`: how it starts, and how it says that it cannot."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from sqlite3 import connect

import pytest
from tests.bundle.making import EVE, present, public_key
from tests.conftest import Processes, Services
from tests.service.running import COMMAND, DEADLINE_SECONDS, environment, eventually, free_port

Start = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def serve(tmp_path: Path, policy_file: Path) -> Start:
    """Runs the command until it ends; one that serves instead fails the test at the deadline."""

    def run(*flags: str, **variables: str) -> subprocess.CompletedProcess[str]:
        ports = [] if "--port" in flags else ["--port", str(free_port()), "--metrics-port", str(free_port())]
        return subprocess.run(
            [*COMMAND, "serve", *ports, "--data-dir", str(tmp_path / "data"), *flags],
            env=environment(POLICY_FILE=str(policy_file), **variables),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
            check=False,
        )

    return run


def refused(done: subprocess.CompletedProcess[str], *said: str) -> None:
    assert done.returncode == 2, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("policy-engine: ")
    for word in said:
        assert word in last


def test_a_refused_policy_file(serve: Start, policy_file: Path) -> None:
    policy_file.write_text('{"policies": [{"id": "a", "type": "b", "rules": [{"action": "denny"}]}]}')
    done = serve()
    refused(done, str(policy_file), "refused")
    assert "/policies/0/rules/0/action" in done.stdout + done.stderr
    assert "did you mean `deny`?" in done.stdout + done.stderr


@pytest.fixture
def signed(tmp_path: Path) -> dict[str, str]:
    """The environment of a service that begins with a signed bundle."""
    (tmp_path / "bundle.json").write_bytes(present())
    return {
        "POLICY_BUNDLE_SOURCE": str(tmp_path / "bundle.json"),
        "POLICY_BUNDLE_KEYS": public_key(tmp_path),
        "POLICY_BUNDLE_POLL_SECONDS": "0.05",
        "POLICY_REQUIRE_SIGNATURES": "1",
    }


def test_a_refused_bundle(serve: Start, tmp_path: Path, signed: dict[str, str]) -> None:
    (tmp_path / "bundle.json").write_bytes(present(EVE))
    refused(serve(**signed), "refused (unknown_key)", EVE.public.key_id)
    (tmp_path / "bundle.json").unlink()
    refused(serve(**signed), "bundle.json", "No such file")
    refused(serve(**{**signed, "POLICY_BUNDLE_KEYS": str(tmp_path / "nope.pem")}), "nope.pem")
    refused(serve(**{**signed, "POLICY_BUNDLE_KEYS": ""}), "bundle_keys")


def test_a_key_for_bundles_that_is_gone(serve: Start, services: Services, signed: dict[str, str]) -> None:
    """It would keep every worker from starting, so it is found out before, whatever the store holds."""
    services().stop()
    Path(signed["POLICY_BUNDLE_KEYS"]).unlink()
    refused(serve(**signed), signed["POLICY_BUNDLE_KEYS"])


def test_bundles_reach_all_workers(processes: Processes, tmp_path: Path, signed: dict[str, str]) -> None:
    running = processes(POLICY_WORKERS="2", **signed)
    eventually(lambda: running.readiness()["policy_version"] == 1, "the first bundle is in force")
    (tmp_path / "bundle.json").write_bytes(present(version=2, port=443))
    eventually(
        lambda: {running.readiness()["policy_version"] for _ in range(10)} == {2}, "the second is in force everywhere"
    )
    (tmp_path / "bundle.json").write_bytes(present(EVE, version=3, port=22))
    eventually(lambda: {running.readiness()["status"] for _ in range(10)} == {"degraded"}, "both refuse the forged one")
    assert running.request("DELETE", "/policies/web").status == 403
    types = [event["event_type"] for event in running.get("/events")["events"]]
    assert (types.count("BUNDLE_ACTIVATED"), types.count("BUNDLE_REFUSED")) == (2, 1)
    assert running.stop() == 0
    (tmp_path / "bundle.json").write_bytes(present())
    running = processes(**signed)
    eventually(lambda: running.readiness()["status"] == "degraded", "the old one is refused after a restart")
    assert running.readiness()["policy_version"] == 2
    assert "replayed" in running.readiness()["reasons"][0]["detail"]


def test_a_missing_policy_file(serve: Start, policy_file: Path) -> None:
    policy_file.unlink()
    refused(serve(), str(policy_file), "No such file")


@pytest.mark.parametrize("taken", ["--port", "--metrics-port"])
def test_a_port_that_is_taken(serve: Start, taken: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        flags = {"--port": str(free_port()), "--metrics-port": str(free_port()), taken: port}
        refused(serve(*(part for flag in flags.items() for part in flag)), f"127.0.0.1:{port}", "in use")


def test_one_port_for_both(serve: Start) -> None:
    port = str(free_port())
    refused(serve("--port", port, "--metrics-port", port), port)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"POLICY_TIMEZONE": "Mars/Olympus"}, ("`timezone`", "`POLICY_TIMEZONE`", "Mars/Olympus")),
        ({"POLICY_THREADS": "many"}, ("`threads`", "`POLICY_THREADS`")),
        ({"POLICY_CONFIG": "nowhere.json"}, ("nowhere.json",)),
        ({"POLICY_ADMIN_KEY_FILE": "nowhere"}, ("admin_key_file", "nowhere")),
        ({"NODE_IP_FL_SERVER": "bogus"}, ("NODE_IP_FL_SERVER", "bogus")),
        ({"LOG_FILE": "policies.json/log"}, ("log",)),
    ],
)
def test_a_setting_that_cannot_be_used(serve: Start, variables: dict[str, str], said: tuple[str, ...]) -> None:
    refused(serve(**variables), *said)


def test_a_data_directory_that_cannot_be_used(serve: Start, policy_file: Path) -> None:
    refused(serve("--data-dir", str(policy_file)), "data directory", str(policy_file))


def test_a_database_that_is_something_else(serve: Start, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "policy-engine.db").write_text("{" * 5000)
    refused(serve(), "policy-engine.db", "not a database")


@pytest.mark.parametrize(
    ("url", "said"), [("mysql://localhost/x", "mysql"), ("postgresql://localhost:1/x", "refused"), ("nonsense", "URL")]
)
def test_a_database_that_cannot_be_used(serve: Start, url: str, said: str) -> None:
    refused(serve("--database", url), said)


def test_a_stored_policy_that_was_altered(serve: Start, services: Services, tmp_path: Path) -> None:
    services.end(services())
    with closing(connect(tmp_path / "data" / "policy-engine.db")) as database, database:
        database.execute("UPDATE part SET document = replace(document, '8080', '8081')")
    refused(serve(), "revision 2", "altered")


def test_an_address_that_is_not_here(serve: Start) -> None:
    refused(serve("--host", "192.0.2.1"), "192.0.2.1")


def test_what_it_says_when_it_serves(processes: Processes, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"prot": 1, "node_ip_fl_server": "10.0.0.1"}')
    running = processes(POLICY_CONFIG="config.json", LOG_FILE="logs/policy-engine.log")
    assert "did you mean `port`?" in running.log()
    line = f"serving 3 policies as version {running.readiness()['policy_version']} on http://127.0.0.1:{running.port}"
    assert line in running.log()
    assert line in (tmp_path / "logs" / "policy-engine.log").read_text()
