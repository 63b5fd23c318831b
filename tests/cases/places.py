"""Where the policy files are that tests read."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OWN = ROOT / "config" / "policies" / "policies.json"


def policy_file(name: str) -> Path:
    """Return a policy file of the project, or one of FLOPY-NET's (`flopynet/...`); skip the test where it is not."""
    path = ROOT.parent / "shared" / "data" / name if "/" in name else OWN.parent / name
    if not path.exists():
        pytest.skip(f"{name} is not here")
    return path
