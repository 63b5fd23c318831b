"""The clock's facts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from typing import Any

_READ: dict[str, Callable[[datetime], Any]] = {
    "now": lambda now: now,
    "current_hour": lambda now: now.hour,
    "current_minute": lambda now: now.minute,
    "current_day_of_week": lambda now: now.weekday(),
    "current_timestamp": lambda now: now.timestamp(),
}


class Clock:
    """The time of a check, in one time zone, as facts."""

    names = frozenset(_READ)

    def __init__(self, zone: tzinfo) -> None:
        self.zone = zone

    def add(self, facts: dict[str, Any], wanted: frozenset[str], _context: dict[str, Any], now: datetime) -> None:
        """Add the wanted parts of the time."""
        local = now.astimezone(self.zone)
        for name in wanted & self.names:
            facts[name] = _READ[name](local)

    def steady_until(self, wanted: frozenset[str], now: datetime) -> datetime:
        """Return until when none of the wanted names, of which some are the clock's, changes its value.

        That is `now` itself if one always does.

        Whole hours and days are steady to the end of the minute: offsets of zones are whole minutes.
        """
        if wanted & {"now", "current_timestamp"}:
            return now
        return now.replace(second=0, microsecond=0) + timedelta(minutes=1)
