"""Answers of functions that declare what they depend on."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from threading import Lock
from typing import Any

import msgspec

MAX_ENTRIES = 4096
MAX_BYTES = 4096
"""The largest key, and the largest answer, that is kept: together with the number of entries it bounds the memory."""

_encode = msgspec.json.Encoder(order="sorted").encode


def pick(context: Mapping[str, Any], inputs: tuple[str, ...]) -> dict[str, Any]:
    """Return the part of a context that some dotted paths name; what is not there stays away."""
    picked: dict[str, Any] = {}
    for path in inputs:
        *parents, leaf = path.split(".")
        source: Any = context
        for name in parents:
            source = source.get(name) if isinstance(source, dict) else None
        if not isinstance(source, dict) or leaf not in source:
            continue
        here = picked
        for name in parents:
            here = here.setdefault(name, {})
            if not isinstance(here, dict):
                break
        else:
            here[leaf] = source[leaf]
    return picked


class AnswerCache:
    """The answers asked for most lately, by function and inputs; safe for many threads."""

    def __init__(self, entries: int = MAX_ENTRIES) -> None:
        self._entries = entries
        self._held: OrderedDict[tuple[str, bytes], dict[str, Any]] = OrderedDict()
        self._lock = Lock()

    def key(self, digest: str, inputs: Mapping[str, Any]) -> tuple[str, bytes] | None:
        """Return what an answer is kept under; None when it is too large to keep."""
        encoded = _encode(inputs)
        return (digest, encoded) if len(encoded) <= MAX_BYTES else None

    def get(self, key: tuple[str, bytes]) -> dict[str, Any] | None:
        """Return an answer; it belongs to all who ask, so it is not to be changed."""
        with self._lock:
            answer = self._held.get(key)
            if answer is not None:
                self._held.move_to_end(key)
            return answer

    def put(self, key: tuple[str, bytes], answer: dict[str, Any]) -> None:
        """Keep an answer, and forget the one that was not asked for longest."""
        if len(_encode(answer)) > MAX_BYTES:
            return
        with self._lock:
            self._held[key] = answer
            self._held.move_to_end(key)
            while len(self._held) > self._entries:
                self._held.popitem(last=False)
