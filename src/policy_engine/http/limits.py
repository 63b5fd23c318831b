"""What the skin limits: changes, and keys that are not valid, by who sends them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policy_engine.config import Settings
from policy_engine.http.access import Access
from policy_engine.rate import address_key, rate_limit

_SHOWN = frozenset({"HTTP_AUTHORIZATION", "HTTP_X_API_KEY"})
"""The headers in which a key is shown."""


class Limits:
    """Counts changes and failed logins."""

    def __init__(self, settings: Settings, access: Access) -> None:
        self._access = access
        self._writes = rate_limit(settings.rate_limit_writes, "changes")
        self._logins = rate_limit(settings.rate_limit_logins, "keys that are not valid")

    def count_write(self, environ: Mapping[str, Any]) -> None:
        """Count a change that is allowed otherwise.

        Raises:
            RateLimitedError: It is one too many.
        """
        if self._writes is not None:
            self._writes.take(self._access.cause(environ).author)

    def count_login(self, environ: Mapping[str, Any]) -> None:
        """Count a key that is shown and is not valid; once there were too many, none is looked at for a while.

        Raises:
            RateLimitedError: There were too many.
        """
        if self._logins is None or _SHOWN.isdisjoint(environ):
            return
        address = address_key(environ.get("REMOTE_ADDR", ""))
        self._logins.check(address)
        if not self._access.is_trusted(environ):
            self._logins.take(address)
