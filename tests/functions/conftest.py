"""A sandbox for the tests of one process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from policy_engine.functions.monty import MontySandbox


@pytest.fixture(scope="session")
def sandbox() -> Iterator[MontySandbox]:
    """A sandbox that all tests of a process share: no call knows of another one."""
    shared = MontySandbox(2)
    yield shared
    shared.close()
