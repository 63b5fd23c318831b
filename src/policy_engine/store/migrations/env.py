"""What Alembic runs; the connection comes from `policy_engine.store.migrate`."""

from __future__ import annotations

from alembic import context

from policy_engine.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
