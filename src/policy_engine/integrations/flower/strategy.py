"""A strategy of Flower that does as the engine says.

Flower takes plug-ins for the server from its own closed package alone, so the strategy is where policies come in: it
knows who is asked to train, with what, and what came back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from policy_engine.integrations.decider import FederationEngine
from policy_engine.integrations.flower.model import Model
from policy_engine.integrations.flower.replies import Answer, Sorted, sort_replies, weighted
from policy_engine.integrations.flower.run import Run
from policy_engine.integrations.gate import Asking, Gate, Invited
from policy_engine.integrations.step import Journal, Step
from policy_engine.model.errors import EngineUnavailableError, RunStoppedError
from policy_engine.trust.advice import RoundAdvice
from policy_engine.trust.observation import ClientUpdate, RoundObservation
from policy_engine.trust.statistics import RoundStatistics, clipped

if TYPE_CHECKING:
    from policy_engine.integrations.flower.model import Vector

SERVER_ROUND = "server-round"
"""The setting that strategies use themselves."""

RootUpdate = Callable[[ArrayRecord, ConfigRecord], ArrayRecord]
"""Trains the global arrays on clean samples of the server, as a client would, and returns the new arrays."""


class _Round(NamedTuple):
    """A round that was configured.

    Attributes:
        number: Of the federation.
        config: The settings of all clients.
        nodes: Node -> client, of those that a message was sent to.
    """

    number: int
    model: Model
    config: ConfigRecord
    nodes: dict[int, str]
    invited: Invited


class PolicyStrategy(Strategy):  # type: ignore[misc]  # Flower is not there where types are checked
    """Wraps a strategy of Flower, and lets a policy engine decide.

    Example:
        strategy = PolicyStrategy(FedAvg(), engine, federation="mnist", on_unavailable="closed")
        strategy.start(grid, initial_arrays, num_rounds=30)

    Attributes:
        strategy: What is wrapped; it samples and aggregates.
        stopped: Why the last run ended before its last round; None when it did not.
    """

    def __init__(
        self,
        strategy: Strategy,
        engine: FederationEngine,
        *,
        federation: str,
        on_unavailable: Literal["closed", "open"],
        name_of: Callable[[int], str] = str,
        root_update: RootUpdate | None = None,
        weighted_by_key: str | None = None,
        configrecord_key: str | None = None,
        accuracy_key: str = "accuracy",
        first_round: int = 1,
        asking: Asking = Asking(),  # noqa: B008 - it cannot be changed
        on_step: Callable[[Step], None] | None = None,
    ) -> None:
        """Wrap a strategy.

        Args:
            strategy: What to wrap.
            engine: Whom to ask: a PolicyEngine or PolicyService in this process, or a PolicyClient.
            federation: The name of the federation, as policies and trust know it.
            on_unavailable: What to do when the engine gives no answer: "closed" lets nobody take part, keeps the model
                and ends the run; "open" goes on as if nothing had been wrapped. Either is recorded.
            name_of: Node id -> the name by which the engine knows the client.
            root_update: Trains on clean samples of the server: the reference that stands up to attackers who know how
                trust is reckoned. Without it the median of the updates is the reference.
            weighted_by_key: The metric that has the weight of an update; by default as the strategy has it.
            configrecord_key: The record of settings in messages; by default as the strategy has it.
            accuracy_key: The metric that says how good the model is.
            first_round: What the engine is to call the first round: one more than the last that it was told of.
            asking: How patiently to ask.
            on_step: Called with each step.
        """
        super().__init__()
        self.strategy = strategy
        self.stopped: RunStoppedError | None = None
        self._federation = federation
        self._fails_open = {"closed": False, "open": True}[on_unavailable]
        self._name_of = name_of
        self._root_update = root_update
        self._weighted_by_key = str(weighted_by_key or getattr(strategy, "weighted_by_key", "num-examples"))
        self._configrecord_key = str(configrecord_key or getattr(strategy, "configrecord_key", "config"))
        self._accuracy_key = accuracy_key
        self._journal = Journal(on_step)
        self._gate = Gate(engine, self._journal, federation=federation, asking=asking, reserved=(SERVER_ROUND,))
        self._statistics = RoundStatistics()
        self._run = Run(None, None, accuracy_key)
        self._before = first_round - 1
        self._last = self._before
        self._round: _Round | None = None
        self._evaluators: dict[int, str] = {}

    @property
    def steps(self) -> list[Step]:
        """Everything that was asked and done, in order."""
        return self._journal.steps

    def summary(self) -> None:
        """Log a summary of the strategy that is wrapped."""
        self.strategy.summary()

    def start(  # noqa: PLR0917 - as Flower has it
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
    ) -> Result:
        """Run the federation as `Strategy.start` does, until it is over or policies stop it.

        Returns:
            What was reached; `stopped` says why the run ended early, if it did.
        """
        self.stopped, self._round = None, None
        self._before = self._last
        self._statistics = RoundStatistics()
        run = self._run = Run(initial_arrays, num_rounds, self._accuracy_key)
        try:
            result: Result = super().start(
                grid,
                initial_arrays,
                num_rounds,
                timeout,
                train_config,
                evaluate_config,
                evaluate_fn and run.watched(evaluate_fn),
            )
        except RunStoppedError as stopped:
            self.stopped = stopped
            return run.result
        return result

    # Training

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Configure a round of training with the clients that may take part.

        Raises:
            RunStoppedError: The round must not begin.
        """
        number = self._before + server_round
        model = Model(arrays, self._round.model if self._round else None)
        self._begin(number, grid)
        self._last = number
        messages = list(self.strategy.configure_train(server_round, arrays, config, grid))
        nodes = self._named(number, messages)
        invited = self._invited(number, nodes, self._gate.invite)
        kept = self._addressed(messages, nodes, invited)
        self._round = _Round(number, model, config, kept, invited)
        return [message for message in messages if message.metadata.dst_node_id in kept]

    def _begin(self, number: int, grid: Grid) -> None:
        facts = {
            "current_round": number - 1,
            "available_clients": len(list(grid.get_node_ids())),
            **self._run.facts(),
        }
        try:
            self._gate.begin(number, facts)
        except RunStoppedError as stopped:
            self._journal.note(number, "stopped", detail=stopped.reason)
            raise
        except EngineUnavailableError as error:
            self._journal.note(number, "unavailable", detail=f"{self._way}: {error}")
            if not self._fails_open:
                self._journal.note(number, "stopped", detail="the engine is away")
                raise RunStoppedError(number, str(error)) from error

    @property
    def _way(self) -> str:
        return "open" if self._fails_open else "closed"

    def _named(self, number: int, messages: Iterable[Message]) -> dict[int, str]:
        """Return the clients that messages are for; of two nodes by one name, the first one counts."""
        nodes: dict[int, str] = {}
        double: dict[str, str] = {}
        for node in (message.metadata.dst_node_id for message in messages):
            name = self._name_of(node)
            if node not in nodes and name in nodes.values():
                double[name] = f"node {node} has the name of another one"
            else:
                nodes[node] = name
        if double:
            self._journal.note(number, "admission", refused=double)
        return nodes

    def _invited(self, number: int, nodes: Mapping[int, str], ask: Callable[[int, list[str]], Invited]) -> Invited:
        try:
            return ask(number, list(nodes.values()))
        except EngineUnavailableError as error:
            self._journal.note(number, "unavailable", detail=f"{self._way}: {error}")
            return Invited({name: {} for name in nodes.values()} if self._fails_open else {})

    def _addressed(self, messages: Iterable[Message], nodes: Mapping[int, str], invited: Invited) -> dict[int, str]:
        """Put the settings into the messages of those that take part; return these."""
        kept = {node: name for node, name in nodes.items() if name in invited.settings}
        for message in messages:
            settings = invited.settings.get(kept.get(message.metadata.dst_node_id, ""))
            if settings:
                message.content = self._set(message.content, settings)
        return kept

    def _set(self, content: RecordDict, settings: Mapping[str, Any]) -> RecordDict:
        """Return content with other settings; messages share theirs."""
        records = dict(content.items())
        records[self._configrecord_key] = ConfigRecord({**records.get(self._configrecord_key, {}), **settings})
        return RecordDict(records)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Aggregate what the engine accepts, as it says; where that is nothing, the model stays."""
        this = self._round
        if this is None or this.number != self._before + server_round:
            raise ValueError(f"round {server_round} was not configured")
        found = sort_replies(replies, this.nodes, self._weighted_by_key, this.model)
        self._journal.note(this.number, "replies", passed=tuple(found.answers), refused=found.faults)
        arrays, metrics = self._aggregated(server_round, this, found)
        self._run.trained(server_round, arrays, metrics)
        return arrays, metrics

    def _aggregated(self, server_round: int, this: _Round, found: Sorted) -> tuple[ArrayRecord, MetricRecord | None]:
        arrays, metrics = None, None
        advice = self._advice(this, found)
        accepted = [] if advice is _HELD else self._accepted(this, found.answers, advice)
        if accepted:
            arrays, metrics = self.strategy.aggregate_train(server_round, accepted)
        if arrays is None:
            return this.model.arrays, metrics
        if advice is not None:
            self._statistics.accept(this.model.update(arrays))
        return arrays, metrics

    def _advice(self, this: _Round, found: Sorted) -> RoundAdvice | None:
        """Tell the engine what was observed; None when there is no answer and the round goes on all the same."""
        if not this.nodes:
            self._journal.note(this.number, "held", detail="nobody takes part: the model stays")
            return _HELD
        observation = RoundObservation(
            federation=self._federation,
            round=this.number,
            clients=tuple(self._observed(this, found.answers)),
            left_out=this.invited.left_out,
        )
        try:
            advice = self._gate.observe(observation)
        except EngineUnavailableError as error:
            self._journal.note(this.number, "unavailable", detail=f"{self._way}: {error}")
            if self._fails_open:
                return None
            self._journal.note(this.number, "held", detail="the engine is away: the model stays")
            return _HELD
        if advice.held:
            share = f"{advice.excluded_share:.0%} of the clients are excluded"
            self._journal.note(this.number, "held", detail=f"{share}: the model stays")
            return _HELD
        return advice

    def _observed(self, this: _Round, answers: Mapping[str, Answer]) -> Iterable[ClientUpdate]:
        """Return what there is to say of each client that was asked."""
        updates = {name: answers[name].update for name in this.nodes.values() if name in answers}
        root = self._root(this) if updates else None
        known = {
            each.client_id: each
            for each in self._statistics.observe(
                updates, excluded=this.invited.probed, on_probation=this.invited.on_probation, root=root
            )
        }
        for name in this.nodes.values():
            if name in known:
                fields = {field: getattr(known[name], field) for field in _STATISTICS}
                yield ClientUpdate(client_id=name, samples=int(answers[name].samples), **fields)
            else:
                yield ClientUpdate(client_id=name, answered=False)

    def _root(self, this: _Round) -> Vector | None:
        if self._root_update is None:
            return None
        return this.model.update(self._root_update(this.model.arrays, this.config))

    def _accepted(self, this: _Round, answers: Mapping[str, Answer], advice: RoundAdvice | None) -> list[Message]:
        """Return the replies to aggregate, clipped and weighted."""
        advised = advice.by_client if advice is not None else {}
        accepted: dict[str, Message] = {}
        refused: dict[str, str] = {}
        for name, answer in answers.items():
            told = advised.get(name)
            weight = min(this.invited.weights.get(name, 1.0), told.weight_multiplier if told else 1.0)
            reason = "it is probed" if name in this.invited.probed else ""
            if told is not None and not told.accept:
                reason = told.reason
            elif not reason and answer.samples * weight <= 0:
                reason = "its weight is 0"
            if reason:
                refused[name] = reason
                continue
            clip = told.clip_norm if told else None
            update = None if clip is None else clipped(answer.update, clip)
            accepted[name] = weighted(answer, this.model, update, weight, self._weighted_by_key)
        self._journal.note(this.number, "aggregation", passed=tuple(accepted), refused=refused)
        return list(accepted.values())

    # Evaluation

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Configure an evaluation by the clients that may evaluate; neither the excluded nor the probed do."""
        number = self._before + server_round
        messages = list(self.strategy.configure_evaluate(server_round, arrays, config, grid))
        nodes = self._named(number, messages)
        self._evaluators = {}
        if nodes:
            invited = self._invited(number, nodes, self._gate.evaluators)
            self._evaluators = self._addressed(messages, nodes, invited)
        return [message for message in messages if message.metadata.dst_node_id in self._evaluators]

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Aggregate what the clients say that were asked."""
        found = sort_replies(replies, self._evaluators, self._weighted_by_key, None)
        kept = [answer.message for answer in found.answers.values() if answer.samples > 0]
        metrics = self.strategy.aggregate_evaluate(server_round, kept) if kept else None
        self._run.evaluated(server_round, metrics)
        return metrics


_STATISTICS = ("norm", "cos_ref", "cos_prev", "max_pair_cos")

_HELD = RoundAdvice(federation="", round=0, held=True, excluded_share=0.0, clients=[])
"""Stands for every round whose model stays."""
