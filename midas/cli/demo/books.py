"""What Midas wrote down, read from its SQLite file without touching it."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

NAMES = {
    "PAY_ORDER_SUCCESS": "PayOrderSuccess",
    "PAY_ORDER_CLOSED": "PayOrderClosed",
    "REFUND_SUCCESS": "RefundSuccess",
    "REFUND_FAILED": "RefundFailed",
}
"""The calls of the order service that the kinds of notification become."""


@dataclass(frozen=True, slots=True)
class Books:
    """Midas's database."""

    path: Path

    def notifications(self, order_no: str) -> list[str]:
        """The notifications for the order service, in sequence, such as `#2 RefundSuccess R7-1`."""
        sql = (
            "SELECT sequence, kind, refund_no, duplicate_payment FROM notifications"
            " WHERE order_no = ? ORDER BY sequence"
        )
        return [_named(*row) for row in self._read(sql, order_no)]

    def attempts(self, order_no: str) -> int:
        """How many attempts to deliver the first notification that is still open have failed."""
        sql = "SELECT announce_attempts FROM orders WHERE order_no = ?"
        return sum(attempts for (attempts,) in self._read(sql, order_no))

    def journal(self, subject: str) -> list[tuple[str, str]]:
        """Each journal entry of a charge or refund: the event and its detail as JSON."""
        sql = "SELECT event, detail FROM journal WHERE subject = ? ORDER BY version, position"
        return [(event, str(detail)) for event, detail in self._read(sql, subject)]

    def events(self, event_id: str) -> list[str]:
        """How Ping++'s event of this id stands; empty when it was never recorded."""
        sql = "SELECT standing FROM events WHERE event_id = ?"
        return [standing for (standing,) in self._read(sql, event_id)]

    def next_look(self, table: str, number: str) -> datetime | None:
        """When the next look at a charge or refund is due. None: no look is planned.

        `table` is `charges` or `refunds`, and `number` is the out_trade_no or refund_no.
        """
        key = {"charges": "out_trade_no", "refunds": "refund_no"}[table]
        rows = self._read(f"SELECT due_at FROM {table} WHERE {key} = ?", number)  # noqa: S608
        return next((datetime.fromisoformat(due_at) for (due_at,) in rows if due_at), None)

    def size(self) -> dict[str, int]:
        """How many rows each table has. Everything that happens leaves a row in one of them."""
        tables = ("orders", "charges", "refunds", "journal", "notifications")
        counts = ", ".join(f"(SELECT count(*) FROM {table})" for table in tables)  # noqa: S608
        (row,) = self._read(f"SELECT {counts}")
        return dict(zip(tables, row, strict=True))

    def _read(self, sql: str, *parameters: str) -> list[tuple[Any, ...]]:
        uri = f"{self.path.resolve().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            return connection.execute(sql, parameters).fetchall()


def _named(sequence: int, kind: str, refund_no: str, duplicate_payment: int) -> str:
    duplicate = "duplicate_payment" if duplicate_payment else ""
    named = (f"#{sequence}", NAMES.get(kind, kind), refund_no, duplicate)
    return " ".join(filter(None, named))
