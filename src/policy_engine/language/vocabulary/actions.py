"""The registry of actions: each word, its canonical verb and its effect."""

from __future__ import annotations

import msgspec

from policy_engine.model.policy import Effect


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """One word that a rule may use."""

    word: str
    verb: str
    effect: Effect


ACTIONS: dict[str, Action] = {}
"""Every known action by word."""


def register(effect: Effect, verb: str, *synonyms: str) -> None:
    """Make a canonical verb and its synonyms known.

    Raises:
        ValueError: A word is known already: its meaning would change under the policies that use it.
    """
    for word in (verb, *synonyms):
        if word in ACTIONS:
            raise ValueError(f"action `{word}` is known already")
        ACTIONS[word] = Action(word=word, verb=verb, effect=effect)


register(Effect.ALLOW, "allow", "permit", "grant")

register(Effect.DENY, "deny", "block", "reject", "forbid")
register(Effect.DENY, "quarantine")
register(Effect.DENY, "isolate")
register(Effect.DENY, "suspend")
register(Effect.DENY, "exclude_client")

register(Effect.RESTRICTIVE, "limit", "throttle", "restrict", "rate_limit")
register(Effect.RESTRICTIVE, "filter", "select", "choose")
register(Effect.RESTRICTIVE, "enforce", "apply", "implement")
register(Effect.RESTRICTIVE, "verify", "check", "confirm")
register(Effect.RESTRICTIVE, "validate")
register(Effect.RESTRICTIVE, "authorize")
register(Effect.RESTRICTIVE, "weight_reduction")

register(Effect.DUTY, "configure", "modify", "adjust", "tune", "set")
register(Effect.DUTY, "prioritize", "boost", "elevate")
register(Effect.DUTY, "retry", "repeat", "reattempt")
register(Effect.DUTY, "checkpoint", "save")
register(Effect.DUTY, "backup")
register(Effect.DUTY, "failover", "fallback")
register(Effect.DUTY, "redirect", "reroute")
register(Effect.DUTY, "distribute")
register(Effect.DUTY, "scale")

register(Effect.OBSERVE, "monitor", "watch", "observe")
register(Effect.OBSERVE, "inspect")
register(Effect.OBSERVE, "log")
register(Effect.OBSERVE, "audit", "record", "track")
register(Effect.OBSERVE, "evaluate_trust")
register(Effect.OBSERVE, "simulate", "test", "mock")
