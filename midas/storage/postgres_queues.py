"""PostgreSQL's queues: orders that are due, events to be applied, notifications to be delivered.

Each is one statement, and so one transaction.
"""

from functools import cache

from midas.limits import NOTIFICATION_PAUSE_MAX_S
from midas.storage.rows import NEW_EVENTS, NOTIFICATIONS
from midas.storage.tables import (
    CLAIMABLE_CHARGE,
    CLAIMABLE_REFUND,
    KEYS,
    UNDELIVERED,
    next_sequence,
)

CLAIM_ORDERS = f"""
WITH due AS (
    (SELECT order_no, due_at FROM charges
        WHERE {CLAIMABLE_CHARGE} AND due_at <= now() ORDER BY due_at LIMIT $1::int)
    UNION ALL
    (SELECT order_no, due_at FROM refunds
        WHERE {CLAIMABLE_REFUND} AND due_at <= now() ORDER BY due_at LIMIT $1::int)
),
earliest AS (
    SELECT order_no, min(due_at) AS due_at FROM due
    GROUP BY order_no ORDER BY min(due_at) LIMIT $1::int
),
locked AS MATERIALIZED (
    SELECT o.order_no FROM orders o JOIN earliest USING (order_no) FOR UPDATE OF o SKIP LOCKED
),
held_charges AS (
    UPDATE charges t SET due_at = now() + $2::interval FROM locked
    WHERE t.order_no = locked.order_no AND {CLAIMABLE_CHARGE} AND due_at <= now()
    RETURNING t.order_no
),
held_refunds AS (
    UPDATE refunds t SET due_at = now() + $2::interval FROM locked
    WHERE t.order_no = locked.order_no AND {CLAIMABLE_REFUND} AND due_at <= now()
    RETURNING t.order_no
)
SELECT order_no FROM earliest
WHERE order_no IN (SELECT order_no FROM held_charges UNION SELECT order_no FROM held_refunds)
ORDER BY due_at
"""  # noqa: S608


@cache
def claim_rows(tables: tuple[str, ...]) -> str:
    """SQL that takes the rows of these tables whose look is due, the earliest of all of them.

    A row that anybody has locked is passed over, so this waits for nobody, and nobody for long.
    """
    due = ",\n".join(_due_rows(table) for table in tables)
    both = " UNION ALL ".join(f"SELECT * FROM due_{table}" for table in tables)  # noqa: S608
    held = ",\n".join(_held_rows(table) for table in tables)
    answer = " UNION ALL ".join(f"SELECT * FROM held_{table}" for table in tables)  # noqa: S608
    return f"""
WITH {due},
earliest AS MATERIALIZED ({both} ORDER BY due_at LIMIT $1::int),
{held}
{answer}
"""


def _due_rows(table: str) -> str:
    return f"""
due_{table} AS MATERIALIZED (
    SELECT '{table}' AS source, order_no, {KEYS[table]} AS key, due_at FROM {table}
    WHERE due_at <= now() ORDER BY due_at LIMIT $1::int FOR NO KEY UPDATE SKIP LOCKED
)"""  # noqa: S608


def _held_rows(table: str) -> str:
    return f"""
held_{table} AS (
    UPDATE {table} t SET due_at = now() + $2::interval
    FROM earliest e WHERE e.source = '{table}' AND t.{KEYS[table]} = e.key
    RETURNING e.source, e.order_no, e.key, e.due_at AS due_at, t.due_at AS held_until
)"""  # noqa: S608


RELEASE_ROWS = {
    table: f"""
WITH released AS MATERIALIZED (
    SELECT w.key, w.due_at
    FROM unnest($1::text[], $2::timestamptz[], $3::timestamptz[]) AS w(key, due_at, held_until)
    JOIN {table} t ON t.{key} = w.key AND (t.due_at = w.held_until) IS TRUE
    FOR NO KEY UPDATE OF t SKIP LOCKED
)
UPDATE {table} t SET due_at = r.due_at FROM released r WHERE t.{key} = r.key
RETURNING t.{key}
"""  # noqa: S608
    for table, key in KEYS.items()
}
"""It passes over what is locked: if it held one row and waited for another one, it might wait for a
commit that waits for it. "IS TRUE" has it look for keys: all rows of a claim have one due_at."""

_EVENT_MARKS = ", ".join(f"${n}" for n, _ in enumerate(NEW_EVENTS.columns, 1))
ADD_EVENT = (
    f"INSERT INTO events ({', '.join(NEW_EVENTS.columns)}) VALUES ({_EVENT_MARKS})"  # noqa: S608
    " ON CONFLICT (event_id) DO NOTHING RETURNING event_id"
)

CLAIM_EVENTS = f"""
WITH due AS MATERIALIZED (
    SELECT event_id FROM events WHERE due_at <= now()
    ORDER BY due_at LIMIT $1::int FOR UPDATE SKIP LOCKED
)
UPDATE events e SET due_at = now() + $2::interval, attempts = attempts + 1
FROM due WHERE e.event_id = due.event_id
RETURNING {", ".join(f"e.{name}" for name in NEW_EVENTS.columns)}
"""  # noqa: S608

LEASE = f"""
WITH due AS MATERIALIZED (
    SELECT order_no, announce_at FROM orders WHERE {UNDELIVERED} AND announce_at <= now()
    ORDER BY announce_at LIMIT $1::int FOR UPDATE SKIP LOCKED
),
held AS (
    UPDATE orders o SET announce_at = now() + $2::interval, lease_token = $3::text
    FROM due WHERE o.order_no = due.order_no
    RETURNING o.order_no, o.delivered_sequence, o.announce_attempts, o.last_change,
        due.announce_at AS since
)
SELECT h.announce_attempts, h.last_change, h.order_no,
    {", ".join(f"n.{name}" for name in NOTIFICATIONS.columns)}
FROM held h
LEFT JOIN notifications n ON n.order_no = h.order_no AND n.sequence = {next_sequence("h")}
ORDER BY h.since
"""  # noqa: S608

SETTLE = f"""
WITH wanted AS MATERIALIZED (
    SELECT * FROM unnest(
        $1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::float8[]
    ) AS w(order_no, token, sequence, outcome, code, jitter)
),
locked AS MATERIALIZED (
    SELECT w.* FROM wanted w JOIN orders o ON o.order_no = w.order_no
        AND o.lease_token = w.token AND w.sequence = {next_sequence("o")}
    ORDER BY w.order_no FOR UPDATE OF o
),
settled AS (
    UPDATE orders o SET
        delivered_sequence = CASE w.outcome WHEN 'DELIVERED' THEN w.sequence
            ELSE o.delivered_sequence END,
        announce_attempts = CASE w.outcome WHEN 'DELIVERED' THEN 0
            ELSE o.announce_attempts + 1 END,
        announce_at = CASE w.outcome WHEN 'RETRY' THEN now() + w.jitter * interval '1 second'
                * least({NOTIFICATION_PAUSE_MAX_S}, 1 << least(o.announce_attempts, 20))
            ELSE now() END,
        parked_code = CASE w.outcome WHEN 'REFUSED' THEN w.code ELSE '' END,
        lease_token = ''
    FROM locked w WHERE o.order_no = w.order_no
    RETURNING o.order_no, w.sequence, w.outcome
),
delivered AS (
    UPDATE notifications n SET delivered_at = now() FROM settled s
    WHERE n.order_no = s.order_no AND n.sequence = s.sequence AND s.outcome = 'DELIVERED'
)
SELECT order_no FROM settled
"""  # noqa: S608
