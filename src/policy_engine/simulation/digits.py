"""The data: scikit-learn's handwritten digits, spread unevenly over clients."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from policy_engine.simulation.vector import Samples

ALPHA = 0.5
"""How even the clients' shares of each digit are; at 0.5 most clients lack some digits (Hsu et al., 2019)."""

TEST_SAMPLES, ROOT_SAMPLES = 360, 100
_LEAST_SHARE = 8
"""Every client has at least this part of an even share."""


class Digits(NamedTuple):
    """Digits, as one federation holds them.

    Attributes:
        clients: What each client trains on.
        test: What accuracy is measured on.
        root: Clean samples that the server keeps, for a reference that no client has a hand in.
    """

    clients: tuple[Samples, ...]
    test: Samples
    root: Samples


def spread(clients: int, seed: int) -> Digits:
    """Return the digits spread over some clients."""
    images, labels = _digits()
    random = np.random.default_rng((seed, 0))
    order = random.permutation(len(labels))
    parts = np.split(order, [TEST_SAMPLES, TEST_SAMPLES + ROOT_SAMPLES])
    test, root, rest = (Samples(images[part], labels[part]) for part in parts)
    owners = _owners(rest, clients, random)
    shares = tuple(Samples(rest.images[mine], rest.labels[mine]) for mine in (owners == n for n in range(clients)))
    return Digits(shares, test, root)


@lru_cache(maxsize=1)
def _digits() -> Samples:
    from sklearn.datasets import load_digits  # noqa: PLC0415 - takes a second

    images, labels = load_digits(return_X_y=True)
    return Samples(images / 16.0, labels.astype(np.int64))


def _owners(samples: Samples, clients: int, random: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return whose each sample is: of each digit a client gets a share drawn from a Dirichlet distribution."""
    least = max(1, len(samples.labels) // (_LEAST_SHARE * clients))
    while True:
        owners = np.empty(len(samples.labels), dtype=np.int64)
        for digit in range(10):
            places = np.flatnonzero(samples.labels == digit)
            cuts = np.cumsum(random.dirichlet(np.full(clients, ALPHA)))[:-1] * len(places)
            for owner, mine in enumerate(np.split(places, cuts.astype(np.int64))):
                owners[mine] = owner
        if np.bincount(owners, minlength=clients).min() >= least:
            return owners
