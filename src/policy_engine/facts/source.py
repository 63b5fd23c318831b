"""Where facts come from."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Protocol


class FactSource(Protocol):
    """Something that knows facts.

    Attributes:
        names: The facts it may know.
    """

    names: frozenset[str]

    def add(self, facts: dict[str, Any], wanted: frozenset[str], context: dict[str, Any], now: datetime) -> None:
        """Add to `facts` those of the wanted names that are known for this request; leave out what is not known.

        Args:
            facts: The facts so far; only names of this source may be added.
            wanted: The names that the policies of the request's type read.
            context: The normalised context of the request.
            now: The time of the check.
        """
