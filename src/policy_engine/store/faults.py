"""What is wrong with an audit trail."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

What: TypeAlias = Literal[
    "altered",
    "missing",
    "reordered",
    "added",
    "unsigned",
    "checkpoint_altered",
    "checkpoint_missing",
    "key",
    "chain",
    "column",
    "index",
    "part",
]
"""What was found: an entry that is not what was stored, is gone, stands elsewhere or was put in; a checkpoint that no
trusted key signed, that is not what was signed or is gone; a key that nobody vouches for; a head or tail of a chain, a
column of an entry, the index of decisions or a document of a revision that contradicts the entries."""

MAX_FAULTS = 100


class Fault(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that is wrong.

    Attributes:
        text: The same as a sentence.
        writer: Whose chain it concerns.
        seq: Which entry of that chain.
        position: Where that entry stands, or should.
        checkpoint: The number of the checkpoint that it concerns, or that shows it.
    """

    what: What
    text: str
    stream: str | None = None
    writer: int | None = None
    seq: int | None = None
    position: int | None = None
    checkpoint: int | None = None


class Faults:
    """Collects faults in the order in which they are found; beyond MAX_FAULTS it only counts."""

    def __init__(self) -> None:
        self.found: list[Fault] = []
        self.count = 0

    def add(self, fault: Fault) -> None:
        """Note a fault; what it quotes from the database may not be text at all."""
        self.count += 1
        if self.count <= MAX_FAULTS:
            text = fault.text.encode("utf-8", "backslashreplace").decode()
            self.found.append(msgspec.structs.replace(fault, text=text))
