"""Events as CloudEvents."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from policy_engine.http.cloudevents import (
    BATCH_JSON,
    SOURCE,
    accepts_batch,
    cloud_event,
    encode_batch,
    page_headers,
)
from policy_engine.model.event import EVENT_TYPES, Event
from policy_engine.store.events import EventPage
from policy_engine.store.opened import Store
from policy_engine.store.options import StoreOptions

MOMENT = datetime(2026, 1, 5, 9, 14, 23, 162819, tzinfo=UTC)
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
REQUIRED = {"id", "source", "specversion", "type"}


def event(event_type: str = "POLICY_CREATED", **details: Any) -> Event:
    return Event(
        event_id="01a20cd5-ba3a-8241-92d2-c8e3f0e62f33", timestamp=MOMENT, event_type=event_type, details=details
    )


def page(*, cursor: str | None = "c1", gap: bool = False) -> EventPage:
    return EventPage(events=[], total=0, last_event_id=cursor, gap=gap)


def test_an_event() -> None:
    assert json.loads(encode_batch([event(policy_id="web", policy_version=3)])) == [
        {
            "specversion": "1.0",
            "id": "01a20cd5-ba3a-8241-92d2-c8e3f0e62f33",
            "source": "/policy-engine",
            "type": "net.flopy.policy-engine.policy_created",
            "time": "2026-01-05T09:14:23.162819Z",
            "datacontenttype": "application/json",
            "data": {"policy_id": "web", "policy_version": 3},
        }
    ]


def test_no_events_are_an_empty_batch() -> None:
    assert encode_batch([]) == b"[]"


def test_order_and_text_stay() -> None:
    events = [event(text=text) for text in ("äöü \u2028", 'quotes" and \n lines', "")]
    assert [item["data"]["text"] for item in json.loads(encode_batch(events))] == [
        one.details["text"] for one in events
    ]


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_attributes_are_as_the_specification_wants_them(event_type: str) -> None:
    (made,) = json.loads(encode_batch([event(event_type)]))
    assert made.keys() >= REQUIRED
    assert all(re.fullmatch("[a-z0-9]{1,20}", name) for name in made)
    assert all(isinstance(made[name], str) and made[name] for name in made.keys() - {"data"})
    assert RFC_3339.fullmatch(made["time"])
    assert re.fullmatch(r"[a-z]+(\.[a-z_-]+)+", made["type"])
    assert urlsplit(made["source"]).path == SOURCE


def test_types_differ() -> None:
    assert len({cloud_event(event(name)).type for name in EVENT_TYPES}) == len(EVENT_TYPES)


def test_a_time_of_another_zone_keeps_its_offset() -> None:
    moment = MOMENT.astimezone(timezone(timedelta(hours=2)))
    made = Event(event_id="x", timestamp=moment, event_type="ENGINE_START", details={})
    (item,) = json.loads(encode_batch([made]))
    assert datetime.fromisoformat(item["time"]) == MOMENT


def test_the_link_goes_on() -> None:
    (header,) = page_headers(
        page(cursor="c A&B"), "/events", {"limit": "5", "event_type": "POLICY_CREATED,POLICY_UPDATED"}
    )
    name, value = header
    target = re.fullmatch('<([^<>"]+)>; rel="next"', value)
    assert name == "Link"
    assert target is not None
    assert value.isascii()
    parts = urlsplit(target[1])
    assert parts.path == "/events"
    assert dict(parse_qsl(parts.query)) == {
        "limit": "5",
        "event_type": "POLICY_CREATED,POLICY_UPDATED",
        "since_event_id": "c A&B",
    }


def test_the_cursor_of_the_page_replaces_the_one_that_was_sent() -> None:
    ((_, value),) = page_headers(page(cursor="new"), "/events", {"since_event_id": "old"})
    assert value == '</events?since_event_id=new>; rel="next"'


def test_a_path_cannot_break_out_of_the_link() -> None:
    ((_, value),) = page_headers(page(), '/events>; rel="x"\r\nSet-Cookie: a', {})
    assert value.count(">") == 1
    assert "\r" not in value
    assert "\n" not in value


def test_there_is_no_link_before_the_first_event() -> None:
    assert page_headers(page(cursor=None), "/events", {}) == []


def test_a_gap_is_said() -> None:
    assert ("X-Event-Gap", "true") in page_headers(page(gap=True), "/events", {})


def test_following_the_links_of_a_store(tmp_path: Path) -> None:
    store = Store(StoreOptions(url=f"sqlite:///{tmp_path / 'x.db'}", data_dir=tmp_path))
    store.start()
    try:
        ids = [store.events.record("POLICY_UPDATED", {"number": number}).event_id for number in range(7)]
        seen: list[str] = []
        cursor = "the oldest"
        for _ in range(4):
            found = store.events.page(since_event_id=cursor, limit=2)
            seen += [item["id"] for item in json.loads(encode_batch(found.events))]
            link = dict(page_headers(found, "/events", {"limit": "2"}))["Link"]
            cursor = dict(parse_qsl(urlsplit(link.partition(">")[0]).query))["since_event_id"]
        assert seen == ids
    finally:
        store.stop()


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (BATCH_JSON, True),
        ("Application/CloudEvents-Batch+JSON", True),
        (f"text/html, {BATCH_JSON};q=0.5", True),
        (f"{BATCH_JSON}; charset=utf-8", True),
        (f"{BATCH_JSON};q=0", False),
        (f"{BATCH_JSON}; q=0.000", False),
        (f"{BATCH_JSON};q=0.001", True),
        (f"application/json;q=0.9, {BATCH_JSON};q=0.5", False),
        (f"application/json;q=0.5, {BATCH_JSON};q=0.9", True),
        (f"application/json, {BATCH_JSON}", True),
        ("application/cloudevents+json", False),
        ("application/json", False),
        ("*/*", False),
        ("", False),
    ],
)
def test_who_asks_for_it(accept: str, expected: bool) -> None:  # noqa: FBT001
    assert accepts_batch(accept) is expected
