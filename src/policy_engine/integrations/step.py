"""What an integration did, step by step."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

import msgspec

from policy_engine.model.frozen import EMPTY, FrozenDict

log = logging.getLogger(__name__)

Kind: TypeAlias = Literal[
    "control",
    "admission",
    "selection",
    "training",
    "replies",
    "observation",
    "aggregation",
    "held",
    "evaluation",
    "unavailable",
    "stopped",
]

_LOUD = frozenset({"held", "unavailable", "stopped"})


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step.

    Attributes:
        round: Of the federation.
        kind: "control": may the round begin; "admission", "selection", "training": which clients take part; "replies":
            whose update came; "observation": what the engine was told and answers; "aggregation": whose update counts;
            "held": the model stays; "evaluation": which clients evaluate; "unavailable": the engine gave no answer;
            "stopped": the run is over.
        passed: Clients that pass.
        refused: Clients that do not, each with the reason.
        detail: What else there is to say.
    """

    round: int
    kind: Kind
    passed: tuple[str, ...] = ()
    refused: Mapping[str, str] = EMPTY
    detail: str = ""


class Journal:
    """Keeps the steps, hands each to whoever wants to know, and logs it.

    Attributes:
        steps: All of them, in order.
    """

    def __init__(self, told: Callable[[Step], None] | None = None) -> None:
        self.steps: list[Step] = []
        self._told = told

    def note(
        self,
        round_number: int,
        kind: Kind,
        *,
        passed: tuple[str, ...] = (),
        refused: Mapping[str, str] | None = None,
        detail: str = "",
    ) -> None:
        """Take a step down."""
        step = Step(round=round_number, kind=kind, passed=passed, refused=FrozenDict(refused or {}), detail=detail)
        self.steps.append(step)
        level = logging.WARNING if kind in _LOUD else logging.INFO
        log.log(
            level, "round %d, %s: %d pass, %d do not; %s", round_number, kind, len(passed), len(step.refused), detail
        )
        for client, reason in step.refused.items():
            log.info("round %d, %s: client `%s`: %s", round_number, kind, client, reason)
        if self._told is not None:
            self._told(step)
