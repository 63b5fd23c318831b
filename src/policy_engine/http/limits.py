"""How often one caller may change something."""

from __future__ import annotations

from policy_engine.rate import rate_limit


class WriteLimit:
    """Counts changes by who makes them."""

    def __init__(self, text: str) -> None:
        """Begin to count; `text` is a limit such as `600/minute`, empty or `off` for none."""
        self._limit = rate_limit(text, "changes")

    def count(self, author: str) -> None:
        """Count a change that is allowed otherwise.

        Raises:
            RateLimitedError: It is one too many.
        """
        if self._limit is not None:
            self._limit.take(author)
