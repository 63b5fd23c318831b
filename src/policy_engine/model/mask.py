"""Hide secrets before a value is shown or written."""

from __future__ import annotations

import re
from typing import Any

MASK = "***"
_SECRET = re.compile(
    r"password|passwd|passphrase|secret|token|authorization|credential|api_?key|private_?key|cookie|signature",
    re.IGNORECASE,
)


def is_secret(key: str) -> bool:
    """Whether the name of a field says that its value is a secret."""
    return _SECRET.search(key) is not None


def mask(value: Any, *, key: str = "") -> Any:
    """Return a value with every secret in it replaced."""
    if is_secret(key) and value is not None:
        return MASK
    if isinstance(value, dict):
        return {name: mask(item, key=name) for name, item in value.items()}
    if isinstance(value, list):
        return [mask(item) for item in value]
    return value
