"""Make the tables of privacy budgets."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make them."""
    op.create_table(
        "privacy_account",
        *_texts("tenant", "federation", "client"),
        _number("seq"),
        sa.Column("server", sa.LargeBinary(), nullable=True),
        sa.Column("declared", sa.LargeBinary(), nullable=True),
        *_doubles("delta", "spent", "held"),
        _number("until"),
        sa.PrimaryKeyConstraint("tenant", "federation", "client"),
    )
    op.create_index("privacy_account_by_seq", "privacy_account", ["tenant", "seq"], unique=False)
    op.create_table(
        "privacy_reservation",
        *_texts("tenant", "reservation", "federation", "client"),
        _number("round"),
        *_texts("state", "noise"),
        *_doubles("noise_multiplier", "sampling_rate"),
        *(_number(name) for name in ("steps", "at", "expires")),
        sa.PrimaryKeyConstraint("tenant", "reservation"),
    )
    for name, columns in (
        ("privacy_reservation_by_state", ["tenant", "federation", "client", "state"]),
        ("privacy_reservation_by_round", ["tenant", "federation", "round", "client"]),
    ):
        op.create_index(name, "privacy_reservation", columns, unique=False)


def _texts(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text(), nullable=False) for name in names]


def _doubles(*names: str) -> list[sa.Column[float]]:
    return [sa.Column(name, sa.Double(), nullable=False) for name in names]


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), autoincrement=False, nullable=False)


def downgrade() -> None:
    """Remove them."""
    for name in ("privacy_reservation", "privacy_account"):
        op.drop_table(name)
