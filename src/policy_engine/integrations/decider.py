"""Whom an integration asks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from policy_engine.authority import Selection
from policy_engine.model.decision import Decision
from policy_engine.trust.advice import RoundAdvice
from policy_engine.trust.observation import RoundObservation


class FederationEngine(Protocol):
    """Decides about a federation: a PolicyEngine or a PolicyService in process, or a PolicyClient over HTTP."""

    def check(self, policy_type: str, context: dict[str, Any], /) -> Decision:
        """Decide one request."""

    def check_many(self, policy_type: str, contexts: Iterable[dict[str, Any]], /) -> list[Decision]:
        """Decide many requests of one type, by one revision."""

    def observe(self, observation: RoundObservation, /) -> RoundAdvice:
        """Take what was observed of a round and return what to do with its updates."""

    def select(self, federation: str, round_number: int, candidates: Sequence[str], /) -> Selection:
        """Return whom to invite to a round."""
