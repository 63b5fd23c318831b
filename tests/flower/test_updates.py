"""What becomes of the updates that come back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg
from tests.flower.grid import App, LocalGrid
from tests.flower.learning import SIZE, accuracy, app, clients, flat, initial, record, trained
from tests.flower.wrapping import Asked, grid, steps, wrapped

from policy_engine import PolicyEngine
from policy_engine.integrations.flower.model import MalformedError, Model
from policy_engine.trust.observation import ClientUpdate, RoundObservation
from policy_engine.trust.settings import TrustSettings

pytestmark = pytest.mark.flower

MEMBERS = clients(6, 0)
ODD = MEMBERS[-1]


class Observing:
    """Remembers what an engine is told."""

    def __init__(self, **options: Any) -> None:
        self._engine = PolicyEngine.from_document(
            {"policies": {"a": {"type": "fl_client_start", "rules": [{"action": "allow", "match": {}}]}}}, **options
        )
        self.told: list[RoundObservation] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def observe(self, observation: RoundObservation) -> Any:
        self.told.append(observation)
        return self._engine.observe(observation)

    def of(self, client: str, round_number: int = 1) -> ClientUpdate:
        return next(each for each in self.told[round_number - 1].clients if each.client_id == client)


def with_odd(answer: App) -> LocalGrid:
    """Honest clients, and one that answers in its own way."""
    return LocalGrid({**{client.node: app(client) for client in MEMBERS}, ODD.node: answer})


def replying(change: Callable[[RecordDict], RecordDict | None]) -> App:
    honest = app(ODD)

    def answer(message: Message) -> RecordDict | None:
        content = honest(message)
        assert content is not None
        return change(content) if message.metadata.message_type == "train" else content

    return answer


def arrays(content: RecordDict, **changed: Array) -> RecordDict:
    return RecordDict({"arrays": ArrayRecord({**content["arrays"], **changed}), "metrics": content["metrics"]})


def metrics(content: RecordDict, **changed: Any) -> RecordDict:
    named = {name.replace("_", "-"): value for name, value in changed.items()}
    return RecordDict({"arrays": content["arrays"], "metrics": MetricRecord({**content["metrics"], **named})})


def failing(_: RecordDict) -> RecordDict:
    raise RuntimeError("out of memory")


FAULTS: dict[str, Callable[[RecordDict], RecordDict | None]] = {
    "no reply came": lambda _: None,
    "the client reports an error": failing,
    "array `bias` has a number that is not finite": lambda content: arrays(content, bias=Array(np.full(10, np.nan))),
    "array `bias` has the shape (9,), not (10,)": lambda content: arrays(content, bias=Array(np.zeros(9))),
    "array `bias` does not hold numbers": lambda content: arrays(content, bias=Array(np.zeros(10, dtype=complex))),
    "array `bias` cannot be read": lambda content: arrays(content, bias=Array("f8", (10,), "numpy.ndarray", b"?")),
    "its arrays are not those of the model": lambda content: arrays(content, more=Array(np.zeros(1))),
    "its numbers are too large": lambda content: arrays(content, bias=Array(np.full(10, 1e200))),
    "its `num-examples` is not a number of samples": lambda content: metrics(content, num_examples=float("nan")),
    "its records are not like those of the others": lambda content: metrics(content, more=1.0),
    "it does not hold one record of arrays and one of metrics": lambda content: RecordDict(
        {"metrics": content["metrics"]}
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_aggregated_counts_as_no_answer(fault: str) -> None:
    engine = Observing()
    strategy = wrapped(engine=engine)
    result = strategy.start(with_odd(replying(FAULTS[fault])), record(initial()), num_rounds=1)
    assert engine.of(ODD.name) == ClientUpdate(client_id=ODD.name, answered=False)
    assert all(engine.of(client.name).answered for client in MEMBERS[:-1])
    assert steps(strategy, "replies")[0].refused == {ODD.name: fault}
    assert np.isfinite(flat(result.arrays)).all()
    assert accuracy(flat(result.arrays)) > 2 * accuracy(initial())


@pytest.mark.parametrize("samples", [-1, float("inf"), 2.0**60, [1, 2]])
def test_a_weight_has_to_be_a_number_of_samples(samples: Any) -> None:
    engine = Observing()
    strategy = wrapped(engine=engine)
    strategy.start(
        with_odd(replying(lambda content: metrics(content, num_examples=samples))), record(initial()), num_rounds=1
    )
    assert not engine.of(ODD.name).answered


def test_no_samples_weigh_nothing() -> None:
    engine = Observing()
    strategy = wrapped(engine=engine)
    odd = with_odd(replying(lambda content: metrics(content, num_examples=0)))
    strategy.start(odd, record(initial()), num_rounds=1)
    assert engine.of(ODD.name).samples == 0
    assert steps(strategy, "aggregation")[0].refused == {ODD.name: "its weight is 0"}


def test_a_bad_evaluation_ends_nothing() -> None:
    honest = app(ODD)

    def answer(message: Message) -> RecordDict | None:
        content = honest(message)
        assert content is not None
        if message.metadata.message_type == "evaluate":
            content["metrics"]["more"] = 1.0
        return content

    result = wrapped().start(with_odd(answer), record(initial()), num_rounds=2)
    assert set(result.evaluate_metrics_clientapp) == {1, 2}


def test_the_order_of_arrays_is_that_of_the_model() -> None:
    def turned(content: RecordDict) -> RecordDict:
        swapped = dict(reversed(list(content["arrays"].items())))
        return RecordDict({"arrays": ArrayRecord(swapped), "metrics": content["metrics"]})

    result = wrapped().start(with_odd(replying(turned)), record(initial()), num_rounds=1)
    straight = wrapped().start(grid(MEMBERS), record(initial()), num_rounds=1)
    assert list(result.arrays) == ["weights", "bias"]
    assert flat(result.arrays) == pytest.approx(flat(straight.arrays), abs=1e-12)


def test_long_updates_are_clipped_and_new_clients_weigh_half() -> None:
    engine = Observing()
    seen: dict[str, Any] = {}

    class Watching(FedAvg):  # type: ignore[misc]  # Flower is not there where types are checked
        def aggregate_train(self, server_round: int, replies: Any) -> Any:
            seen.update({str(each.metadata.src_node_id): each.content for each in replies})
            return super().aggregate_train(server_round, replies)

    long = replying(
        lambda _: RecordDict(
            {"arrays": record(2 * trained(initial(), ODD, 1)), "metrics": MetricRecord({"num-examples": 100})}
        )
    )
    wrapped(Watching(), engine=engine).start(with_odd(long), record(initial()), num_rounds=1)
    norms = sorted(each.norm or 0.0 for each in engine.told[0].clients)
    median = (norms[2] + norms[3]) / 2
    assert np.linalg.norm(flat(seen[ODD.name]["arrays"])) == pytest.approx(median)
    assert seen[ODD.name]["metrics"]["num-examples"] == 50.0


def test_arrays_keep_their_type() -> None:
    result = wrapped().start(grid(MEMBERS, "float32"), record(initial(), "float32"), num_rounds=3)
    assert {array.dtype for array in result.arrays.values()} == {"float32"}


def test_counters_do_not_count() -> None:
    """A counter that grows by thousands says nothing about an update, and aggregation makes it a broken number."""
    params = ArrayRecord({**record(initial()), "batches": Array(np.array(0))})

    def counting(client: Any) -> App:
        honest = app(client)

        def answer(message: Message) -> RecordDict | None:
            sent = message.content
            inner = ArrayRecord({name: sent["arrays"][name] for name in ("weights", "bias")})
            content = honest(_with(message, RecordDict({**sent, "arrays": inner})))
            assert content is not None
            if message.metadata.message_type == "train":
                count = int(sent["arrays"]["batches"].numpy()) + 4000
                return arrays(content, batches=Array(np.array(count)))
            return content

        return answer

    engine = Observing()
    members = clients(6, 2)
    strategy = wrapped(engine=engine)
    result = strategy.start(LocalGrid({each.node: counting(each) for each in members}), params, num_rounds=6)
    assert all((each.norm or 0) < 100 for told in engine.told for each in told.clients)
    assert set(steps(strategy, "aggregation")[-1].passed) == {each.name for each in members if not each.attack}
    assert result.arrays["batches"].numpy() == 24000


def _with(message: Message, content: RecordDict) -> Message:
    return Message(content, message.metadata.dst_node_id, message.metadata.message_type)


def test_a_model_without_numbers_cannot_be_watched() -> None:
    with pytest.raises(ValueError, match="floating-point"):
        wrapped().start(grid(MEMBERS), ArrayRecord({"counts": Array(np.arange(3))}), num_rounds=1)


def test_a_root_update_of_another_shape_is_a_fault_of_the_server() -> None:
    strategy = wrapped(root_update=lambda *_: ArrayRecord({"other": Array(np.zeros(1))}))
    with pytest.raises(MalformedError):
        strategy.start(grid(MEMBERS), record(initial()), num_rounds=1)


def test_probes_are_observed_and_not_aggregated() -> None:
    """A client that turns honest after it was excluded is probed, is not counted, and is back when it has earned it."""
    members = clients(8, 1)
    attacker = members[-1]
    turned = attacker._replace(attack=None)

    def answer(message: Message) -> RecordDict | None:
        late = message.content["config"]["server-round"] > 5
        return app(turned if late else attacker)(message)

    engine = Observing()
    strategy = wrapped(engine=engine)
    sent = LocalGrid({**{each.node: app(each) for each in members}, attacker.node: answer})
    strategy.start(sent, record(initial()), num_rounds=30)
    asked = {told.round for told in engine.told if any(each.client_id == attacker.name for each in told.clients)}
    probed = {step.round for step in steps(strategy, "selection") if step.detail == "1 of them probed"}
    assert min(probed) > 3
    assert probed <= asked
    for step in steps(strategy, "aggregation"):
        if step.round in probed:
            assert step.refused.get(attacker.name)
    evaluated = {step.round for step in steps(strategy, "evaluation") if attacker.name in step.passed}
    assert attacker.name in steps(strategy, "aggregation")[-1].passed
    assert not evaluated & set(range(min(probed), max(probed)))


def test_a_held_round_keeps_the_model_and_goes_on() -> None:
    members = clients(6, 2)
    engine = Observing(trust={"*": TrustSettings(max_excluded_share=0.0)})
    strategy = wrapped(engine=engine)
    models = []
    result = strategy.start(
        grid(members),
        record(initial()),
        num_rounds=8,
        evaluate_fn=lambda _, model: models.append(flat(model)),
    )
    held = [step.round for step in steps(strategy, "held")]
    assert held
    for number in held:
        assert (models[number] == models[number - 1]).all()
    assert len({told.round for told in engine.told}) == 8
    assert (flat(result.arrays) == models[-1]).all()


def test_nobody_in_a_round_is_no_observation() -> None:
    engine = Asked(fl_client_start={"action": "deny", "match": {}}).engine
    strategy = wrapped(engine=engine)
    result = strategy.start(grid(MEMBERS), record(initial()), num_rounds=2)
    assert not steps(strategy, "observation")
    assert len(steps(strategy, "held")) == 2
    assert flat(result.arrays).size == SIZE


def test_all_silent_is_an_observation() -> None:
    engine = Observing()
    silent = LocalGrid({client.node: lambda _: None for client in MEMBERS})
    result = wrapped(engine=engine).start(silent, record(initial()), num_rounds=1)
    assert [each.answered for each in engine.told[0].clients] == [False] * 6
    assert flat(result.arrays).tolist() == initial().tolist()


def test_rounds_have_to_be_configured_first() -> None:
    with pytest.raises(ValueError, match="round 1 was not configured"):
        wrapped().aggregate_train(1, [])


def test_a_model_moves_only_what_counts() -> None:
    model = Model(ArrayRecord({"a": Array(np.zeros((2, 2))), "n": Array(np.array([3])), "b": Array(np.ones(1))}))
    sent = ArrayRecord({"b": Array(np.array([2.0])), "a": Array(np.ones((2, 2))), "n": Array(np.array([9]))})
    assert model.update(sent).tolist() == [1, 1, 1, 1, 1]
    moved = model.moved(sent, model.update(sent) / 2)
    assert {name: array.numpy().tolist() for name, array in moved.items()} == {
        "a": [[0.5, 0.5], [0.5, 0.5]],
        "n": [9],
        "b": [1.5],
    }
