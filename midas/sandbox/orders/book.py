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


class Told(NamedTuple):
    """One notification as it came in."""

    kind: str
    order_no: str
    sequence: int
    request: Any


class Verdict(NamedTuple):
    """What became of it; durable either way."""

    accepted: bool
    """False: its sequence is not above the highest of its order. It had no effect."""
    missed: int
    """Sequences between it and the highest before, which never came."""
    reused_below: int = 0
    """The highest sequence of the order, if something else had been told under this one; else 0."""


class OrderBook:
    """Safe to use from several threads, and from several processes at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        try:
            self._connection = _open(path)
            self._connection.execute(_TABLE)
        except sqlite3.Error as error:
            raise SandboxError(f"cannot use {path} as the orders' file: {error}") from error

    def accept(self, batch: Sequence[Told]) -> list[Verdict]:
        """All of them in one commit, which is on disk when this returns.

        Raises sqlite3.Error: then nothing is certain, and all have to be sent again.
        """
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                verdicts = [self._accept(each) for each in batch]
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        return verdicts

    def received(self, order_no: str | None = None) -> list[Accepted]:
        """What had an effect, of one order or of all, in the order of arrival."""
        where, values = ("", []) if order_no is None else ("WHERE order_no = ?", [order_no])
        with self._lock:
            query = f"{_COLUMNS} {where} ORDER BY position"
            rows = self._connection.execute(query, values).fetchall()
        return [_accepted(*row) for row in rows]

    def order(self, order_no: str) -> Order:
        """What is known of an order; one that nothing was told about is NEW."""
        return order_of(order_no, self.received(order_no))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _accept(self, told: Told) -> Verdict:
        (highest,) = self._connection.execute(_HIGHEST, (told.order_no,)).fetchone()
        row = {**told._asdict(), "request": told.request.SerializeToString()}
        accepted = self._connection.execute(_ACCEPT, row).rowcount == 1
        if accepted:
            return Verdict(True, missed_between(highest, told.sequence))
        return Verdict(False, 0, highest if self._is_another(told) else 0)

    def _is_another(self, told: Told) -> bool:
        """Whether something else was accepted under its sequence: the id tells."""
        found = self._connection.execute(_AT, (told.order_no, told.sequence)).fetchone()
        if found is None:
            return False
        before: Any = REQUESTS[found[0]].FromString(found[1])
        return bool(before.notification_id != told.request.notification_id)


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    return connection


def _accepted(position: int, kind: str, order_no: str, sequence: int, request: bytes) -> Accepted:
    return Accepted(position, kind, order_no, sequence, REQUESTS[kind].FromString(request))
