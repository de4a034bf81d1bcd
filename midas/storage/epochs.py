"""SQL of the floor above which notifications are numbered: see `midas/sequences.py`.

One row keeps it, with the name of the server's history in which it holds. PostgreSQL's history is
its system identifier and its timeline. A standby that becomes the primary begins a new timeline,
and so does a restore to a point in time; a dump is restored into another system. A copy of files
keeps both, and SQLite has neither: there `midas migrate --restored` raises the floor by hand.
"""

from datetime import datetime, timedelta

from midas.sequences import CLOCK_FROM, EPOCH

POSTGRES_HISTORY = (
    "(SELECT system_identifier || '/' || left(pg_walfile_name(pg_current_wal_lsn()), 8)"
    " FROM pg_control_system())"
)
"""SQL of the name of the server's history. The name of the WAL file has the new timeline from the
promotion on; pg_control_checkpoint() has it only after the next checkpoint. Every role may read
both."""

POSTGRES_FLOOR = f"SELECT floor, history = {POSTGRES_HISTORY} AS current FROM sequence_epochs"  # noqa: S608

RAISED_AT = "SELECT raised_at FROM sequence_epochs"
POSTGRES_LOSS = (
    f"SELECT history = {POSTGRES_HISTORY}, raised_at, clock_timestamp() FROM sequence_epochs"  # noqa: S608
)

_POSTGRES_CLOCK = f"(extract(epoch FROM clock_timestamp())::bigint - {CLOCK_FROM}) * {EPOCH}"
POSTGRES_RAISE = f"""
INSERT INTO sequence_epochs AS e (id, floor, history, raised_at)
VALUES (
    1, greatest(($1::bigint / {EPOCH} + 1) * {EPOCH}, {_POSTGRES_CLOCK}), {POSTGRES_HISTORY}, now()
)
ON CONFLICT (id) DO UPDATE SET history = excluded.history, raised_at = excluded.raised_at,
    floor = greatest((e.floor / {EPOCH} + 1) * {EPOCH}, excluded.floor)
WHERE e.history <> excluded.history OR e.floor < $1::bigint OR $2::boolean
RETURNING floor
"""  # noqa: S608
"""SQL that raises the floor: if the history is another one, if a process ($1) knows a higher floor,
or in any case ($2). If several processes run it, one raises the floor."""

SQLITE_FLOOR = "SELECT floor FROM sequence_epochs"
SQLITE_RAISE = f"""
UPDATE sequence_epochs SET raised_at = ?, floor = max((floor / {EPOCH} + 1) * {EPOCH},
    (? - {CLOCK_FROM}) * {EPOCH})
RETURNING floor
"""  # noqa: S608
"""SQL that raises the floor. Its parameters are the time as text, and the time in Unix seconds."""


def since(raised_at: datetime | None, now: datetime) -> timedelta:
    """How long ago commits may have been lost: since the floor was raised last."""
    return timedelta.max if raised_at is None else max(timedelta(0), now - raised_at)
