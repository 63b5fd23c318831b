"""Patience with the disk."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for a disk that others are busy with for longer than callers of the service are made to."""
    monkeypatch.setattr("policy_engine.store.writer.MAX_WAIT_SECONDS", 2.0)
