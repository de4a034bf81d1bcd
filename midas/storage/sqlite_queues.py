"""SQLite's queues: orders that are due, events to be applied, notifications to be delivered.

Each function is one transaction of the writer's thread, and gets the time at which that began. SQL
gets this time as a parameter: SQLite's own clock is the machine's, which may step.
"""

import json
import sqlite3
from collections.abc import Sequence
from datetime import datetime, timedelta

from midas.limits import NOTIFICATION_PAUSE_MAX_S
from midas.storage.database import Settling
from midas.storage.rows import NEW_EVENTS, NOTIFICATIONS, Row, utc_text
from midas.storage.tables import (
    CLAIMABLE_CHARGE,
    CLAIMABLE_REFUND,
    KEYS,
    UNDELIVERED,
    next_sequence,
)

LONGEST_HOLD = timedelta(hours=1)
"""No pause, lease or claim is longer, and no look is planned later (`schedule.POLL_LONGEST`). What
is due later was planned by a clock that was ahead."""
_RELEASE = (
    "UPDATE charges SET due_at = ? WHERE due_at > ?",
    "UPDATE refunds SET due_at = ? WHERE due_at > ?",
    "UPDATE events SET due_at = ? WHERE due_at > ?",
    f"UPDATE orders SET announce_at = ? WHERE {UNDELIVERED} AND announce_at > ?",  # noqa: S608
)


def release_far_ahead(connection: sqlite3.Connection, now: datetime) -> None:
    """Make due what is planned far ahead: the clock was set back since, and that is too far off."""
    for statement in _RELEASE:
        connection.execute(statement, (utc_text(now), utc_text(now + LONGEST_HOLD)))


_DUE = f"""
SELECT order_no FROM (
    SELECT * FROM (SELECT order_no, due_at FROM charges
        WHERE {CLAIMABLE_CHARGE} AND due_at <= ? ORDER BY due_at LIMIT ?)
    UNION ALL
    SELECT * FROM (SELECT order_no, due_at FROM refunds
        WHERE {CLAIMABLE_REFUND} AND due_at <= ? ORDER BY due_at LIMIT ?)
) GROUP BY order_no ORDER BY min(due_at) LIMIT ?
"""  # noqa: S608
_HOLD = tuple(
    f"UPDATE {table} SET due_at = ? WHERE {claimable} AND due_at <= ?"  # noqa: S608
    " AND order_no IN (SELECT value FROM json_each(?))"
    for table, claimable in (("charges", CLAIMABLE_CHARGE), ("refunds", CLAIMABLE_REFUND))
)


def claim_orders(
    connection: sqlite3.Connection, wanted: tuple[int, timedelta], now: datetime
) -> list[str]:
    """See `Store.claim_due_orders`."""
    limit, hold = wanted
    at, later = utc_text(now), utc_text(now + hold)
    found = [row[0] for row in connection.execute(_DUE, (at, limit, at, limit, limit))]
    if found:
        for statement in _HOLD:
            connection.execute(statement, (later, at, json.dumps(found)))
    return found


DUE_ROWS = {
    table: f"SELECT '{table}', order_no, {key}, due_at FROM {table}"  # noqa: S608
    " WHERE due_at <= ? ORDER BY due_at LIMIT ?"
    for table, key in KEYS.items()
}
_HOLD_ROWS = {
    table: f"UPDATE {table} SET due_at = ?"  # noqa: S608
    f" WHERE {key} IN (SELECT value FROM json_each(?))"
    for table, key in KEYS.items()
}
_RELEASE_ROW = {
    table: f"UPDATE {table} SET due_at = ? WHERE {key} = ? AND due_at = ?"  # noqa: S608
    for table, key in KEYS.items()
}


def claim_rows(
    connection: sqlite3.Connection, wanted: tuple[Sequence[str], int, timedelta], now: datetime
) -> list[Row]:
    """See `Database.claim_rows`."""
    tables, limit, hold = wanted
    at, held_until = utc_text(now), utc_text(now + hold)
    found: list[Row] = []
    for table in tables:
        found += connection.execute(DUE_ROWS[table], (at, limit))
    earliest = sorted(found, key=lambda row: str(row[_DUE_AT]))[:limit]
    for table in tables:
        keys = [row[_KEY] for row in earliest if row[_TABLE] == table]
        if keys:
            connection.execute(_HOLD_ROWS[table], (held_until, json.dumps(keys)))
    return [(*row, held_until) for row in earliest]


_TABLE, _KEY, _DUE_AT = 0, 2, 3


def release_rows(
    connection: sqlite3.Connection, wanted: tuple[str, Sequence[Row]], _now: datetime
) -> None:
    """See `Database.release_rows`."""
    table, rows = wanted
    released = [(utc_text(due_at), key, utc_text(held_until)) for key, due_at, held_until in rows]
    connection.executemany(_RELEASE_ROW[table], released)


_EVENT_PLACEHOLDERS = ", ".join("?" for _ in NEW_EVENTS.columns)
_ADD_EVENT = (
    f"INSERT INTO events ({', '.join(NEW_EVENTS.columns)}) VALUES ({_EVENT_PLACEHOLDERS})"  # noqa: S608
    " ON CONFLICT (event_id) DO NOTHING RETURNING event_id"
)


def add_event(connection: sqlite3.Connection, row: Row, _now: datetime) -> bool:
    """See `Store.record_event`."""
    return bool(connection.execute(_ADD_EVENT, row).fetchall())


_CLAIM_EVENTS = (
    "UPDATE events SET due_at = ?, attempts = attempts + 1"  # noqa: S608
    " WHERE event_id IN (SELECT event_id FROM events WHERE due_at <= ?"
    f" ORDER BY due_at LIMIT ?) RETURNING {', '.join(NEW_EVENTS.columns)}"
)


def claim_events(
    connection: sqlite3.Connection, wanted: tuple[int, timedelta], now: datetime
) -> list[Row]:
    """See `Store.claim_events`; gives rows."""
    limit, hold = wanted
    times = utc_text(now + hold), utc_text(now)
    return connection.execute(_CLAIM_EVENTS, (*times, limit)).fetchall()


_UNDELIVERED = (
    f"SELECT order_no FROM orders WHERE {UNDELIVERED} AND announce_at <= ?"  # noqa: S608
    " ORDER BY announce_at LIMIT ?"
)
_LEASE = (
    "UPDATE orders SET announce_at = ?, lease_token = ?"
    " WHERE order_no IN (SELECT value FROM json_each(?))"
)
_LEASED = (
    "SELECT o.announce_attempts, o.last_change, o.order_no,"  # noqa: S608
    f" {', '.join(f'n.{name}' for name in NOTIFICATIONS.columns)}"
    " FROM json_each(?) j JOIN orders o ON o.order_no = j.value"
    " LEFT JOIN notifications n ON n.order_no = o.order_no"
    f" AND n.sequence = {next_sequence('o')}"
    " ORDER BY j.key"
)


def lease(
    connection: sqlite3.Connection, wanted: tuple[int, timedelta, str], now: datetime
) -> list[Row]:
    """See `Store.lease_notifications`; gives rows as `Database.lease` describes them."""
    limit, hold, token = wanted
    found = [row[0] for row in connection.execute(_UNDELIVERED, (utc_text(now), limit))]
    if not found:
        return []
    orders = json.dumps(found)
    connection.execute(_LEASE, (utc_text(now + hold), token, orders))
    return connection.execute(_LEASED, (orders,)).fetchall()


_PAUSE = f"min({NOTIFICATION_PAUSE_MAX_S}, 1 << min(announce_attempts, 20)) * w.jitter"
_SETTLE = f"""
UPDATE orders SET
    delivered_sequence = CASE w.outcome WHEN 'DELIVERED' THEN w.sequence
        ELSE delivered_sequence END,
    announce_attempts = CASE w.outcome WHEN 'DELIVERED' THEN 0 ELSE announce_attempts + 1 END,
    announce_at = CASE w.outcome
        WHEN 'RETRY'
        THEN strftime('%Y-%m-%d %H:%M:%f000+00:00', ?, '+' || ({_PAUSE}) || ' seconds')
        ELSE ? END,
    parked_code = CASE w.outcome WHEN 'REFUSED' THEN w.code ELSE '' END,
    lease_token = ''
FROM (SELECT json_extract(value, '$[0]') AS order_no, json_extract(value, '$[1]') AS token,
        json_extract(value, '$[2]') AS sequence, json_extract(value, '$[3]') AS outcome,
        json_extract(value, '$[4]') AS code, json_extract(value, '$[5]') AS jitter
    FROM json_each(?)) AS w
WHERE orders.order_no = w.order_no AND orders.lease_token = w.token
    AND w.sequence = {next_sequence("orders")}
RETURNING order_no, delivered_sequence
"""  # noqa: S608
_DELIVERED = "UPDATE notifications SET delivered_at = ? WHERE order_no = ? AND sequence = ?"


def settle(connection: sqlite3.Connection, settlings: list[Settling], now: datetime) -> set[str]:
    """See `Store.settle_notifications`; gives the orders in which the lease still held."""
    at = utc_text(now)
    settled = connection.execute(_SETTLE, (at, at, json.dumps(settlings))).fetchall()
    wanted = {(each[0], each[2]) for each in settlings if each[3] == "DELIVERED"}
    connection.executemany(_DELIVERED, [(at, *row) for row in settled if tuple(row) in wanted])
    return {row[0] for row in settled}
