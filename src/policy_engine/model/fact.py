"""The names of what the engine knows itself, and which of them a caller may never claim."""

from __future__ import annotations

import msgspec


class FactSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One fact.

    Attributes:
        name: Its dotted path.
        type: The type of its value in conditions.
        reserved: Whether it is absent, rather than read from the context, when the engine does not know it.
    """

    name: str
    type: str
    reserved: bool
    description: str


FACTS: dict[str, FactSpec] = {}
"""Every known fact by name."""


def register(name: str, kind: str, description: str, *, reserved: bool) -> None:
    """Add a fact to the vocabulary.

    Raises:
        ValueError: It is there already.
    """
    if name in FACTS:
        raise ValueError(f"fact `{name}` is known already")
    FACTS[name] = FactSpec(name=name, type=kind, reserved=reserved, description=description)


register("now", "timestamp", "the time of the check, in the engine's time zone", reserved=True)
register("current_hour", "int", "the hour of the day, 0 to 23", reserved=True)
register("current_minute", "int", "the minute of the hour, 0 to 59", reserved=True)
register("current_day_of_week", "int", "the day of the week, Monday 0 to Sunday 6", reserved=True)
register("current_timestamp", "double", "seconds since 1970-01-01T00:00:00Z", reserved=True)
register("client.known", "bool", "whether the client of `client_id` is on record", reserved=True)
register("client.trust_score", "double", "its trust, 0 to 1", reserved=True)
register(
    "client.trust_band",
    "string",
    '"trusted", "reduced", "excluded" or "quarantined"; "unknown" while the store is away',
    reserved=True,
)
register("client_reputation", "double", "the same as `client.trust_score`", reserved=True)
register("client.participation_rate", "double", "how reliably it answers, 0 to 1", reserved=True)
register("client.update_quality", "double", "how good its updates are, 0 to 1", reserved=True)
register("client.behavioral_consistency", "double", "how much it behaves as it usually does, 0 to 1", reserved=True)
register("client.compliance", "double", "how well it keeps to the rules, 0 to 1", reserved=True)
register("trust_score_change", "double", "its trust less what that was five rounds ago", reserved=True)
register(
    "client.epsilon_spent",
    "double",
    "what the client has spent of its privacy, at the delta of its budget",
    reserved=True,
)
register(
    "client.epsilon_remaining", "double", "its budget less what it has spent and what is reserved for it", reserved=True
)
register("src_type", "string", "the type of the component that owns `src_ip`", reserved=False)
register("dst_type", "string", "the type of the component that owns `dst_ip`", reserved=False)
