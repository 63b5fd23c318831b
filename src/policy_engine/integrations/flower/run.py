"""How far a run has come: what it would return if it ended now, and how good the model is."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any

from flwr.app import ArrayRecord, MetricRecord
from flwr.serverapp.strategy import Result


class Run:
    """One run of a strategy.

    Attributes:
        result: What there is so far.
    """

    def __init__(self, initial_arrays: ArrayRecord | None, num_rounds: int | None, accuracy_key: str) -> None:
        self.result = Result() if initial_arrays is None else Result(arrays=initial_arrays)
        self._num_rounds = num_rounds
        self._accuracy_key = accuracy_key
        self._accuracies: dict[int, float] = {}

    def facts(self) -> dict[str, Any]:
        """Return what policies may want to know before a round: how many there are, how good the model is."""
        told: dict[str, Any] = {}
        if self._num_rounds is not None:
            told["max_rounds"] = self._num_rounds
        known = list(self._accuracies.values())
        if known:
            told["accuracy"] = known[-1]
        if len(known) > 1:
            told["accuracy_improvement"] = known[-1] - known[-2]
        return told

    def trained(self, server_round: int, arrays: ArrayRecord, metrics: MetricRecord | None) -> None:
        """Note what a training came to."""
        self.result.arrays = arrays
        if metrics is not None:
            self.result.train_metrics_clientapp[server_round] = metrics

    def evaluated(self, server_round: int, metrics: MetricRecord | None) -> None:
        """Note what clients say of the model."""
        if metrics is not None:
            self.result.evaluate_metrics_clientapp[server_round] = metrics
            self._note(server_round, metrics)

    def watched(
        self, evaluate: Callable[[int, ArrayRecord], MetricRecord | None]
    ) -> Callable[[int, ArrayRecord], MetricRecord | None]:
        """Return an evaluation by the server that notes its results too; they go before what clients say."""

        def noting(server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
            metrics = evaluate(server_round, arrays)
            if metrics is not None:
                self.result.evaluate_metrics_serverapp[server_round] = metrics
                self._note(server_round, metrics)
            return metrics

        return noting

    def _note(self, server_round: int, metrics: MetricRecord) -> None:
        value = metrics.get(self._accuracy_key)
        if isinstance(value, (int, float)) and isfinite(value):
            self._accuracies[server_round] = float(value)
