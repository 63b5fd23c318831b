"""The long versions of the crash tests carry a marker; services that a test started are ended, however it ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite(*(f"tests.crash.{name}" for name in ("load", "rounds", "stored", "trial", "writers")))

from tests.crash.killing import Services  # noqa: E402 - behind what makes failed assertions speak
from tests.crash.server import Server, running_server  # noqa: E402


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "crash: long tests that kill, starve and cut off the real service")


@pytest.fixture
def started(tmp_path: Path, policy_file: Path) -> Iterator[Services]:
    """Starts services, and may start them again on the same data."""
    services = Services(tmp_path, policy_file)
    yield services
    services.stop()


@pytest.fixture
def server() -> Iterator[Server]:
    with running_server() as running:
        yield running
