"""A floor under the numbers of notifications, and the change_id of each.

The change_id distinguishes two notifications of one number. Code before this migration looks for
the number after the last one delivered: it would deliver nothing behind a gap. So it may not go on.

Locks `notifications` for all, for milliseconds at any size: columns with constant defaults.
"""

import sqlalchemy as sa
from alembic import op

from midas.storage.epochs import POSTGRES_HISTORY

revision = "0004"
down_revision = "0003"
oldest = "0004"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True).with_variant(sa.String(length=32), "sqlite")


def upgrade() -> None:
    """Add two columns with defaults and a table of one row; no table is written anew."""
    op.add_column(
        "notifications",
        sa.Column("change_id", sa.String(length=32), nullable=False, server_default=""),
    )
    op.add_column(
        "notifications",
        sa.Column("told_again", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    op.create_table(
        "sequence_epochs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("floor", sa.BigInteger(), nullable=False),
        sa.Column("history", sa.Text(), nullable=False),
        sa.Column("raised_at", _MOMENT, nullable=True),
        sa.CheckConstraint("id = 1", name="sequence_epochs_one_row"),
        sa.PrimaryKeyConstraint("id"),
    )
    history = POSTGRES_HISTORY if op.get_bind().dialect.name == "postgresql" else "''"
    op.execute(f"INSERT INTO sequence_epochs (id, floor, history) VALUES (1, 0, {history})")  # noqa: S608
