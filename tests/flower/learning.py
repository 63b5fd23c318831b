"""A small federation on digits: what a client's update is, as a pure function, and the same as an app of Flower."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from sklearn.datasets import load_digits
from tests.flower.grid import App

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vector = NDArray[np.float64]

PIXELS, DIGITS = 64, 10
SIZE = PIXELS * DIGITS + DIGITS
Attack = Callable[["Vector"], "Vector"]


class Client(NamedTuple):
    """One client and its samples; `attack` makes of its update what it sends."""

    node: int
    images: Vector
    labels: NDArray[np.int64]
    attack: Attack | None = None

    @property
    def name(self) -> str:
        return str(self.node)


def sign_flip(update: Vector) -> Vector:
    return -update


def clients(count: int, attackers: int, attack: Attack = sign_flip) -> list[Client]:
    """Clients with samples of all digits, each with two that it has more of; the last ones attack."""
    images, labels = _digits()
    random = np.random.default_rng(7)
    made = []
    for number in range(count):
        liked = random.permutation(DIGITS)[:2]
        odds = np.where(np.isin(labels, liked), 3.0, 1.0)
        chosen = random.choice(len(labels), 120, replace=False, p=odds / odds.sum())
        flawed = attack if number >= count - attackers else None
        made.append(Client(100 + number, images[chosen], labels[chosen], flawed))
    return made


@cache
def _digits() -> tuple[Vector, NDArray[np.int64]]:
    images, labels = load_digits(return_X_y=True)
    return images / 16.0, labels


def trained(params: Vector, client: Client, round_number: int) -> Vector:
    """Softmax regression, one pass in small batches; the update is what comes out less what went in."""
    weights, bias = split(params.copy())
    order = np.random.default_rng((client.node, round_number)).permutation(len(client.labels))
    for start in range(0, len(order), 8):
        batch = order[start : start + 8]
        logits = client.images[batch] @ weights + bias
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        error = odds / odds.sum(axis=1, keepdims=True)
        error[np.arange(len(batch)), client.labels[batch]] -= 1
        weights -= 0.1 * client.images[batch].T @ error / len(batch)
        bias -= 0.1 * error.mean(axis=0)
    update = np.concatenate([weights.ravel(), bias]) - params
    return client.attack(update) if client.attack else update


def split(params: Vector) -> tuple[Vector, Vector]:
    return params[: PIXELS * DIGITS].reshape(PIXELS, DIGITS), params[PIXELS * DIGITS :]


def accuracy(params: Vector) -> float:
    images, labels = _digits()
    weights, bias = split(params)
    return float(((images @ weights + bias).argmax(axis=1) == labels).mean())


def initial() -> Vector:
    return np.zeros(SIZE)


def record(params: Vector, kind: str = "float64") -> ArrayRecord:
    weights, bias = split(params)
    return ArrayRecord({"weights": Array(weights.astype(kind)), "bias": Array(bias.astype(kind))})


def flat(arrays: ArrayRecord) -> Vector:
    return np.concatenate([array.numpy().astype(np.float64).ravel() for array in arrays.values()])


def app(client: Client, kind: str = "float64") -> App:
    """What the client does with messages."""

    def answer(message: Message) -> RecordDict:
        content = message.content
        params = flat(content["arrays"])
        metrics = {"num-examples": len(client.labels)}
        if message.metadata.message_type == "evaluate":
            return RecordDict({"metrics": MetricRecord({**metrics, "accuracy": accuracy(params)})})
        sent = params + trained(params, client, int(content["config"]["server-round"]))
        return RecordDict({"arrays": record(sent, kind), "metrics": MetricRecord(metrics)})

    return answer
