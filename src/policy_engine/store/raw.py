"""Rows as the database holds them: what somebody has changed need not have the type of its column any more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, select, type_coerce
from sqlalchemy.types import NullType

_ROWS_AT_ONCE = 500


def rows(
    connection: Connection,
    table: Table,
    *where: ColumnElement[bool],
    order: Sequence[Any] = (),
    names: Sequence[str] = (),
) -> Iterator[Sequence[Any]]:
    """Yield rows a few at a time: every column but the tenant, or the columns that are named, in that order."""
    columns = [table.c[name] for name in names] or [column for column in table.c if column.name != "tenant"]
    query = select(*(type_coerce(column, NullType()) for column in columns)).where(*where).order_by(*order)
    yield from connection.execute(query, execution_options={"yield_per": _ROWS_AT_ONCE})


@contextmanager
def any_text(connection: Connection) -> Iterator[None]:
    """Let texts be read that are not UTF-8: the driver of SQLite would refuse the whole row."""
    if connection.dialect.name != "sqlite":
        yield
        return
    driver: Any = connection.connection.driver_connection
    before, driver.text_factory = driver.text_factory, _decode
    try:
        yield
    finally:
        driver.text_factory = before


def _decode(text: bytes) -> str:
    return text.decode(errors="surrogateescape")


def is_number(value: Any) -> bool:
    """Whether a value is a whole number that a column of ours may hold."""
    return type(value) is int and value >= 0
