"""What Midas wrote down, read from its SQLite file without touching it."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
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

    def queued(self, order_no: str) -> list[str]:
        """The notifications for the order service in sequence, such as `#1 PayOrderSuccess`."""
        sql = "SELECT sequence, kind FROM notifications WHERE order_no = ? ORDER BY sequence"
        return [f"#{number} {NAMES.get(kind, kind)}" for number, kind in self._read(sql, order_no)]

    def journal(self, subject: str) -> list[tuple[str, str]]:
        """Each journal entry of a charge or refund: the event and its detail as JSON."""
        sql = "SELECT event, detail FROM journal WHERE subject = ? ORDER BY version, position"
        return [(event, str(detail)) for event, detail in self._read(sql, subject)]

    def _read(self, sql: str, *parameters: str) -> list[tuple[Any, ...]]:
        uri = f"{self.path.resolve().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            return connection.execute(sql, parameters).fetchall()
