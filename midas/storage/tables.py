"""What is on disk. The columns of `charges` and `refunds` are the fields of the domain's records.

Constraints are the last line of defence, not the logic: a row that they refuse was decided wrongly
before. Everything that a person may have to search for is a column of its own.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    false,
    text,
)

from midas.charge import ChargeState
from midas.limits import (
    CHANNEL_CHARACTERS,
    EVENT_ID_CHARACTERS,
    ORDER_NO_CHARACTERS,
    REFUND_NO_CHARACTERS,
)
from midas.refund import FundingSource, RefundState

metadata = MetaData()

LONG_AGO = "1970-01-01 00:00:00.000000+00:00"
"""A moment that is over, as both databases read it."""


def _utc() -> DateTime:
    """A moment. PostgreSQL: timestamptz. SQLite: text that sorts by time (see `rows.py`)."""
    return DateTime(timezone=True).with_variant(String(32), "sqlite")


def _moment(name: str, *, nullable: bool = True) -> Column[datetime]:
    return Column(name, _utc(), nullable=nullable)


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def _flag(name: str) -> Column[bool]:
    return Column(name, Boolean(create_constraint=False), nullable=False)


def _one_of(column: str, values: type[ChargeState | RefundState | FundingSource]) -> str:
    return f"{column} IN ({', '.join(repr(each.value) for each in values)})"


orders = Table(
    "orders",
    metadata,
    Column("order_no", String(ORDER_NO_CHARACTERS), primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("last_sequence", BigInteger, nullable=False),
    Column("last_change", String(32), nullable=False),
    # How far the order service was notified, and when the next one is due: see `announce.py`.
    Column("delivered_sequence", BigInteger, nullable=False, server_default="0"),
    Column("announce_at", _utc(), nullable=False, server_default=LONG_AGO),
    Column("announce_attempts", Integer, nullable=False, server_default="0"),
    Column("lease_token", String(32), nullable=False, server_default=""),
    Column("parked_code", String(32), nullable=False, server_default=""),
    CheckConstraint("version > 0", name="orders_version_positive"),
    CheckConstraint("last_sequence >= 0", name="orders_last_sequence_not_negative"),
    sqlite_with_rowid=False,
)

UNDELIVERED = "delivered_sequence < last_sequence AND parked_code = ''"
PARKED = "parked_code <> ''"

charges = Table(
    "charges",
    metadata,
    Column("out_trade_no", String(ORDER_NO_CHARACTERS), primary_key=True),
    Column(
        "order_no",
        String(ORDER_NO_CHARACTERS),
        ForeignKey("orders.order_no", name="charges_order_no_fkey"),
        nullable=False,
    ),
    _text("app_id"),
    _flag("livemode"),
    Column("channel", String(CHANNEL_CHARACTERS), nullable=False),
    Column("amount", BigInteger, nullable=False),
    _text("currency"),
    _text("subject"),
    _text("body"),
    _text("client_ip"),
    Column("extra", JSON, nullable=False),
    Column("metadata", JSON, nullable=False),
    _text("terms_digest"),
    _moment("created_at", nullable=False),
    _moment("updated_at", nullable=False),
    Column("state", String(16), nullable=False),
    _moment("asked_expires_at"),
    Column("charge_id", Text),
    _moment("expires_at"),
    _moment("paid_at"),
    Column("observed_by", String(16)),
    _text("transaction_no"),
    _text("failure_code"),
    _text("failure_message"),
    _flag("late"),
    _flag("duplicate_payment"),
    _flag("superseded"),
    _text("operator_reason"),
    Column("answer", Text),
    _moment("due_at"),
    Column("looks", Integer, nullable=False),
    _moment("absent_since"),
    CheckConstraint("amount > 0", name="charges_amount_positive"),
    CheckConstraint(_one_of("state", ChargeState), name="charges_state_known"),
)

OPEN_CHARGE = "state IN ('SUBMITTING', 'PENDING') AND NOT superseded"
CLAIMABLE_CHARGE = (
    "due_at IS NOT NULL AND (state = 'SUBMITTING' OR (state = 'PENDING' AND superseded))"
)
CLAIMABLE_REFUND = "due_at IS NOT NULL AND state = 'SUBMITTING'"
KEYS = {"charges": "out_trade_no", "refunds": "refund_no"}
"""The primary keys of the tables whose rows fall due."""
DUE = "due_at IS NOT NULL"
"""The rows that have a look planned, whatever their state."""


def _partial(name: str, column: Column[Any], where: str, *, unique: bool = False) -> Index:
    condition = text(where)
    return Index(name, column, unique=unique, sqlite_where=condition, postgresql_where=condition)


_partial("orders_undelivered", orders.c.announce_at, UNDELIVERED)
_partial("orders_parked", orders.c.announce_at, PARKED)
_partial("charges_one_open", charges.c.order_no, OPEN_CHARGE, unique=True)
_partial("charges_claimable", charges.c.due_at, CLAIMABLE_CHARGE)
_partial("charges_due", charges.c.due_at, DUE)
_partial("charges_charge_id", charges.c.charge_id, "charge_id IS NOT NULL", unique=True)
Index("charges_order_no", charges.c.order_no)
Index("charges_newest", charges.c.created_at, charges.c.out_trade_no)
Index("charges_state_newest", charges.c.state, charges.c.created_at, charges.c.out_trade_no)

refunds = Table(
    "refunds",
    metadata,
    Column("refund_no", String(REFUND_NO_CHARACTERS), primary_key=True),
    Column("order_no", String(ORDER_NO_CHARACTERS), nullable=False),
    Column(
        "out_trade_no",
        String(ORDER_NO_CHARACTERS),
        ForeignKey("charges.out_trade_no", name="refunds_out_trade_no_fkey"),
        nullable=False,
    ),
    _text("charge_id"),
    Column("amount", BigInteger, nullable=False),
    _text("currency"),
    _text("app_id"),
    _text("description"),
    Column("metadata", JSON, nullable=False),
    _text("content_digest"),
    _moment("created_at", nullable=False),
    _moment("updated_at", nullable=False),
    Column("state", String(16), nullable=False),
    Column("funding_source", String(32)),
    Column("refund_id", Text),
    Column("observed_by", String(16)),
    _text("action_url"),
    _text("transaction_no"),
    _moment("succeeded_at"),
    _text("failure_code"),
    _text("failure_message"),
    _flag("external"),
    _text("operator_reason"),
    _flag("unsent"),
    _moment("due_at"),
    Column("looks", Integer, nullable=False),
    _moment("absent_since"),
    CheckConstraint("amount > 0", name="refunds_amount_positive"),
    CheckConstraint(_one_of("state", RefundState), name="refunds_state_known"),
    CheckConstraint(_one_of("funding_source", FundingSource), name="refunds_funding_source_known"),
)
_partial("refunds_claimable", refunds.c.due_at, CLAIMABLE_REFUND)
_partial("refunds_due", refunds.c.due_at, DUE)
_partial("refunds_refund_id", refunds.c.refund_id, "refund_id IS NOT NULL", unique=True)
Index("refunds_order_no", refunds.c.order_no)
Index("refunds_out_trade_no", refunds.c.out_trade_no)
Index("refunds_newest", refunds.c.created_at, refunds.c.refund_no)
Index("refunds_state_newest", refunds.c.state, refunds.c.created_at, refunds.c.refund_no)

journal = Table(
    "journal",
    metadata,
    Column("order_no", String(ORDER_NO_CHARACTERS), primary_key=True),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("change_id", String(32), nullable=False),
    _text("subject"),
    _text("event"),
    _moment("at", nullable=False),
    _text("by_whom"),
    _text("state_before"),
    _text("state_after"),
    Column("detail", JSON, nullable=False),
    sqlite_with_rowid=False,
)
"""The journal, to which rows are only added. `version` is the order's version that the commit made:
the key itself refuses to write one commit twice."""

notifications = Table(
    "notifications",
    metadata,
    Column("order_no", String(ORDER_NO_CHARACTERS), primary_key=True),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    _text("kind"),
    _moment("occurred_at", nullable=False),
    _text("observed_by"),
    Column("out_trade_no", String(ORDER_NO_CHARACTERS), nullable=False),
    Column("refund_no", String(REFUND_NO_CHARACTERS), nullable=False),
    _flag("late"),
    _flag("duplicate_payment"),
    _moment("delivered_at"),
    Column("change_id", String(32), nullable=False, server_default=""),
    Column("told_again", Boolean(create_constraint=False), nullable=False, server_default=false()),
    CheckConstraint("sequence > 0", name="notifications_sequence_positive"),
    sqlite_with_rowid=False,
)

sequence_epochs = Table(
    "sequence_epochs",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("floor", BigInteger, nullable=False),
    Column("history", Text, nullable=False),
    _moment("raised_at"),
    CheckConstraint("id = 1", name="sequence_epochs_one_row"),
)
"""One row: see `epochs.py`."""

schema_compatibility = Table(
    "schema_compatibility",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("oldest", String(32), nullable=False),
    CheckConstraint("id = 1", name="schema_compatibility_one_row"),
)
"""One row: see `schema.py`."""


def next_sequence(order: str) -> str:
    """SQL of the next notification's number: the lowest above the number that is delivered.

    It need not be the one after that: there is a gap where a failover may have lost commits. NULL
    if there is none. `order` is the statement's name of the order's row.
    """
    return (
        "(SELECT min(ahead.sequence) FROM notifications ahead"  # noqa: S608
        f" WHERE ahead.order_no = {order}.order_no AND ahead.sequence > {order}.delivered_sequence)"
    )


events = Table(
    "events",
    metadata,
    Column("event_id", String(EVENT_ID_CHARACTERS), primary_key=True),
    Column("order_no", String(ORDER_NO_CHARACTERS)),
    _text("type"),
    _moment("received_at", nullable=False),
    Column("body_digest", String(64), nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("standing", String(16), nullable=False),
    _text("reason"),
    _moment("applied_at"),
    Column("attempts", Integer, nullable=False),
    _moment("due_at"),
)
Index("events_order_no", events.c.order_no)
_partial("events_due", events.c.due_at, "due_at IS NOT NULL")
_partial("events_parked", events.c.received_at, "standing = 'PARKED'")
