"""Encoding in a process of its own, which takes neither the interpreter nor, if there is another, the core."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import msgspec

from policy_engine.model.errors import PolicyEngineError
from policy_engine.store.channel import Channel, ChannelError, open_channel
from policy_engine.store.encode import Drafted, Row
from policy_engine.store.order import (
    Begin,
    Encode,
    Keys,
    Missing,
    Order,
    Ready,
    Reply,
    Rows,
    decode_reply,
    encode_into,
)
from policy_engine.store.redact import Redactor
from policy_engine.store.sealer import Ensure

_PATIENCE_SECONDS = 0.2
"""How long its answers to one order may take: less than those wait who want their decision to be on the disk first."""

_MAX_BYTES = 4 << 20
"""How much is sent at once: to encode more would take longer than an answer may take."""

_START_SECONDS = 30.0
_END_SECONDS = 1.0


class OffloadError(PolicyEngineError):
    """The process is gone, or does not answer."""


class Offload:
    """A process that encodes; used by one thread. It ends when this one does, however that ends."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._buffer = bytearray()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self._ended: list[subprocess.Popen[bytes]] = []
        self._is_ready = False
        self._began = 0.0
        self._patience = _PATIENCE_SECONDS

    @property
    def is_running(self) -> bool:
        """Whether it was started, and has not been found to be gone."""
        return self._process is not None

    @property
    def pid(self) -> int | None:
        """The id of the process."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start it; it becomes ready by and by.

        Raises:
            OffloadError: No process can be started.
        """
        try:
            ends = open_channel()
        except (OSError, AttributeError) as error:
            raise OffloadError(f"there is no way to speak to it: {error}") from error
        self._channel = ends.ours
        self._is_ready = False
        self._began = time.monotonic()
        # -P: not from the directory this happens to run in, where anybody may have put modules of these names.
        command = [sys.executable, "-P", "-m", "policy_engine.store.offloaded", *map(str, ends.theirs)]
        try:
            # The names in the command are ours, and so is the interpreter.
            self._process = subprocess.Popen(command, pass_fds=ends.theirs, stdin=subprocess.DEVNULL)  # noqa: S603
        except OSError as error:
            raise OffloadError(f"it cannot be started: {error.strerror}") from error
        finally:
            ends.hand_over()
        self._send(Begin(sorted(self._redactor.masked), list(self._redactor.personal)))

    def is_ready(self) -> bool:
        """Whether it can be given something.

        Raises:
            OffloadError: It is gone, or has not become ready in a long time.
        """
        if self._channel is None or self._is_ready:
            return self._is_ready
        if self._channel.has_message():
            self._patience = _PATIENCE_SECONDS
            self._is_ready = isinstance(self._receive(), Ready)
        elif time.monotonic() > self._began + _START_SECONDS:
            raise OffloadError("it does not become ready")
        return self._is_ready

    def rows(self, records: Sequence[Drafted], keys: tuple[int, int], ensure: Ensure) -> list[Row] | None:
        """Return what `Encoder.rows` does, or None when that raises something, or is too much for one answer.

        Args:
            records: The decisions.
            keys: Something else whenever keys that `ensure` returned are not to be used any more.
            ensure: Returns the subjects of some names.

        Raises:
            OffloadError: There is no answer.
        """
        self._patience = _PATIENCE_SECONDS
        encode_into(Encode(keys, list(records)), self._buffer)
        if len(self._buffer) > _MAX_BYTES:
            return None
        self._send_buffer()
        while True:
            reply = self._receive()
            if isinstance(reply, Rows):
                return reply.rows
            if not isinstance(reply, Missing):
                return None
            names = set(reply.names)
            subjects = ensure(names)
            self._send(Keys([subjects[name] for name in names]))

    def close(self) -> None:
        """End it, if it runs; it may take until it gets some time to be gone, which is not waited for."""
        process, self._process = self._process, None
        channel, self._channel = self._channel, None
        self._is_ready = False
        self._buffer = bytearray()  # what it was given stays nowhere
        if channel is not None:
            channel.close()
        if process is not None:
            process.kill()  # it keeps nothing
            self._ended.append(process)
        self.bury()

    def end(self) -> None:
        """End it, and wait until it is gone, but not for long."""
        self.close()
        for process in self._ended:
            with suppress(subprocess.TimeoutExpired):
                process.wait(_END_SECONDS)
        self.bury()

    def bury(self) -> None:
        """Let go of processes that are gone."""
        self._ended = [process for process in self._ended if process.poll() is None]

    def _send(self, order: Order) -> None:
        encode_into(order, self._buffer)
        self._send_buffer()

    def _send_buffer(self) -> None:
        with _as_offload_errors():
            self._open_channel().send(self._buffer)

    def _receive(self) -> Reply:
        began = time.monotonic()
        with _as_offload_errors():
            reply = self._open_channel().receive(decode_reply, max(self._patience, 0.0))
        self._patience -= time.monotonic() - began
        return reply

    def _open_channel(self) -> Channel:
        if self._channel is None:
            raise ChannelError("it does not run")
        return self._channel


@contextmanager
def _as_offload_errors() -> Iterator[None]:
    """Tell of what comes in between as what it is for those who order."""
    try:
        yield
    except ChannelError as error:
        raise OffloadError(str(error)) from error
    except msgspec.MsgspecError as error:
        raise OffloadError("it answers what cannot be read") from error
