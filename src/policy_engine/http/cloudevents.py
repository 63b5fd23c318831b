"""Events as CloudEvents 1.0, in the structured batch form (JSON Event Format, section 4).

Where a page goes on is not part of the form, so it stands in a `Link` header.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
from werkzeug.http import parse_accept_header

from policy_engine.http.problem import JSON
from policy_engine.model.event import Event
from policy_engine.store.events import EventPage

BATCH_JSON = "application/cloudevents-batch+json"
SPEC_VERSION = "1.0"

SOURCE = "/policy-engine"
"""Where events come from.

An absolute path, as the specification's own examples have it: not the address of a process, since all that share a
store serve the same events. `source` and `id` together name an event, and the ids, which name the store too, are
unique by themselves.
"""

TYPE_PREFIX = "net.flopy.policy-engine."
"""A reverse domain name, which the specification asks types to begin with."""


class CloudEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event with the attributes of CloudEvents, which are all lower case."""

    specversion: str = SPEC_VERSION
    id: str
    source: str = SOURCE
    type: str
    time: datetime
    datacontenttype: str = JSON
    data: Mapping[str, Any]


def cloud_event(event: Event) -> CloudEvent:
    """Return an event as a CloudEvent: `POLICY_CREATED` becomes `net.flopy.policy-engine.policy_created`."""
    return CloudEvent(
        id=event.event_id, type=TYPE_PREFIX + event.event_type.lower(), time=event.timestamp, data=event.details
    )


def encode_batch(events: Iterable[Event]) -> bytes:
    """Return events as a body of the type BATCH_JSON; no events are an empty array, as the format has it."""
    return msgspec.json.encode([cloud_event(event) for event in events])


def page_headers(page: EventPage, path: str, query: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the headers that say what a page says beside its events: where it goes on, and whether some are gone.

    Args:
        page: What is answered.
        path: The path that was asked.
        query: The parameters of the next request, but for the cursor: such as `limit` and `event_type`.
    """
    headers = [("X-Event-Gap", "true")] if page.gap else []
    if page.last_event_id is not None:
        parameters = urlencode({**query, "since_event_id": page.last_event_id})
        headers.append(("Link", f'<{quote(path)}?{parameters}>; rel="next"'))
    return headers


def accepts_batch(accept: str) -> bool:
    """Whether a header `Accept` asks for the batch form by name, and for nothing that there is too with more weight."""
    weights = {name.partition(";")[0].strip(): weight for name, weight in parse_accept_header(accept.lower())}
    weight = weights.get(BATCH_JSON, 0.0)
    return weight > 0 and weight >= weights.get(JSON, 0.0)
