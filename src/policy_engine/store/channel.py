"""A channel between two processes that speak in turn: what they say lies in memory that both of them see."""

from __future__ import annotations

import mmap
import os
import select
import struct
from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple, TypeVar

from policy_engine.model.errors import PolicyEngineError

_LENGTH = struct.Struct("=Q")
_START_BYTES = 1 << 20

T = TypeVar("T")


class ChannelError(PolicyEngineError):
    """The other end is gone, or does not answer."""


class Channel:
    """One end. A pipe would take a message of a megabyte in many steps, with both ends to wake up for each of them.

    Each message overwrites the one before, so whoever receives one has to be done with it before it says anything.
    """

    def __init__(self, memory: int, reads: int, writes: int) -> None:
        """Begin to speak; the descriptors are this end's from now on.

        Args:
            memory: Memory that both ends have.
            reads: The end of a pipe from the other process.
            writes: The end of a pipe to it.
        """
        self._memory = memory
        self._reads = reads
        self._writes = writes
        self._map = mmap.mmap(memory, _START_BYTES)
        self._poll = select.poll()
        self._poll.register(reads, select.POLLIN)

    def send(self, message: bytes | bytearray) -> None:
        """Say something.

        Raises:
            ChannelError: The other end is gone.
        """
        size = len(message)
        try:
            if size > len(self._map):
                os.ftruncate(self._memory, -(-size // _START_BYTES) * _START_BYTES)
                self._see_all()
            self._map[:size] = message
            os.write(self._writes, _LENGTH.pack(size))
        except OSError as error:
            raise ChannelError(f"it is gone: {error.strerror}") from error

    def has_message(self) -> bool:
        """Whether something has been said, or the other end is gone."""
        return bool(self._poll.poll(0))

    def receive(self, read: Callable[[memoryview], T], seconds: float | None = None) -> T:
        """Wait for what the other end says, and return what is read of it.

        Args:
            read: Makes something of the message that does not refer to its memory.
            seconds: How long to wait; None is for ever.

        Raises:
            ChannelError: It said nothing.
        """
        if not self._poll.poll(None if seconds is None else seconds * 1000):
            raise ChannelError("it does not answer")
        head = os.read(self._reads, _LENGTH.size)
        if len(head) < _LENGTH.size:
            raise ChannelError("it is gone")
        (size,) = _LENGTH.unpack(head)
        if size > len(self._map):
            self._see_all()
        with memoryview(self._map) as whole, whole[:size] as message:
            return read(message)

    def close(self) -> None:
        """End the conversation."""
        self._map.close()
        for descriptor in (self._memory, self._reads, self._writes):
            os.close(descriptor)

    def _see_all(self) -> None:
        """See as much of the memory as there is since one end made it larger."""
        self._map.close()
        self._map = mmap.mmap(self._memory, 0)


class Ends(NamedTuple):
    """The two ends of a new channel.

    Attributes:
        ours: One of them.
        theirs: What `Channel` takes for the other one, in a process that inherits these descriptors.
    """

    ours: Channel
    theirs: tuple[int, int, int]

    def hand_over(self) -> None:
        """Close here what only the other process is to have."""
        for descriptor in self.theirs[1:]:
            os.close(descriptor)


def open_channel() -> Ends:
    """Return a new channel.

    Raises:
        OSError, AttributeError: There is none to be had here.
    """
    with ExitStack() as undo:
        memory = os.memfd_create("policy-engine-channel")
        undo.callback(os.close, memory)
        os.ftruncate(memory, _START_BYTES)
        there, back = _pipe(undo), _pipe(undo)
        ours = Channel(memory, back[0], there[1])
        undo.pop_all()
    return Ends(ours, (memory, there[0], back[1]))


def _pipe(undo: ExitStack) -> tuple[int, int]:
    made = os.pipe()
    for descriptor in made:
        undo.callback(os.close, descriptor)
    return made
