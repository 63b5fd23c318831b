"""Policies to work with, services in this process, the real service as a process, and patience with the disk."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from tests.service.running import Running

from policy_engine.config import Settings
from policy_engine.http.app import create_app
from policy_engine.service import PolicyService

DOCUMENT: dict[str, Any] = {
    "version": 1,
    "policies": {
        "web": {
            "id": "web",
            "name": "web access",
            "type": "network_security",
            "description": "who reaches the server",
            "priority": 100,
            "enabled": True,
            "rules": [
                {"action": "deny", "description": "no ssh", "match": {"dst_port": 22}, "severity": "high"},
                {"action": "allow", "description": "server", "match": {"protocol": "tcp", "dst_port": 8080}},
            ],
        },
        "night": {
            "id": "night",
            "type": "fl_client_training",
            "rules": [
                {
                    "action": "deny",
                    "description": "nobody trains at night",
                    "counts_against": "client",
                    "match": {"condition": "current_hour < opens"},
                    "parameters": {"opens": 8},
                }
            ],
        },
        "start": {
            "id": "start",
            "type": "fl_client_start",
            "rules": [{"action": "allow", "match": {"operation": "client_registration"}, "parameters": None}],
        },
    },
}


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for a disk that others are busy with for longer than callers of the service are made to."""
    for module in ("intake", "writer"):
        monkeypatch.setattr(f"policy_engine.store.{module}.MAX_WAIT_SECONDS", 3.0)


@pytest.fixture
def document() -> dict[str, Any]:
    """The policies that `policy_file` holds; a copy to change."""
    return copy.deepcopy(DOCUMENT)


@pytest.fixture
def policy_file(tmp_path: Path, document: dict[str, Any]) -> Path:
    path = tmp_path / "policies.json"
    path.write_text(json.dumps(document))
    return path


TRUSTED: dict[str, tuple[str, ...]] = {"trusted_networks": ("127.0.0.0/8", "::1"), "trusted_roles": ("admin",)}
"""What lets tests change everything from this machine without a key."""


class Services:
    """Makes services in this process and stops them."""

    def __init__(self, policy_file: Path, data_dir: Path) -> None:
        files = {"policy_file": str(policy_file), "data_dir": str(data_dir)}
        self._settings = {**files, **TRUSTED, "watch_interval_seconds": 0.05}
        self._made: list[PolicyService] = []

    def __call__(self, **settings: Any) -> PolicyService:
        service = PolicyService(Settings(**{**self._settings, **settings}))
        self._made.append(service)
        return service

    def end(self, service: PolicyService) -> None:
        """Stop one of them."""
        self._made.remove(service)
        service.stop()

    def stop(self) -> None:
        while self._made:
            self._made.pop().stop()


@pytest.fixture
def services(policy_file: Path, tmp_path: Path) -> Iterator[Services]:
    made = Services(policy_file, tmp_path / "data")
    yield made
    made.stop()


@pytest.fixture
def service(services: Services) -> PolicyService:
    return services()


@pytest.fixture
def client(service: PolicyService) -> FlaskClient:
    return create_app(service).test_client()


class Processes:
    """Starts real services and ends them."""

    def __init__(self, directory: Path, policy_file: Path) -> None:
        self._directory = directory
        self._policy_file = policy_file
        self._started: list[Running] = []

    def __call__(self, **environment: str) -> Running:
        running = Running.start(self._directory, {"POLICY_FILE": str(self._policy_file), **environment})
        self._started.append(running)
        return running

    def stop(self) -> None:
        for running in self._started:
            running.stop()


@pytest.fixture
def processes(tmp_path: Path, policy_file: Path) -> Iterator[Processes]:
    started = Processes(tmp_path, policy_file)
    yield started
    started.stop()
