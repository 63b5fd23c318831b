"""The time of a check as facts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from policy_engine.facts.clock import Clock
from policy_engine.model.errors import InvalidRequestError
from policy_engine.model.fact import FACTS
from policy_engine.pdp import PolicyEngine

BERLIN = ZoneInfo("Europe/Berlin")
KATHMANDU = ZoneInfo("Asia/Kathmandu")


def facts(zone: tzinfo, at: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    Clock(zone).add(found, Clock.names, {}, datetime.fromisoformat(at))
    return found


@pytest.mark.parametrize(
    ("zone", "at", "hour", "minute", "weekday"),
    [
        (UTC, "2026-01-01T12:34:56Z", 12, 34, 3),
        (UTC, "2026-01-01T00:30:00+01:00", 23, 30, 2),
        (BERLIN, "2026-01-01T12:34:56Z", 13, 34, 3),
        (BERLIN, "2026-07-05T22:00:00Z", 0, 0, 0),
        (BERLIN, "2026-07-05T21:59:59Z", 23, 59, 6),
        (BERLIN, "2026-03-29T00:59:59Z", 1, 59, 6),
        (BERLIN, "2026-03-29T01:00:00Z", 3, 0, 6),
        (BERLIN, "2026-10-25T00:30:00Z", 2, 30, 6),
        (BERLIN, "2026-10-25T01:30:00Z", 2, 30, 6),
        (KATHMANDU, "2026-01-01T18:14:00Z", 23, 59, 3),
        (KATHMANDU, "2026-01-01T18:15:00Z", 0, 0, 4),
        (timezone(timedelta(hours=-3, minutes=-30)), "2026-01-01T00:00:00Z", 20, 30, 2),
    ],
)
def test_hours_and_days_are_those_of_the_zone(zone: tzinfo, at: str, hour: int, minute: int, weekday: int) -> None:
    found = facts(zone, at)
    assert (found["current_hour"], found["current_minute"], found["current_day_of_week"]) == (hour, minute, weekday)


@pytest.mark.parametrize("zone", [UTC, BERLIN, KATHMANDU])
def test_the_instant_is_the_same_everywhere(zone: tzinfo) -> None:
    found = facts(zone, "2026-01-01T12:34:56.5Z")
    assert found["current_timestamp"] == 1767270896.5
    assert found["now"] == datetime(2026, 1, 1, 12, 34, 56, 500_000, tzinfo=UTC)


def test_only_what_is_wanted_is_added() -> None:
    found: dict[str, Any] = {}
    Clock(UTC).add(found, frozenset({"current_hour", "src_type"}), {}, datetime(2026, 1, 1, 7, tzinfo=UTC))
    assert found == {"current_hour": 7}


def test_every_fact_of_the_clock_is_reserved() -> None:
    assert all(FACTS[name].reserved for name in Clock.names)


NOW = datetime(2026, 1, 1, 12, 34, 56, 789, tzinfo=UTC)


@pytest.mark.parametrize(
    ("wanted", "until"),
    [
        ({"now"}, NOW),
        ({"current_timestamp", "current_hour"}, NOW),
        ({"current_hour"}, datetime(2026, 1, 1, 12, 35, tzinfo=UTC)),
        ({"current_day_of_week", "src_type"}, datetime(2026, 1, 1, 12, 35, tzinfo=UTC)),
    ],
)
@pytest.mark.parametrize("zone", [UTC, BERLIN, KATHMANDU])
def test_how_long_the_clock_stands_still(zone: tzinfo, wanted: set[str], until: datetime) -> None:
    assert Clock(zone).steady_until(frozenset(wanted), NOW) == until


@pytest.mark.parametrize("second", range(0, 86400, 1799))
@pytest.mark.parametrize("day", ["2026-03-29", "2026-10-25", "2026-06-01"])
def test_nothing_changes_while_it_stands_still(day: str, second: int) -> None:
    wanted = frozenset({"current_hour", "current_minute", "current_day_of_week"})
    clock = Clock(BERLIN)
    now = datetime.fromisoformat(f"{day}T00:00:00Z") + timedelta(seconds=second)
    until = clock.steady_until(wanted, now)
    first: dict[str, Any] = {}
    last: dict[str, Any] = {}
    clock.add(first, wanted, {}, now)
    clock.add(last, wanted, {}, until - timedelta(microseconds=1))
    assert first == last
    assert timedelta() < until - now <= timedelta(minutes=1)


POLICIES = {
    "types": {"t": {"default": "allow"}, "m": {"default": "allow"}, "timeless": {"default": "allow"}},
    "policies": {
        "p": {"type": "t", "rules": [{"action": "deny", "condition": "now >= timestamp('2026-01-01T12:00:00Z')"}]},
        "m": {"type": "m", "rules": [{"action": "deny", "condition": "current_minute > 60"}]},
        "q": {"type": "timeless", "rules": [{"action": "deny", "match": {"x": 1}}]},
    },
}


@pytest.mark.parametrize(
    ("at", "allowed"),
    [("2026-01-01T11:59:59Z", True), ("2026-01-01T12:59:59+01:00", True), ("2026-01-01T13:00:00+01:00", False)],
)
def test_a_simulated_time_sets_the_clock(at: str, allowed: bool) -> None:  # noqa: FBT001 - data
    decision = PolicyEngine.from_document(POLICIES).check("t", {"now": "2000-01-01T00:00:00Z"}, at=at)
    assert (decision.allowed, decision.simulated) == (allowed, True)
    assert decision.valid_until == decision.timestamp
    assert decision.timestamp.year > 2025


def test_how_long_an_answer_may_be_reused() -> None:
    engine = PolicyEngine.from_document(POLICIES, reuse_seconds=3600)
    always, minute, timeless = engine.check("t", {}), engine.check("m", {}), engine.check("timeless", {})
    assert always.valid_until == always.timestamp
    assert timedelta() < minute.valid_until - minute.timestamp <= timedelta(minutes=1)
    assert timeless.valid_until - timeless.timestamp == timedelta(hours=1)


@pytest.mark.parametrize(
    "at",
    [
        "",
        "noon",
        "2026-01-01",
        "2026-01-01T12:00:00",
        "2026-13-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        datetime.max.replace(tzinfo=timezone(-timedelta(hours=1))),
    ],
)
def test_a_time_that_is_none_is_refused(at: str | datetime) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        PolicyEngine.from_document(POLICIES).check("t", {}, at=at)
    assert caught.value.pointer == "/at"
