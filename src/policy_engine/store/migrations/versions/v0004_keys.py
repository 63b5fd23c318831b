"""Make the table of API keys."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make it."""
    op.create_table(
        "api_key",
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("tenant", "key_id", "prefix", "hash", "name")),
        sa.Column("roles", sa.LargeBinary(), nullable=False),
        sa.Column("client_id", sa.Text(), nullable=True),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        *(sa.Column(name, sa.Double(), nullable=True) for name in ("expires_at", "last_used_at", "revoked_at")),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "key_id"),
    )
    op.create_index("api_key_by_prefix", "api_key", ["tenant", "prefix"], unique=True)


def downgrade() -> None:
    """Remove it."""
    op.drop_table("api_key")
