"""One chain, followed entry by entry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from policy_engine.store.chain import Link, entry_hash
from policy_engine.store.faults import Fault, Faults, What
from policy_engine.store.raw import is_number
from policy_engine.store.signed import Head, Heads, Key

NextStored: TypeAlias = Callable[[Key, int], tuple[int, int]]
"""Returns number and position of the lowest entry of a chain from a number on; there is one."""


class Row(NamedTuple):
    """One entry as it is stored.

    Attributes:
        columns: What is searched by, beside the entry itself.
    """

    position: int
    seq: int
    body: bytes
    hash: bytes
    columns: tuple[Any, ...]

    @property
    def is_sound(self) -> bool:
        """Whether each value has the type of its column."""
        return (
            is_number(self.position) and is_number(self.seq) and type(self.body) is bytes and type(self.hash) is bytes
        )


class Ends(NamedTuple):
    """What the database says about both ends of a chain."""

    seq: int
    position: int
    hash: bytes
    items: int
    tail_seq: int
    tail_position: int
    tail_hash: bytes
    tail_items: int

    @property
    def is_sound(self) -> bool:
        """Whether each value has the type of its column."""
        numbers = (self.seq, self.position, self.items, self.tail_seq, self.tail_position, self.tail_items)
        return all(map(is_number, numbers)) and type(self.hash) is type(self.tail_hash) is bytes

    @property
    def head(self) -> Link:
        """The last entry; `items` is left out."""
        return Link(self.seq, self.position, self.hash)

    @property
    def tail(self) -> Link:
        """What was removed last; `items` is left out."""
        return Link(self.tail_seq, self.tail_position, self.tail_hash, self.tail_items)


class Stated(NamedTuple):
    """What is known of a chain before its entries are read.

    Attributes:
        tail: Behind what it begins.
        heads: Where it stood at each checkpoint.
        exported: Where it stood at a checkpoint that was kept elsewhere.
        ends: What the database says, None when it does not know the chain.
    """

    tail: Link
    heads: Heads
    exported: Head | None
    ends: Ends | None


class Walk:
    """Follows a chain from its tail and finds where it is broken.

    Attributes:
        items: How many items its entries hold; whoever reads these counts them.
        uncovered: How many of its entries came after the last checkpoint.
    """

    def __init__(self, key: Key, stated: Stated, next_stored: NextStored, faults: Faults) -> None:
        """Stand before the first entry.

        Args:
            key: Names the chain.
            stated: What is known of it.
            next_stored: Looks for an entry wherever it stands.
            faults: Where to note what is wrong.
        """
        self._key = key
        self._stated = stated
        self._next_stored = next_stored
        self._faults = faults
        self._seq, self._position = stated.tail.seq, stated.tail.position
        self._hashes: tuple[bytes, ...] = (stated.tail.hash,)
        self._place = 0
        self._good: Head | None = None
        self._covered = stated.heads[-1].seq if len(stated.heads) else 0
        self._broken = False
        self._lost = False
        self.items = 0
        self.uncovered = 0
        self._compare()

    def take(self, row: Row) -> bool:
        """Go on to the next entry; return whether it is what was stored, as far as its hash says."""
        self.uncovered += row.seq > self._covered
        if self._lost:
            return False
        expected = self._seq + 1
        for previous in self._hashes:
            if entry_hash(previous, row.position, expected, row.body) == row.hash:
                if row.seq != expected:
                    self._fault(
                        "altered", expected, row.position, f"it is entry {expected} and says that it is {row.seq}"
                    )
                self._advance(expected, row.position, row.hash)
                return row.seq == expected
        self._break(row, expected)
        return False

    def _break(self, row: Row, expected: int) -> None:
        """Say what is wrong with an entry that does not follow the one before, and go on behind it if possible."""
        if row.seq == expected:
            doubt = "" if self._is_confirmed() else ", or the one before it was and its hash with it"
            self._fault("altered", expected, row.position, f"entry {expected} does not follow the one before{doubt}")
            computed = (entry_hash(previous, row.position, expected, row.body) for previous in self._hashes)
            self._advance(expected, row.position, row.hash, *computed)
            return
        if row.seq < expected:
            self._fault(
                "added", row.seq, row.position, f"there is an entry that calls itself {row.seq} after {self._seq}"
            )
            self._lost = True
            return
        following, place = self._next_stored(self._key, expected)
        if following == expected:
            self._fault("reordered", expected, place, f"entry {expected} does not stand behind entry {self._seq}")
        else:
            self._missing(expected, following - 1)
        if following == row.seq:
            self._advance(row.seq, row.position, row.hash)
        else:
            self._lost = True

    def _is_confirmed(self) -> bool:
        """Whether a checkpoint or the tail states the entry before."""
        return self._seq == self._stated.tail.seq or (self._good is not None and self._good.seq == self._seq)

    def _advance(self, seq: int, position: int, *hashes: bytes) -> None:
        self._seq, self._position, self._hashes = seq, position, hashes
        self._compare()

    def _compare(self) -> None:
        """Compare the entry where the walk stands with what checkpoints state of it."""
        heads = self._stated.heads
        while self._place < len(heads) and heads[self._place].seq <= self._seq:
            if heads[self._place].seq == self._seq:
                self._check(heads[self._place])
            self._place += 1
        exported = self._stated.exported
        if (
            exported is not None
            and exported.seq == self._seq
            and exported.hash not in self._hashes
            and not self._broken
        ):
            self._fault(
                "altered", self._seq, self._position, f"entry {self._seq} is not what the exported checkpoint states"
            )

    def _check(self, head: Head) -> None:
        if head.hash in self._hashes:
            self._good = head
        elif not self._broken:
            good = self._good
            since = good.seq + 1 if good else self._stated.tail.seq + 1
            after = f"checkpoint {good.checkpoint}" if good else "the beginning"
            text = f"an entry from {since} to {head.seq} was altered and the chain recomputed, between {after} and"
            self._fault("altered", since, None, f"{text} checkpoint {head.checkpoint}", head.checkpoint)

    def finish(self) -> None:
        """Compare the end of the entries with where the chain should end."""
        ends = self._stated.ends
        self._check_ends(ends)
        if self._lost:
            return
        exported = self._stated.exported
        should = max(self._covered, exported.seq if exported else 0, ends.seq if ends else 0)
        if self._seq < should:
            self._missing(self._seq + 1, should)
        elif ends and not self._broken and (ends.seq, ends.position) != (self._seq, self._position):
            self._fault(
                "chain", ends.seq, ends.position, f"its head says entry {ends.seq}, the last one is {self._seq}"
            )
        elif ends and not self._broken and ends.hash not in self._hashes:
            self._fault("chain", ends.seq, ends.position, "its head has another hash than the last entry")
        elif ends and not self._broken and ends.items - ends.tail_items != self.items:
            self._fault(
                "chain", None, None, f"its head says {ends.items - ends.tail_items} items, there are {self.items}"
            )

    def _check_ends(self, ends: Ends | None) -> None:
        """Compare what the database says about the chain with what is signed."""
        if ends is None:
            self._fault("chain", None, None, "the database does not know the chain any more")
            return
        if ends.tail != self._stated.tail:
            self._fault(
                "chain", ends.tail_seq, ends.tail_position, "no checkpoint states that it begins where its tail says"
            )
        exact = self._key[0] != "decision" or not ends.tail_seq
        if ends.tail_items < ends.tail_seq or (exact and ends.tail_items != ends.tail_seq):
            self._fault("chain", ends.tail_seq, ends.tail_position, "its tail holds another number of items")
        if not ends.seq and ends.head != Link():
            self._fault("chain", 0, ends.position, "its head says that it is empty, and where it ends")

    def _missing(self, first: int, last: int) -> None:
        text = f"entry {first} is missing" if first == last else f"entries {first} to {last} are missing"
        covered = "" if first <= self._covered else "; no checkpoint states it yet"
        self._fault("missing", first, None, text + covered)

    def _fault(
        self, what: What, seq: int | None, position: int | None, text: str, checkpoint: int | None = None
    ) -> None:
        self._broken = True
        stream, writer = self._key
        self._faults.add(
            Fault(
                what=what,
                text=f"writer {writer} in `{stream}`: {text}",
                stream=stream,
                writer=writer,
                seq=seq,
                position=position,
                checkpoint=checkpoint,
            )
        )
