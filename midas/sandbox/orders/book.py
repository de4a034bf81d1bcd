"""The order service's file: every notification that had an effect, in the order of arrival."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from midas.sandbox.errors import SandboxError
from midas.sandbox.orders.order import REQUESTS, Accepted, Order, missed_between, order_of

BUSY_TIMEOUT_S = 10.0

_TABLE = """
CREATE TABLE IF NOT EXISTS accepted (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    order_no TEXT NOT NULL,
    sequence INTEGER NOT NULL CHECK (sequence > 0),
    request BLOB NOT NULL,
    UNIQUE (order_no, sequence)
)
"""
_HIGHEST = "SELECT coalesce(max(sequence), 0) FROM accepted WHERE order_no = ?"
_ACCEPT = f"""
INSERT INTO accepted (kind, order_no, sequence, request)
SELECT :kind, :order_no, :sequence, :request
WHERE :sequence > ({_HIGHEST.replace("?", ":order_no")})
"""
_AT = "SELECT kind, request FROM accepted WHERE order_no = ? AND sequence = ?"
_COLUMNS = "SELECT position, kind, order_no, sequence, request FROM accepted"


class Reception(NamedTuple):
    """One notification as it came in."""

    kind: str
    order_no: str
    sequence: int
    request: Any


class Decision(NamedTuple):
    """What became of a notification; durable either way."""

    accepted: bool
    """Whether it had an effect. If not, its sequence is not above the highest of its order."""
    missed: int
    """How many sequences between it and the highest one before it never came."""
    reused_below: int = 0
    """The highest sequence of the order, if this one had been used for something else; else 0."""


class OrderBook:
    """The file. Several threads, and several processes, may use it at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        try:
            self._connection = _open(path)
            self._connection.execute(_TABLE)
        except sqlite3.Error as error:
            raise SandboxError(f"cannot use {path} as the orders' file: {error}") from error

    def accept(self, batch: Sequence[Reception]) -> list[Decision]:
        """Decide all of them in one commit, which is on disk when this returns.

        Raises sqlite3.Error: then nothing is certain, and all have to be sent again.
        """
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                decisions = [self._accept(each) for each in batch]
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        return decisions

    def received(self, order_no: str | None = None) -> list[Accepted]:
        """What had an effect, of one order or of all, in the order of arrival."""
        where, values = ("", []) if order_no is None else ("WHERE order_no = ?", [order_no])
        with self._lock:
            query = f"{_COLUMNS} {where} ORDER BY position"
            rows = self._connection.execute(query, values).fetchall()
        return [_accepted(*row) for row in rows]

    def order(self, order_no: str) -> Order:
        """What is known of an order; one without notifications is NEW."""
        return order_of(order_no, self.received(order_no))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _accept(self, reception: Reception) -> Decision:
        (highest,) = self._connection.execute(_HIGHEST, (reception.order_no,)).fetchone()
        row = {**reception._asdict(), "request": reception.request.SerializeToString()}
        accepted = self._connection.execute(_ACCEPT, row).rowcount == 1
        if accepted:
            return Decision(True, missed_between(highest, reception.sequence))
        return Decision(False, 0, highest if self._is_another(reception) else 0)

    def _is_another(self, reception: Reception) -> bool:
        """Whether a notification with another id was accepted under its sequence."""
        at = (reception.order_no, reception.sequence)
        found = self._connection.execute(_AT, at).fetchone()
        if found is None:
            return False
        before: Any = REQUESTS[found[0]].FromString(found[1])
        return bool(before.notification_id != reception.request.notification_id)


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    return connection


def _accepted(position: int, kind: str, order_no: str, sequence: int, request: bytes) -> Accepted:
    return Accepted(position, kind, order_no, sequence, REQUESTS[kind].FromString(request))
