"""Make the table of emergency stops."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make it."""
    op.create_table(
        "emergency_stop",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("freeze_id", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "freeze_id"),
    )


def downgrade() -> None:
    """Remove it."""
    op.drop_table("emergency_stop")
