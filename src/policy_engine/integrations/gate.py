"""The gate of a federation: what is asked of the engine in a round, whatever framework runs the federation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from policy_engine.integrations.decider import FederationEngine
from policy_engine.integrations.ruling import Carried, Ruling, Scalar, ruling
from policy_engine.integrations.step import Journal
from policy_engine.model.errors import BusyError, EngineUnavailableError, RunStoppedError, StoreUnavailableError
from policy_engine.trust.advice import RoundAdvice
from policy_engine.trust.observation import RoundObservation

T = TypeVar("T")

_AWAY = (EngineUnavailableError, BusyError, StoreUnavailableError)
_CLIENT = "fl-client"

_ADMISSION = Carried(weights=True)
_TRAINING = Carried(settings=True, weights=True)
_EVALUATION = Carried(settings=True)


class Asking(NamedTuple):
    """How an engine is asked.

    Attributes:
        attempts: How often one question is asked while there is no answer.
        wait_seconds: How long to wait between two attempts.
    """

    attempts: int = 3
    wait_seconds: float = 1.0


class Invited(NamedTuple):
    """Who takes part in a round.

    Attributes:
        settings: Client -> what it is to train or evaluate with; only of those that take part.
        probed: Those of them whose update is looked at and not aggregated.
        weights: Client -> by what its weight is to be multiplied at most, where that is less than 1.
        left_out: Who is not invited because of its trust.
        on_probation: Those that are new.
    """

    settings: Mapping[str, Mapping[str, Scalar]]
    probed: frozenset[str] = frozenset()
    weights: Mapping[str, float] = {}
    left_out: tuple[str, ...] = ()
    on_probation: frozenset[str] = frozenset()


class _Selected(NamedTuple):
    rulings: dict[str, Ruling]
    probed: frozenset[str]
    left_out: tuple[str, ...]
    on_probation: frozenset[str]


class _Admitted(NamedTuple):
    ruling: Ruling
    until: float


class Gate:
    """Asks the engine about one federation, and takes down what it answers."""

    def __init__(
        self,
        engine: FederationEngine,
        journal: Journal,
        *,
        federation: str,
        asking: Asking,
        reserved: Iterable[str] = (),
    ) -> None:
        """Note whom to ask.

        Args:
            engine: Whom.
            journal: Where to take down what it answers.
            federation: The name of the federation.
            asking: How patiently.
            reserved: Names of settings that no policy may change.
        """
        self._engine = engine
        self._journal = journal
        self._federation = federation
        self._asking = asking
        self._reserved = frozenset(reserved)
        self._admissions: dict[str, _Admitted] = {}

    def begin(self, round_number: int, facts: Mapping[str, Any]) -> None:
        """Ask whether a round may begin.

        Raises:
            RunStoppedError: It may not.
            EngineUnavailableError: There is no answer.
        """
        context = {"operation": "decide_next_round", "federation": self._federation, **facts}
        found = ruling(self._ask(lambda: self._engine.check("fl_server_control", context)))
        if not found.allowed:
            raise RunStoppedError(round_number, found.reason)
        self._journal.note(round_number, "control", detail=found.reason)

    def invite(self, round_number: int, clients: Sequence[str]) -> Invited:
        """Ask which clients take part in a round, and with which settings.

        Raises:
            EngineUnavailableError: There is no answer.
        """
        admitted = self._admit(round_number, clients)
        selected = self._select(round_number, clients, admitted)
        asked = {name: self._about(name, round_number, "model_training") for name in selected.rulings}
        trained = self._rule("fl_client_training", asked, _TRAINING)
        passed = self._sift(round_number, "training", trained)
        weights = {
            name: min(admitted[name].weight, selected.rulings[name].weight, found.weight)
            for name, found in passed.items()
        }
        return Invited(
            {name: found.settings for name, found in passed.items()},
            selected.probed & passed.keys(),
            {name: weight for name, weight in weights.items() if weight < 1},
            selected.left_out,
            selected.on_probation & passed.keys(),
        )

    def evaluators(self, round_number: int, clients: Sequence[str]) -> Invited:
        """Ask which clients evaluate the model: those that would be invited to train, if policies let them.

        Raises:
            EngineUnavailableError: There is no answer.
        """
        admitted = list(self._admit(round_number, clients))
        selection = self._ask(lambda: self._engine.select(self._federation, round_number, admitted))
        asked = {name: self._about(name, round_number, "model_evaluation") for name in selection.invited}
        found = self._rule("fl_client_evaluation", asked, _EVALUATION)
        out = dict(selection.left_out) | dict.fromkeys(selection.probed, "the client is excluded")
        passed = self._sift(round_number, "evaluation", found, out)
        return Invited({name: each.settings for name, each in passed.items()})

    def observe(self, observation: RoundObservation) -> RoundAdvice:
        """Tell what was observed of a round and return what to do with its updates.

        Raises:
            EngineUnavailableError: There is no answer.
            ConflictError: The round was observed before otherwise, or a later one is closed.
        """
        advice = self._ask(lambda: self._engine.observe(observation))
        self._journal.note(
            observation.round,
            "observation",
            passed=tuple(each.client_id for each in advice.clients if each.accept),
            refused={each.client_id: each.reason for each in advice.clients if not each.accept},
            detail=f"{advice.excluded_share:.0%} excluded",
        )
        return advice

    def _admit(self, round_number: int, clients: Sequence[str]) -> dict[str, Ruling]:
        """Return the clients that may take part at all; who was asked about is not asked about again for a while."""
        began = time.monotonic()
        known = {name: each for name, each in self._admissions.items() if each.until > began}
        taking_part = {name for name, each in known.items() if each.ruling.allowed}
        unknown = [name for name in clients if name not in known]
        if unknown:
            asked = {
                name: self._about(name, round_number, "client_registration") | {"active_clients": active}
                for active, name in enumerate(unknown, len(taking_part))
            }
            found = self._rule("fl_client_start", asked, _ADMISSION)
            known |= {name: _Admitted(each, began + each.reusable_seconds) for name, each in found.items()}
        self._admissions = known
        return self._sift(round_number, "admission", {name: known[name].ruling for name in clients})

    def _select(self, round_number: int, clients: Sequence[str], admitted: Mapping[str, Ruling]) -> _Selected:
        """Return the clients that are chosen for a round, and those of them that are probed.

        Clients that were not admitted are asked about too: some of them may be out for their trust, by a policy, and
        have to be told to who judges whether too many are.
        """
        selection = self._ask(lambda: self._engine.select(self._federation, round_number, list(clients)))
        probed = frozenset(selection.probed).intersection(admitted)
        chosen = probed.union(selection.invited)
        asked = {
            name: self._about(name, round_number, "probe" if name in probed else "client_selection")
            for name in admitted
            if name in chosen
        }
        found = self._rule("fl_client_selection", asked, _ADMISSION)
        detail = f"{len(probed)} of them probed"
        left_out = {name: reason for name, reason in selection.left_out.items() if name in admitted}
        passed = self._sift(round_number, "selection", found, left_out, detail)
        out = [*selection.left_out, *(name for name in selection.probed if name not in admitted)]
        return _Selected(passed, probed & passed.keys(), tuple(out), frozenset(selection.on_probation))

    def _about(self, client: str, round_number: int, operation: str) -> dict[str, Any]:
        return {
            "operation": operation,
            "component_type": _CLIENT,
            "client_id": client,
            "federation": self._federation,
            "round": round_number,
            "current_round": round_number,
        }

    def _rule(self, policy_type: str, contexts: Mapping[str, dict[str, Any]], carried: Carried) -> dict[str, Ruling]:
        if not contexts:
            return {}
        decisions = self._ask(lambda: self._engine.check_many(policy_type, list(contexts.values())))
        return {
            name: ruling(decision, carried, self._reserved) for name, decision in zip(contexts, decisions, strict=True)
        }

    def _sift(
        self,
        round_number: int,
        kind: Any,
        found: Mapping[str, Ruling],
        left_out: Mapping[str, str] | None = None,
        detail: str = "",
    ) -> dict[str, Ruling]:
        passed = {name: each for name, each in found.items() if each.allowed}
        refused = {name: each.reason for name, each in found.items() if not each.allowed}
        self._journal.note(
            round_number, kind, passed=tuple(passed), refused={**(left_out or {}), **refused}, detail=detail
        )
        return passed

    def _ask(self, question: Callable[[], T]) -> T:
        """Ask until there is an answer, or it has been tried often enough."""
        for attempt in range(1, self._asking.attempts + 1):
            try:
                return question()
            except _AWAY as error:
                if attempt == self._asking.attempts:
                    raise EngineUnavailableError(f"no answer in {attempt} attempts: {error}") from error
            time.sleep(self._asking.wait_seconds)
        raise EngineUnavailableError("the engine was never asked")
