"""What became of events, and how far the order service was notified.

Locks `orders` for all while two indexes are built on it, about 2 s at 10⁶ rows; `notifications` and
`events` until then as well.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True).with_variant(sa.String(length=32), "sqlite")
_LONG_AGO = "1970-01-01 00:00:00.000000+00:00"


def upgrade() -> None:
    """Add columns with defaults, so that the version before goes on working beside this one."""
    _deliveries()
    _events()


def _deliveries() -> None:
    for column in (
        sa.Column("delivered_sequence", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("announce_at", _MOMENT, nullable=False, server_default=_LONG_AGO),
        sa.Column("announce_attempts", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("lease_token", sa.String(length=32), nullable=False, server_default=""),
        sa.Column("parked_code", sa.String(length=32), nullable=False, server_default=""),
    ):
        op.add_column("orders", column)
    op.add_column("notifications", sa.Column("delivered_at", _MOMENT, nullable=True))
    undelivered = "delivered_sequence < last_sequence AND parked_code = ''"
    _partial("orders_undelivered", "orders", "announce_at", undelivered)
    _partial("orders_parked", "orders", "announce_at", "parked_code <> ''")


def _events() -> None:
    """Nothing has written to the table before, so it is made anew."""
    op.drop_table("events")
    op.create_table(
        "events",
        sa.Column("event_id", sa.String(length=64), nullable=False),
        sa.Column("order_no", sa.String(length=64), nullable=True),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("received_at", _MOMENT, nullable=False),
        sa.Column("body_digest", sa.String(length=64), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("standing", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("applied_at", _MOMENT, nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", _MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("event_id"),
    )
    op.create_index("events_order_no", "events", ["order_no"], unique=False)
    _partial("events_due", "events", "due_at", "due_at IS NOT NULL")
    _partial("events_parked", "events", "received_at", "standing = 'PARKED'")


def _partial(name: str, table: str, column: str, where: str) -> None:
    condition = sa.text(where)
    op.create_index(
        name, table, [column], sqlite_where=condition, postgresql_where=condition, unique=False
    )
