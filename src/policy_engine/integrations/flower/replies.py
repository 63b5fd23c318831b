"""What clients sent in a round: sorted, and made ready to be aggregated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict

from policy_engine.integrations.flower.model import MalformedError, Model

if TYPE_CHECKING:
    from policy_engine.integrations.flower.model import Vector

_MAX_SAMPLES = 2**53

Form: TypeAlias = tuple[str, str, tuple[tuple[str, int], ...]]
"""The names of a reply's records, and of its metrics with their lengths; -1 for a single number."""


class Answer(NamedTuple):
    """A reply that can be aggregated.

    Attributes:
        samples: The weight that the client declares.
        form: It has to be the same in all replies of a round.
        update: What it adds to the global model; None for an evaluation.
    """

    message: Message
    samples: float
    form: Form
    update: Vector | None


class Sorted(NamedTuple):
    """The replies of a round.

    Attributes:
        answers: Client -> its reply.
        faults: Client -> why what it sent counts as no answer, or that nothing came.
    """

    answers: dict[str, Answer]
    faults: dict[str, str]


def sort_replies(
    replies: Iterable[Message], invited: Mapping[int, str], weighted_by_key: str, model: Model | None
) -> Sorted:
    """Tell replies that can be aggregated from those that cannot.

    Strategies refuse a whole round when one reply is not like the others, so that a single client could end a run. Here
    the form that most replies have is the right one, and the others count as no answer.

    Args:
        replies: As they came.
        invited: Node -> client; replies of other nodes are passed over.
        weighted_by_key: The metric that has the weight.
        model: The global model for replies to a training, None for an evaluation.
    """
    answers: dict[str, Answer] = {}
    faults: dict[str, str] = {}
    for message in replies:
        client = invited.get(message.metadata.src_node_id)
        if client is None or client in answers or client in faults:
            continue
        try:
            answers[client] = _answer(message, weighted_by_key, model)
        except MalformedError as error:
            faults[client] = str(error)
    forms = Counter(answer.form for answer in answers.values())
    usual = max(forms, key=lambda form: forms[form], default=None)
    faults |= {
        client: "its records are not like those of the others"
        for client, answer in answers.items()
        if answer.form != usual
    }
    answers = {client: answer for client, answer in answers.items() if answer.form == usual}
    faults |= {client: "no reply came" for client in invited.values() if client not in answers and client not in faults}
    return Sorted(answers, faults)


def _answer(message: Message, weighted_by_key: str, model: Model | None) -> Answer:
    if not message.has_content():
        raise MalformedError("the client reports an error")
    arrays, metrics = message.content.array_records, message.content.metric_records
    if (model is not None and len(arrays) != 1) or len(metrics) != 1:
        raise MalformedError("it does not hold one record of arrays and one of metrics")
    ((metric_key, metric),) = metrics.items()
    samples = metric.get(weighted_by_key)
    if isinstance(samples, list) or samples is None or not 0 <= samples <= _MAX_SAMPLES:
        raise MalformedError(f"its `{weighted_by_key}` is not a number of samples")
    lengths = sorted((name, len(value) if isinstance(value, list) else -1) for name, value in metric.items())
    if model is None:
        return Answer(message, samples, ("", metric_key, tuple(lengths)), None)
    ((array_key, record),) = arrays.items()
    return Answer(message, samples, (array_key, metric_key, tuple(lengths)), model.update(record))


def weighted(answer: Answer, model: Model, update: Vector | None, weight: float, weighted_by_key: str) -> Message:
    """Return a reply as it is to be aggregated; the records that the client sent stay as they are.

    Args:
        answer: The reply.
        model: The global model of the round.
        update: What takes the place of its update; None leaves it.
        weight: By what to multiply its weight.
        weighted_by_key: The metric that has the weight.
    """
    array_key, metric_key, _ = answer.form
    content = answer.message.content
    records = dict(content.items())
    record, metric = content[array_key], content[metric_key]
    assert isinstance(record, ArrayRecord)  # noqa: S101 - as it was sorted
    records[array_key] = model.moved(record, update)
    if weight != 1:
        records[metric_key] = MetricRecord({**metric, weighted_by_key: answer.samples * weight})
    answer.message.content = RecordDict(records)
    return answer.message
