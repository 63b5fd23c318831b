"""The model: a network of 64 inputs, 32 hidden units and 10 classes, as one flat vector of parameters."""

from __future__ import annotations

import numpy as np

from policy_engine.simulation.vector import Labels, Matrix, Samples, Vector

INPUTS, HIDDEN, CLASSES = 64, 32, 10
PARAMETERS = INPUTS * HIDDEN + HIDDEN + HIDDEN * CLASSES + CLASSES
_ENDS = (INPUTS * HIDDEN, INPUTS * HIDDEN + HIDDEN, INPUTS * HIDDEN + HIDDEN + HIDDEN * CLASSES)

EPOCHS, BATCH, RATE = 5, 8, 0.03
"""What a client does in a round. It is gentle on purpose: a model that has learned its samples by heart sends noise."""


def initial(seed: int) -> Vector:
    """Return random parameters to begin with (He et al., 2015), of shape (PARAMETERS,)."""
    random = np.random.default_rng((seed, 1))
    parameters = np.zeros(PARAMETERS)
    first, _, second, _ = _layers(parameters)
    first[:] = random.normal(0, (2 / INPUTS) ** 0.5, first.shape)
    second[:] = random.normal(0, (2 / HIDDEN) ** 0.5, second.shape)
    return parameters


def trained(parameters: Vector, samples: Samples, random: np.random.Generator) -> Vector:
    """Return what the parameters are after some epochs of stochastic gradient descent on the cross-entropy."""
    moved = parameters.copy()
    layers = _layers(moved)
    targets = np.eye(CLASSES)[samples.labels]
    for _ in range(EPOCHS):
        order = random.permutation(len(targets))
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            _descend(layers, samples.images[batch], targets[batch])
    return moved


def predicted(parameters: Vector, images: Matrix) -> Labels:
    """Return the most probable digit of each image."""
    first, first_bias, second, second_bias = _layers(parameters)
    hidden = np.maximum(images @ first + first_bias, 0)
    found: Labels = (hidden @ second + second_bias).argmax(axis=1)
    return found


def accuracy(parameters: Vector, samples: Samples) -> float:
    """Return which share of samples is recognised."""
    return float((predicted(parameters, samples.images) == samples.labels).mean())


_Layers = tuple[Matrix, Vector, Matrix, Vector]


def _layers(parameters: Vector) -> _Layers:
    """Return weights and biases as views into the parameters."""
    first, first_bias, second, second_bias = np.split(parameters, _ENDS)
    return first.reshape(INPUTS, HIDDEN), first_bias, second.reshape(HIDDEN, CLASSES), second_bias


def _descend(layers: _Layers, images: Matrix, targets: Matrix) -> None:
    """Make one step, in place."""
    first, first_bias, second, second_bias = layers
    hidden = np.maximum(images @ first + first_bias, 0)
    scores = hidden @ second + second_bias
    chances = np.exp(scores - scores.max(axis=1, keepdims=True))
    chances /= chances.sum(axis=1, keepdims=True)
    wrong = (chances - targets) * (RATE / len(targets))
    back = (wrong @ second.T) * (hidden > 0)
    second -= hidden.T @ wrong
    second_bias -= wrong.sum(axis=0)
    first -= images.T @ back
    first_bias -= back.sum(axis=0)
