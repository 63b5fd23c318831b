"""The process that encodes for another one: it answers orders until that one is gone."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Collection, Mapping
from contextlib import suppress

from policy_engine.store.channel import Channel, ChannelError
from policy_engine.store.encoder import Encoder
from policy_engine.store.order import (
    Begin,
    Encode,
    Failed,
    Keys,
    Missing,
    Order,
    Ready,
    Reply,
    Rows,
    decode_order,
    encode_into,
)
from policy_engine.store.redact import Redactor
from policy_engine.store.subjects import Subject, forget_sealed

_MAX_REMEMBERED = 50_000
_GC_THRESHOLD = 200_000
_NICENESS = 19


class _UnknownError(Exception):
    """Keys are needed first."""

    def __init__(self, names: Collection[str]) -> None:
        super().__init__()
        self.names = names


class _Encoding:
    """What the process knows."""

    def __init__(self, begin: Begin) -> None:
        self._encoder = Encoder(Redactor(begin.masked, begin.personal))
        self._subjects: dict[str, Subject] = {}
        self._keys: tuple[int, int] | None = None
        self._order: Encode | None = None

    def reply(self, order: Order) -> Rows | Missing | Failed:
        """Carry out an order."""
        if isinstance(order, Encode):
            self._order = order
            if order.keys != self._keys or len(self._subjects) > _MAX_REMEMBERED:
                self._subjects = {}
                forget_sealed()
                self._keys = order.keys
        elif isinstance(order, Keys):
            self._subjects.update((each[0], Subject(*each)) for each in order.subjects)
        if self._order is None:
            return Failed()
        try:
            rows = Rows(self._encoder.rows(self._order.records, self._ensure))
        except _UnknownError as unknown:
            return Missing(sorted(unknown.names))
        except Exception:  # noqa: BLE001 - the one that ordered tries by itself, and says what is wrong
            self._order = None
            return Failed()
        self._order = None
        return rows

    def _ensure(self, names: set[str]) -> Mapping[str, Subject]:
        missing = names - self._subjects.keys()
        if missing:
            raise _UnknownError(missing)
        return self._subjects


def _give_way() -> None:
    """Let those who decide come first: whoever is to run may do so at once where this process is running.

    Nothing waits for it without limit: who decides faster than this one encodes is slowed down (`Intake`), and where it
    gets no time at all its owner does its work (`Encoding`).
    """
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except (AttributeError, OSError):  # another system, or it is not allowed
        os.nice(_NICENESS)


def main() -> None:
    """Serve the process that started this one."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # they go to all of a group; this process ends with its owner
    _give_way()
    channel = Channel(*map(int, sys.argv[1:]))
    buffer = bytearray()

    def say(reply: Reply) -> None:
        encode_into(reply, buffer)
        channel.send(buffer)

    with suppress(ChannelError):
        begin = channel.receive(decode_order)
        if isinstance(begin, Begin):
            encoding = _Encoding(begin)
            gc.freeze()  # an order leaves no cycles behind, so there is little to look for
            gc.set_threshold(_GC_THRESHOLD)
            say(Ready())
            while True:
                say(encoding.reply(channel.receive(decode_order)))


if __name__ == "__main__":
    main()
