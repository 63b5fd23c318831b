"""Terms: what decisions are searched by, as 31-bit numbers that fit any database.

Two terms may share a number, so what is found by it is compared with what was asked for.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from sqlalchemy import Boolean, ColumnElement, LargeBinary, bindparam
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

SIZE = 4
_MASK = 0x7FFF_FFFF


@lru_cache(maxsize=1 << 16)
def term(kind: str, value: str) -> int:
    """Return the number of a value of one kind."""
    digest = blake2b(f"{kind}\0{value}".encode("utf-8", "surrogatepass"), digest_size=SIZE).digest()
    return (int.from_bytes(digest, "big") & _MASK) or 1


def pack(numbers: frozenset[int] | set[int]) -> bytes:
    """Return terms as bytes in which one can be looked for."""
    return struct.pack(f">{len(numbers)}I", *sorted(numbers))


def unpack(packed: bytes) -> set[int]:
    """Return the terms in packed bytes."""
    count = len(packed) // SIZE
    return set(struct.unpack(f">{count}I", packed[: count * SIZE]))


def packed_term(number: int) -> bytes:
    """Return one term as it stands in packed ones."""
    return number.to_bytes(SIZE, "big")


def may_hold(packed: bytes, number: int) -> bool:
    """Whether packed terms may hold one; across the border of two terms it may be wrong, but only by a yes."""
    return packed_term(number) in packed


@lru_cache(maxsize=1 << 12)
def shared_terms(
    allowed: bool,  # noqa: FBT001 - part of the key
    violated: bool,  # noqa: FBT001 - part of the key
    type_: str,
    component: str | None,
    policy: str | None,
) -> tuple[int, ...]:
    """Return the index terms of a decision but for those of its client."""
    named = (("type", type_), ("component", component), ("policy", policy))
    singles = tuple(term(kind, value) for kind, value in named if value is not None)
    result = result_term(allowed=allowed)
    return (*singles, result, violation_term(violated=violated), *(pair_term(number, result) for number in singles))


@lru_cache(maxsize=1 << 16)
def client_terms(allowed: bool, client: str) -> tuple[int, int]:  # noqa: FBT001 - part of the key
    """Return the index terms that a decision has for its client."""
    number = term("client", client)
    return number, pair_term(number, result_term(allowed=allowed))


def result_term(*, allowed: bool) -> int:
    """Return the term of a result."""
    return term("result", "allow" if allowed else "deny")


def violation_term(*, violated: bool) -> int:
    """Return the term of decisions that are events of a violation, or that are none."""
    return term("violated", "yes" if violated else "no")


def pair_term(one: int, other: int) -> int:
    """Return the term of two terms in the same decision."""
    return ((one * 0x9E37_79B1 ^ other) & 0x7FFF_FFFF) or 1


def holds(terms: ColumnElement[bytes], number: int) -> ColumnElement[bool]:
    """Return the condition that packed terms may hold one."""
    return _MayHold(terms, bindparam(None, packed_term(number), LargeBinary))


class _MayHold(FunctionElement[bool]):
    """Whether the first argument has the second one in it."""

    type = Boolean()
    inherit_cache = True


@compiles(_MayHold, "sqlite")
def _on_sqlite(element: _MayHold, compiler: SQLCompiler, **options: Any) -> str:
    where, what = (compiler.process(part, **options) for part in element.clauses)
    return f"instr({where}, {what}) > 0"


@compiles(_MayHold, "postgresql")
def _on_postgresql(element: _MayHold, compiler: SQLCompiler, **options: Any) -> str:
    where, what = (compiler.process(part, **options) for part in element.clauses)
    return f"position({what} IN {where}) > 0"
