"""Timestamps and durations: reading, writing and taking apart. Their precision is the microsecond."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

from policy_engine.language.condition.errors import EvaluationError
from policy_engine.language.condition.value import checked_duration, name_of, wrong_type

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
SECOND = timedelta(seconds=1)

_TIMESTAMP = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt](\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?(?:[Zz]|([+-]\d{2}:\d{2}))", re.ASCII
)
_DURATION = re.compile(r"[+-]?(?:0|(?:(?:\d+\.?\d*|\.\d+)(?:h|ms|m|s|us|ns))+)", re.ASCII)
_DURATION_PART = re.compile(r"(\d*)\.?(\d*)(h|ms|m|s|us|ns)", re.ASCII)
_NANOSECONDS = {"h": 3_600_000_000_000, "m": 60_000_000_000, "s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
_MAX_DURATION_TEXT = 100
_OFFSET = re.compile(r"([+-]?)(\d{2}):([0-5]\d)", re.ASCII)
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+\-]*(?:/[A-Za-z0-9_+\-]+)*", re.ASCII)
_MAX_ZONE_TEXT = 64
_ZONES_OF_THE_MACHINE = frozenset({"localtime", "posixrules"})
_HOURS_OF_A_DAY = 24


def parse_timestamp(text: str, attribute: str | None) -> datetime:
    """Return the timestamp written in RFC 3339, in UTC; digits below the microsecond are cut off."""
    found = _TIMESTAMP.fullmatch(text)
    if found is None:
        raise EvaluationError("invalid_argument", attribute, "not a timestamp in RFC 3339")
    date, time, fraction, offset = found.groups()
    try:
        moment = datetime.fromisoformat(f"{date}T{time}.{(fraction or '0')[:6].ljust(6, '0')}{offset or '+00:00'}")
        return moment.astimezone(UTC)
    except ValueError:
        raise EvaluationError("invalid_argument", attribute, "not a timestamp in RFC 3339") from None
    except OverflowError:
        raise EvaluationError("overflow", attribute, "the timestamp is out of range") from None


def timestamp_of_seconds(seconds: int, attribute: str | None) -> datetime:
    """Return the timestamp so many seconds after 1970."""
    try:
        return EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        raise EvaluationError("overflow", attribute, "the timestamp is out of range") from None


def parse_duration(text: str, attribute: str | None) -> timedelta:
    """Return the duration written like `1h30m` or `-1.5s`; what is below the microsecond is cut off."""
    if len(text) > _MAX_DURATION_TEXT or _DURATION.fullmatch(text) is None:
        raise EvaluationError("invalid_argument", attribute, "not a duration such as `1h30m`")
    total = 0
    for whole, fraction, unit in _DURATION_PART.findall(text):
        nanoseconds = _NANOSECONDS[unit]
        total += int(whole or "0") * nanoseconds + int(fraction or "0") * nanoseconds // 10 ** len(fraction)
    try:
        duration = timedelta(microseconds=total // 1000)
    except OverflowError:
        raise EvaluationError("overflow", attribute, "the duration is out of range") from None
    return checked_duration(-duration if text.startswith("-") else duration, attribute)


def format_timestamp(value: datetime) -> str:
    """Return a timestamp in RFC 3339, in UTC, with 0, 3 or 6 digits behind the second."""
    text = f"{value.year:04}-{value.month:02}-{value.day:02}T{value.hour:02}:{value.minute:02}:{value.second:02}"
    return f"{text}{_fraction(value.microsecond)}Z"


def format_duration(value: timedelta) -> str:
    """Return a duration in seconds with 0, 3 or 6 digits behind the point."""
    seconds, microseconds = divmod(abs(value) // MICROSECOND, 1_000_000)
    return f"{'-' if value < timedelta(0) else ''}{seconds}{_fraction(microseconds)}s"


def _fraction(microseconds: int) -> str:
    if microseconds == 0:
        return ""
    return f".{microseconds // 1000:03}" if microseconds % 1000 == 0 else f".{microseconds:06}"


def whole_seconds(value: datetime) -> int:
    """Return the seconds since 1970, rounded down."""
    return (value - EPOCH) // SECOND


@lru_cache(maxsize=512)
def _zone(text: str) -> tzinfo | None:
    """Return the time zone of that name or offset, or None."""
    found = _OFFSET.fullmatch(text)
    if found is not None:
        sign, hours, minutes = found.groups()
        if int(hours) >= _HOURS_OF_A_DAY:
            return None
        offset = timedelta(hours=int(hours), minutes=int(minutes))
        return timezone(-offset if sign == "-" else offset)
    if len(text) > _MAX_ZONE_TEXT or _ZONE.fullmatch(text) is None or text in _ZONES_OF_THE_MACHINE:
        return None
    try:
        return ZoneInfo(text)
    except (KeyError, ValueError, OSError):  # no such zone; a folder of zones
        return None


def _weekday(value: datetime) -> int:
    return value.isoweekday() % 7


_PARTS: dict[str, Callable[[datetime], int]] = {
    "getFullYear": lambda value: value.year,
    "getMonth": lambda value: value.month - 1,
    "getDate": lambda value: value.day,
    "getDayOfMonth": lambda value: value.day - 1,
    "getDayOfYear": lambda value: value.timetuple().tm_yday - 1,
    "getDayOfWeek": _weekday,
    "getHours": lambda value: value.hour,
    "getMinutes": lambda value: value.minute,
    "getSeconds": lambda value: value.second,
    "getMilliseconds": lambda value: value.microsecond // 1000,
}

_DURATION_UNITS = {
    "getHours": timedelta(hours=1),
    "getMinutes": timedelta(minutes=1),
    "getSeconds": SECOND,
    "getMilliseconds": timedelta(milliseconds=1),
}


def _accessor(name: str) -> Callable[..., int]:
    part, unit = _PARTS[name], _DURATION_UNITS.get(name)

    def access(attribute: str | None, value: Any, zone: Any = None, /) -> int:
        if type(value) is datetime:
            return part(value if zone is None else _at(attribute, value, zone))
        if type(value) is timedelta and unit is not None and zone is None:
            whole = abs(value) // unit
            if name == "getMilliseconds":
                whole %= 1000
            return -whole if value < timedelta(0) else whole
        raise wrong_type(attribute, f"`{name}` cannot take {name_of(value)}")

    return access


def _at(attribute: str | None, value: datetime, zone: object) -> datetime:
    if type(zone) is not str:
        raise wrong_type(attribute, f"a time zone is a string, found {name_of(zone)}")
    found = _zone(zone)
    if found is None:
        raise EvaluationError("invalid_argument", attribute, "no such time zone")
    try:
        return value.astimezone(found)
    except OverflowError:
        raise EvaluationError("overflow", attribute, "the timestamp is out of range") from None


ACCESSORS: Mapping[str, Callable[..., int]] = MappingProxyType({name: _accessor(name) for name in _PARTS})
"""`getHours` and its family: each takes the attribute to blame, the value and, for timestamps, a time zone."""
