"""Bring the tables of a database to what this version needs."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from policy_engine.model.errors import StateError
from policy_engine.store.database import Database, serialise

NEWEST = "0007"
"""The newest change of the tables that this version knows."""

_DIRECTORY = Path(__file__).parent / "migrations"


def migrate(database: Database) -> None:
    """Make or change the tables, all or none; one process at a time.

    Raises:
        StateError: The database cannot be used, or a newer version of the engine made it.
    """
    with database.read() as connection:
        present = _version(connection)
    if present == NEWEST:
        return
    with database.write() as connection:
        serialise(connection)
        present = _version(connection)
        if present is not None and present > NEWEST:
            raise StateError(
                f"the database `{database.url}` was made by a newer version of the engine (its tables are at"
                f" `{present}`, this version knows `{NEWEST}`)"
            )
        if present != NEWEST:
            _upgrade(connection)


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    version: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return version


def _upgrade(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415 - it takes memory, and most starts change no table
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_DIRECTORY))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
