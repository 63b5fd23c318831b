"""What is asked before a round, and what follows from the answers."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from flwr.app import ArrayRecord, ConfigRecord, MetricRecord
from flwr.serverapp.strategy import FedAvg
from tests.flower.learning import accuracy, clients, flat, initial, record
from tests.flower.wrapping import Asked, Failing, grid, steps, wrapped

from policy_engine.client import PolicyClient
from policy_engine.integrations.step import Step
from policy_engine.model.errors import LateRoundError, RunStoppedError

pytestmark = pytest.mark.flower

MEMBERS = clients(5, 0)
NAMES = tuple(client.name for client in MEMBERS)


def run(strategy: Any, rounds: int = 1, **options: Any) -> Any:
    """Run a federation; return the grid too, which knows what was sent."""
    sent = grid(MEMBERS)
    return strategy.start(sent, record(initial()), num_rounds=rounds, **options), sent


def receivers(sent: Any, kind: str = "train") -> set[str]:
    return {str(each.metadata.dst_node_id) for each in sent.sent if each.metadata.message_type == kind}


def test_every_question_is_asked() -> None:
    asked = Asked()
    run(wrapped(engine=asked.engine))
    admission = asked.contexts("fl_client_start")
    assert sorted(each["client_id"] for each in admission) == sorted(NAMES)
    assert {each["operation"] for each in admission} == {"client_registration"}
    assert sorted(each["active_clients"] for each in admission) == [0, 1, 2, 3, 4]
    (control,) = asked.contexts("fl_server_control")
    assert control == {
        "operation": "decide_next_round",
        "federation": "digits",
        "current_round": 0,
        "available_clients": 5,
        "max_rounds": 1,
    }
    for kind, operation in (
        ("fl_client_selection", "client_selection"),
        ("fl_client_training", "model_training"),
        ("fl_client_evaluation", "model_evaluation"),
    ):
        contexts = asked.contexts(kind)
        assert sorted(each.pop("client_id") for each in contexts) == sorted(NAMES)
        assert contexts == [
            {
                "operation": operation,
                "component_type": "fl-client",
                "federation": "digits",
                "round": 1,
                "current_round": 1,
            }
        ] * len(NAMES)


def test_a_client_is_asked_about_once_while_the_answer_holds() -> None:
    asked = Asked()
    run(wrapped(engine=asked.engine), rounds=3)
    assert len(asked.contexts("fl_client_start")) == len(NAMES)
    assert len(asked.contexts("fl_client_training")) == len(NAMES) * 3


@pytest.mark.parametrize("kind", ["fl_client_start", "fl_client_selection", "fl_client_training"])
def test_who_is_denied_gets_no_message(kind: str) -> None:
    asked = Asked(**{kind: {"action": "deny", "description": "not this one", "match": {"client_id": "101"}}})
    strategy = wrapped(engine=asked.engine)
    _, sent = run(strategy)
    assert receivers(sent) == {"100", "102", "103", "104"}
    refused = {step.refused["101"] for step in strategy.steps if "101" in step.refused}
    assert refused == {f"policy `{kind}` rule 0: not this one"}


def test_who_may_not_evaluate_gets_no_model_to_evaluate() -> None:
    asked = Asked(fl_client_evaluation={"action": "deny", "match": {"client_id": "101"}})
    _, sent = run(wrapped(engine=asked.engine))
    assert receivers(sent) == set(NAMES)
    assert receivers(sent, "evaluate") == {"100", "102", "103", "104"}


def test_nodes_have_names() -> None:
    asked = Asked()
    strategy = wrapped(engine=asked.engine, name_of=lambda node: f"hospital-{min(node, 103)}")
    _, sent = run(strategy)
    names = {each["client_id"] for each in asked.contexts("fl_client_start")}
    assert names == {"hospital-100", "hospital-101", "hospital-102", "hospital-103"}
    assert len(receivers(sent)) == 4
    assert "has the name of another one" in steps(strategy, "admission")[0].refused["hospital-103"]


def test_parameters_arrive_at_the_client() -> None:
    told = {"learning_rate": 0.5, "epochs": 2, "augment": True, "optimizer": "sgd"}
    unfit = {"layers": [1, 2], "server-round": 99, "limits": {"a": 1}, "nothing": None}
    asked = Asked(
        fl_client_training=[
            {"action": "allow", "match": {}, "parameters": {**told, **unfit}},
            {"action": "configure", "match": {"client_id": "102"}, "parameters": {"epochs": 5}},
        ]
    )
    config = ConfigRecord({"learning_rate": 0.1, "momentum": 0.9})
    _, sent = run(wrapped(engine=asked.engine), train_config=config)
    got = {
        str(each.metadata.dst_node_id): dict(each.content["config"].items())
        for each in sent.sent
        if each.metadata.message_type == "train"
    }
    everybody = {**told, "momentum": 0.9, "server-round": 1}
    assert got == {name: {**everybody, "epochs": 5 if name == "102" else 2} for name in NAMES}
    assert dict(config.items()) == {"learning_rate": 0.1, "momentum": 0.9, "server-round": 1}


@pytest.mark.parametrize(
    ("rule", "passes"),
    [
        ({"action": "limit", "parameters": {"epochs": 1}}, True),
        ({"action": "limit", "parameters": {"layers": [1]}}, False),
        ({"action": "limit"}, False),
        ({"action": "verify", "parameters": {"epochs": 1}}, False),
        ({"action": "configure", "parameters": {"layers": [1]}}, True),
    ],
)
def test_a_duty_that_cannot_be_carried_out_denies(rule: dict[str, Any], passes: bool) -> None:  # noqa: FBT001
    asked = Asked(fl_client_training={**rule, "match": {"client_id": "101"}})
    _, sent = run(wrapped(engine=asked.engine))
    assert receivers(sent) == set(NAMES) - (set() if passes else {"101"})


def test_a_weight_is_reduced_as_a_policy_says() -> None:
    halved = {"action": "weight_reduction", "match": {"client_id": "101"}, "parameters": {"weight_multiplier": 0.125}}
    seen: dict[str, float] = {}

    class Watching(FedAvg):  # type: ignore[misc]  # Flower is not there where types are checked
        def aggregate_train(self, server_round: int, replies: Any) -> Any:
            for each in replies:
                seen[str(each.metadata.src_node_id)] = each.content["metrics"]["num-examples"]
            return super().aggregate_train(server_round, replies)

    run(wrapped(Watching(), engine=Asked(fl_client_selection=halved).engine))
    assert seen == {"100": 60, "101": 15, "102": 60, "103": 60, "104": 60}  # all of them are on probation


def test_a_denied_round_ends_the_run_with_what_was_reached() -> None:
    last = {"action": "deny", "description": "enough", "match": {"condition": "current_round >= 2"}}
    strategy = wrapped(engine=Asked(fl_server_control=last).engine)
    result, sent = run(strategy, rounds=5)
    assert isinstance(strategy.stopped, RunStoppedError)
    assert (strategy.stopped.round, strategy.stopped.reason) == (3, "policy `fl_server_control` rule 0: enough")
    assert strategy.steps[-1].kind == "stopped"
    assert len(sent.sent) == 5 * 2 * 2
    assert set(result.evaluate_metrics_clientapp) == {1, 2}
    assert accuracy(flat(result.arrays)) > 2 * accuracy(initial())
    run(strategy)
    assert strategy.stopped.round == 3  # the federation has not become younger


def test_a_run_that_is_denied_at_once_gives_back_the_model() -> None:
    strategy = wrapped(engine=Asked(fl_server_control={"action": "deny", "match": {}}).engine)
    result, sent = run(strategy)
    assert not sent.sent
    assert flat(result.arrays).tolist() == initial().tolist()


def test_accuracy_is_told_when_it_is_known() -> None:
    asked = Asked()

    def evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
        return MetricRecord({"accuracy": 0.5 + server_round / 8, "size": flat(arrays).size})

    run(wrapped(FedAvg(fraction_evaluate=0.0), engine=asked.engine), rounds=3, evaluate_fn=evaluate)
    told = [(each.get("accuracy"), each.get("accuracy_improvement")) for each in asked.contexts("fl_server_control")]
    assert told == [(0.5, None), (0.625, 0.125), (0.75, 0.125)]


def test_accuracy_comes_from_clients_too() -> None:
    asked = Asked()
    result, _ = run(wrapped(engine=asked.engine), rounds=2)
    assert asked.contexts("fl_server_control")[1]["accuracy"] == result.evaluate_metrics_clientapp[1]["accuracy"]


def test_a_second_run_goes_on_where_the_first_ended() -> None:
    asked = Asked()
    strategy = wrapped(engine=asked.engine, first_round=11)
    run(strategy, rounds=2)
    run(strategy, rounds=1)
    assert [each["round"] for each in asked.contexts("fl_client_training")][:: len(NAMES)] == [11, 12, 13]
    with pytest.raises(LateRoundError):
        run(wrapped(engine=asked.engine))


# The engine is away


def nobody() -> PolicyClient:
    return PolicyClient("http://127.0.0.1:1")


def test_closed_means_nobody_takes_part() -> None:
    strategy = wrapped(engine=nobody(), on_unavailable="closed")
    result, sent = run(strategy, rounds=3)
    assert not sent.sent
    assert strategy.stopped is not None
    assert [step.kind for step in strategy.steps] == ["unavailable", "stopped"]
    assert "no answer in 2 attempts" in strategy.steps[0].detail
    assert flat(result.arrays).tolist() == initial().tolist()


def test_open_goes_on_as_if_nothing_had_been_wrapped() -> None:
    strategy = wrapped(engine=nobody(), on_unavailable="open")
    result, sent = run(strategy, rounds=3)
    assert receivers(sent) == receivers(sent, "evaluate") == set(NAMES)
    assert strategy.stopped is None
    assert [step.round for step in steps(strategy, "unavailable")] == [1] * 4 + [2] * 4 + [3] * 4
    assert all(step.detail.startswith("open: ") for step in steps(strategy, "unavailable"))
    plain, _ = run(FedAvg(), rounds=3)
    assert flat(result.arrays) == pytest.approx(flat(plain.arrays), abs=1e-12)


@pytest.mark.parametrize("question", ["select", "check_many"])
def test_closed_invites_nobody_when_the_engine_goes_away_within_a_round(question: str) -> None:
    strategy = wrapped(engine=Failing(Asked().engine, question))
    result, sent = run(strategy)
    assert not sent.sent
    assert [step.kind for step in strategy.steps if step.kind in {"unavailable", "held"}][:2] == ["unavailable", "held"]
    assert flat(result.arrays).tolist() == initial().tolist()


def test_without_advice_closed_holds_and_open_aggregates() -> None:
    closed = wrapped(engine=Failing(Asked().engine, "observe"))
    result, _ = run(closed)
    assert flat(result.arrays).tolist() == initial().tolist()
    assert steps(closed, "held")[0].detail == "the engine is away: the model stays"
    opened = wrapped(engine=Failing(Asked().engine, "observe"), on_unavailable="open")
    result, _ = run(opened)
    assert set(steps(opened, "aggregation")[0].passed) == set(NAMES)
    assert accuracy(flat(result.arrays)) > 2 * accuracy(initial())


def test_an_engine_that_comes_back_in_time_is_heard() -> None:
    engine = Failing(Asked().engine, "check")
    strategy = wrapped(engine=engine, on_step=lambda _: engine.questions.clear(), on_unavailable="open")
    run(strategy, rounds=2)
    assert [step.round for step in steps(strategy, "unavailable")] == [1]
    assert [step.round for step in steps(strategy, "control")] == [2]


def test_how_to_fail_has_to_be_said() -> None:
    with pytest.raises(KeyError):
        wrapped(on_unavailable="perhaps")


def test_steps_are_told_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    told: list[Step] = []
    asked = Asked(fl_client_start={"action": "deny", "description": "no", "match": {"client_id": "101"}})
    strategy = wrapped(engine=asked.engine, on_step=told.append)
    with caplog.at_level(logging.INFO, logger="policy_engine.integrations"):
        run(strategy)
    assert told == strategy.steps
    kinds = ["control", "admission", "selection", "training", "replies", "observation", "aggregation"]
    assert [step.kind for step in told] == [*kinds, "admission", "evaluation"]
    assert "round 1, admission: client `101`: policy `fl_client_start` rule 0: no" in caplog.text
