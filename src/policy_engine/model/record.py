"""What is remembered of a check."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from policy_engine.model.decision import Decision
from policy_engine.model.frozen import EMPTY


class Checked(NamedTuple):
    """A decision with what it was made from.

    Attributes:
        context: The request's attributes, normalised.
        facts: What the engine knew besides, as far as policies of the type read it.
    """

    decision: Decision
    context: dict[str, Any]
    facts: dict[str, Any]


class LogEntry(msgspec.Struct, frozen=True):
    """One entry of the decision log.

    Attributes:
        context: The request's attributes: secrets masked, personal data under pseudonyms.
        client: Whom the request is about, as a pseudonym.
        component: What kind of component asks.
        source: Where the request came from.
        represents: How many decisions this one stands for, where a source exceeded its logging quota.
    """

    decision: Decision
    context: dict[str, Any]
    facts: dict[str, Any] = EMPTY
    client: str | None = None
    component: str | None = None
    source: str | None = None
    represents: int = 1
