"""Orders: what a process says to the one that encodes for it, and what that answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from policy_engine.store.encode import Drafted, Row


class Begin(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """How to encode.

    Attributes:
        masked: Dotted paths of context fields that are not written.
        personal: Dotted paths of context fields that are written under pseudonyms.
    """

    masked: list[str]
    personal: list[str]


class Encode(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """What to encode.

    Attributes:
        keys: Which keys are good: others are to be forgotten when this is not what it was.
        records: The decisions.
    """

    keys: tuple[int, int]
    records: list[Drafted]


class Keys(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The keys that were asked for, as tuples like `Subject`."""

    subjects: list[tuple[str, bytes, str]]


class Ready(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """It can begin."""


class Rows(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """What came of it."""

    rows: list[Row]


class Missing(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The names of subjects whose keys are needed first."""

    names: list[str]


class Failed(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """It cannot be encoded."""


Order: TypeAlias = Begin | Encode | Keys
Reply: TypeAlias = Ready | Rows | Missing | Failed

decode_order: Callable[[memoryview], Order] = msgspec.msgpack.Decoder(Order).decode
decode_reply: Callable[[memoryview], Reply] = msgspec.msgpack.Decoder(Reply).decode

encode_into = msgspec.msgpack.Encoder().encode_into
"""Encodes an order or a reply into a buffer: a new one for each would have the kernel find all its pages again."""
