"""Make the tables of trust."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_NAMES = ("trust_federation", "trust_entry", "trust_standing", "trust_override", "trust_job")
_SCORES = ("trust", "participation", "update_quality", "behavioral_consistency", "compliance")


def upgrade() -> None:
    """Make them."""
    _make_entries()
    _make_standings()
    op.create_table(
        "trust_job",
        *_keys("job"),
        _number("started"),
        _number("updated"),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "job"),
    )


def _make_entries() -> None:
    op.create_table(
        "trust_federation",
        *_keys("federation"),
        _number("seq"),
        _number("last_round"),
        _number("override_seq"),
        sa.PrimaryKeyConstraint("tenant", "federation"),
    )
    op.create_table(
        "trust_entry",
        *_keys("federation"),
        _number("seq"),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("once", sa.Text(), nullable=True),
        sa.Column("round", sa.BigInteger(), nullable=True),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=True),
        sa.Column("summary", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("tenant", "federation", "seq"),
    )
    op.create_index("trust_entry_once", "trust_entry", ["tenant", "federation", "once"], unique=True)


def _make_standings() -> None:
    op.create_table(
        "trust_standing",
        *_keys("federation", "client"),
        _number("seq"),
        *(sa.Column(name, sa.Double(), nullable=False) for name in _SCORES),
        sa.Column("usual_ln_ratio", sa.Double(), nullable=True),
        sa.Column("usual_cosine", sa.Double(), nullable=True),
        sa.Column("answered", sa.BigInteger(), nullable=False),
        sa.Column("excluded_in", sa.BigInteger(), nullable=True),
        sa.Column("recent", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "federation", "client"),
    )
    op.create_index("trust_standing_by_seq", "trust_standing", ["tenant", "federation", "seq"], unique=False)
    op.create_table(
        "trust_override",
        *_keys("federation", "client", "kind"),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "federation", "client", "kind"),
    )


def _keys(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text(), nullable=False) for name in ("tenant", *names)]


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), autoincrement=False, nullable=False)


def downgrade() -> None:
    """Remove them."""
    for name in _NAMES:
        op.drop_table(name)
