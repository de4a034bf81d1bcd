"""Orders with their charges, refunds, journal and notifications; webhook events.

Locks nothing that is there: it makes every table.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True).with_variant(sa.String(length=32), "sqlite")


def upgrade() -> None:
    """Make every table."""
    _events()
    _journal_and_notifications()
    _orders_and_charges()
    _refunds()


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("event_id", sa.String(length=64), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("received_at", _MOMENT, nullable=False),
        sa.Column("applied_at", _MOMENT, nullable=True),
        sa.Column("body_digest", sa.String(length=64), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("order_no", sa.String(length=64), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("event_id"),
    )
    op.create_index(
        "events_not_applied",
        "events",
        ["received_at"],
        unique=False,
        sqlite_where=sa.text("applied_at IS NULL"),
        postgresql_where=sa.text("applied_at IS NULL"),
    )
    op.create_index("events_order_no", "events", ["order_no"], unique=False)


def _journal_and_notifications() -> None:
    op.create_table(
        "journal",
        sa.Column("order_no", sa.String(length=64), nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("change_id", sa.String(length=32), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.Column("by_whom", sa.Text(), nullable=False),
        sa.Column("state_before", sa.Text(), nullable=False),
        sa.Column("state_after", sa.Text(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("order_no", "version", "position"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "notifications",
        sa.Column("order_no", sa.String(length=64), nullable=False),
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("occurred_at", _MOMENT, nullable=False),
        sa.Column("observed_by", sa.Text(), nullable=False),
        sa.Column("out_trade_no", sa.String(length=64), nullable=False),
        sa.Column("refund_no", sa.String(length=64), nullable=False),
        sa.Column("late", sa.Boolean(), nullable=False),
        sa.Column("duplicate_payment", sa.Boolean(), nullable=False),
        sa.CheckConstraint("sequence > 0", name="notifications_sequence_positive"),
        sa.PrimaryKeyConstraint("order_no", "sequence"),
        sqlite_with_rowid=False,
    )


def _orders_and_charges() -> None:
    op.create_table(
        "orders",
        sa.Column("order_no", sa.String(length=64), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("last_sequence", sa.BigInteger(), nullable=False),
        sa.Column("last_change", sa.String(length=32), nullable=False),
        sa.CheckConstraint("last_sequence >= 0", name="orders_last_sequence_not_negative"),
        sa.CheckConstraint("version > 0", name="orders_version_positive"),
        sa.PrimaryKeyConstraint("order_no"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "charges",
        sa.Column("out_trade_no", sa.String(length=64), nullable=False),
        sa.Column("order_no", sa.String(length=64), nullable=False),
        sa.Column("app_id", sa.Text(), nullable=False),
        sa.Column("livemode", sa.Boolean(), nullable=False),
        sa.Column("channel", sa.String(length=32), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("client_ip", sa.Text(), nullable=False),
        sa.Column("extra", sa.JSON(), nullable=False),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("terms_digest", sa.Text(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("updated_at", _MOMENT, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("asked_expires_at", _MOMENT, nullable=True),
        sa.Column("charge_id", sa.Text(), nullable=True),
        sa.Column("expires_at", _MOMENT, nullable=True),
        sa.Column("paid_at", _MOMENT, nullable=True),
        sa.Column("observed_by", sa.String(length=16), nullable=True),
        sa.Column("transaction_no", sa.Text(), nullable=False),
        sa.Column("failure_code", sa.Text(), nullable=False),
        sa.Column("failure_message", sa.Text(), nullable=False),
        sa.Column("late", sa.Boolean(), nullable=False),
        sa.Column("duplicate_payment", sa.Boolean(), nullable=False),
        sa.Column("superseded", sa.Boolean(), nullable=False),
        sa.Column("operator_reason", sa.Text(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column("due_at", _MOMENT, nullable=True),
        sa.Column("looks", sa.Integer(), nullable=False),
        sa.Column("absent_since", _MOMENT, nullable=True),
        sa.CheckConstraint(
            "state IN ('SUBMITTING', 'PENDING', 'SUCCEEDED', 'CLOSED', 'FAILED', 'REVERSED')",
            name="charges_state_known",
        ),
        sa.CheckConstraint("amount > 0", name="charges_amount_positive"),
        sa.ForeignKeyConstraint(["order_no"], ["orders.order_no"], name="charges_order_no_fkey"),
        sa.PrimaryKeyConstraint("out_trade_no"),
    )
    op.create_index(
        "charges_charge_id",
        "charges",
        ["charge_id"],
        unique=True,
        sqlite_where=sa.text("charge_id IS NOT NULL"),
        postgresql_where=sa.text("charge_id IS NOT NULL"),
    )
    op.create_index(
        "charges_claimable",
        "charges",
        ["due_at"],
        unique=False,
        sqlite_where=sa.text(
            "due_at IS NOT NULL AND (state = 'SUBMITTING' OR (state = 'PENDING' AND superseded))"
        ),
        postgresql_where=sa.text(
            "due_at IS NOT NULL AND (state = 'SUBMITTING' OR (state = 'PENDING' AND superseded))"
        ),
    )
    op.create_index("charges_newest", "charges", ["created_at", "out_trade_no"], unique=False)
    op.create_index(
        "charges_one_open",
        "charges",
        ["order_no"],
        unique=True,
        sqlite_where=sa.text("state IN ('SUBMITTING', 'PENDING') AND NOT superseded"),
        postgresql_where=sa.text("state IN ('SUBMITTING', 'PENDING') AND NOT superseded"),
    )
    op.create_index("charges_order_no", "charges", ["order_no"], unique=False)
    op.create_index(
        "charges_state_newest", "charges", ["state", "created_at", "out_trade_no"], unique=False
    )


def _refunds() -> None:
    op.create_table(
        "refunds",
        sa.Column("refund_no", sa.String(length=64), nullable=False),
        sa.Column("order_no", sa.String(length=64), nullable=False),
        sa.Column("out_trade_no", sa.String(length=64), nullable=False),
        sa.Column("charge_id", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("app_id", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("content_digest", sa.Text(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("updated_at", _MOMENT, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("funding_source", sa.String(length=32), nullable=True),
        sa.Column("refund_id", sa.Text(), nullable=True),
        sa.Column("observed_by", sa.String(length=16), nullable=True),
        sa.Column("action_url", sa.Text(), nullable=False),
        sa.Column("transaction_no", sa.Text(), nullable=False),
        sa.Column("succeeded_at", _MOMENT, nullable=True),
        sa.Column("failure_code", sa.Text(), nullable=False),
        sa.Column("failure_message", sa.Text(), nullable=False),
        sa.Column("external", sa.Boolean(), nullable=False),
        sa.Column("operator_reason", sa.Text(), nullable=False),
        sa.Column("unsent", sa.Boolean(), nullable=False),
        sa.Column("due_at", _MOMENT, nullable=True),
        sa.Column("looks", sa.Integer(), nullable=False),
        sa.Column("absent_since", _MOMENT, nullable=True),
        sa.CheckConstraint(
            "funding_source IN ('unsettled_funds', 'recharge_funds')",
            name="refunds_funding_source_known",
        ),
        sa.CheckConstraint(
            "state IN ('SUBMITTING', 'PENDING', 'SUCCEEDED', 'FAILED')", name="refunds_state_known"
        ),
        sa.CheckConstraint("amount > 0", name="refunds_amount_positive"),
        sa.ForeignKeyConstraint(
            ["out_trade_no"], ["charges.out_trade_no"], name="refunds_out_trade_no_fkey"
        ),
        sa.PrimaryKeyConstraint("refund_no"),
    )
    op.create_index(
        "refunds_claimable",
        "refunds",
        ["due_at"],
        unique=False,
        sqlite_where=sa.text("due_at IS NOT NULL AND state = 'SUBMITTING'"),
        postgresql_where=sa.text("due_at IS NOT NULL AND state = 'SUBMITTING'"),
    )
    op.create_index("refunds_newest", "refunds", ["created_at", "refund_no"], unique=False)
    op.create_index("refunds_order_no", "refunds", ["order_no"], unique=False)
    op.create_index("refunds_out_trade_no", "refunds", ["out_trade_no"], unique=False)
    op.create_index(
        "refunds_refund_id",
        "refunds",
        ["refund_id"],
        unique=True,
        sqlite_where=sa.text("refund_id IS NOT NULL"),
        postgresql_where=sa.text("refund_id IS NOT NULL"),
    )
    op.create_index(
        "refunds_state_newest", "refunds", ["state", "created_at", "refund_no"], unique=False
    )
