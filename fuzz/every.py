"""Every target, by its name: what defines one registers it when it is imported."""

from __future__ import annotations

import fuzz.credentials  # noqa: F401 - it registers its targets
from fuzz.targets import TARGETS

__all__ = ["TARGETS"]
