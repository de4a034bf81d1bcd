"""PostgreSQL. A batch of changes is one statement, and so one trip and one transaction.

The statement carries the rows as one array per column. It sets the versions of those orders that
still stand as they were read, and writes the rows of these orders alone.
"""

import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, DateTime, Integer, LargeBinary
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from midas.storage import epochs
from midas.storage import postgres_queues as queues
from midas.storage.database import Batch, Settling
from midas.storage.faults import InDoubt, NotWritten, StorageFault
from midas.storage.postgres_faults import DRIVER_ERRORS, cause_of, fault_of
from midas.storage.rows import NOTIFICATIONS, TABLE_WRITES, Codec, Row, TableWrite

CLOCK_READING_MAX_S = 1.0
"""The longest statement whose answer gives the server's clock."""

_log = logging.getLogger(__name__)


class PostgresDatabase:
    """A PostgreSQL server behind `engine`, in autocommit mode: each statement is a transaction."""

    is_sqlite = False

    def __init__(self, engine: AsyncEngine) -> None:
        self.codec = Codec(is_sqlite=False)
        self.sequence_floor = 0
        self._engine = engine
        self._clock_offset_s = time.time() - time.monotonic()
        self._clock_read = False

    def now(self) -> datetime:
        """The server's clock at the last write or ping, carried on by a clock that never steps."""
        return datetime.fromtimestamp(time.monotonic() + self._clock_offset_s, UTC)

    def keys(self, keys: Sequence[str]) -> list[str]:
        """An array: one parameter for any number of keys, so the statement stays prepared."""
        return list(keys)

    def in_keys(self) -> str:
        """See `Database`."""
        return " = ANY($1::text[])"

    def parameter(self, position: int) -> str:
        """See `Database`."""
        return f"${position}"

    async def fetch(self, sql: str, parameters: tuple[Any, ...] = ()) -> Sequence[Row]:
        """See `Database`."""
        async with self._connection() as connection:
            result = await connection.exec_driver_sql(sql, parameters)
            return result.all()

    async def write(self, batch: Batch) -> set[str]:
        """See `Database`."""
        writes = tuple(write for write in TABLE_WRITES if write.name in batch.rows)
        arrays: list[Sequence[Any]] = [
            [version.order_no for version in batch.versions],
            [version.expected for version in batch.versions],
            [version.expected_change for version in batch.versions],
            [version.last_sequence for version in batch.versions],
            [version.change_id for version in batch.versions],
        ]
        if NOTIFICATIONS in writes:
            arrays.append([version.floor for version in batch.versions])
            arrays.append([version.renumbers for version in batch.versions])
        for write in writes:
            arrays.extend(zip(*batch.rows[write.name], strict=True))
        began = time.monotonic()
        rows = await self.fetch(commit_statement(writes), tuple(arrays))
        if rows:
            self._set_clock(rows[0][1], began)
        if NOTIFICATIONS in writes:
            await self._keep_floor(rows)
        return {row[0] for row in rows if row[0] is not None}

    async def _keep_floor(self, rows: Sequence[Row]) -> None:
        """Learn the current floor from a commit's answer; raise it if commits may be lost.

        Raises nothing: the commit is done. If it cannot be raised now, the next commit does it.
        """
        floor, current = rows[0][2:] if rows else (0, False)
        if current and floor >= self.sequence_floor:
            self.sequence_floor = floor
            return
        with suppress(StorageFault):
            await self.learn_floor()

    async def learn_floor(self) -> None:
        """See `Database`."""
        rows = await self.fetch(epochs.POSTGRES_FLOOR)
        if not rows or not rows[0][1] or rows[0][0] < self.sequence_floor:
            await self._raise_floor(always=False)
            rows = await self.fetch(epochs.POSTGRES_FLOOR)
        self.sequence_floor = rows[0][0]

    async def raise_floor(self) -> int:
        """See `Database`."""
        await self._raise_floor(always=True)
        return self.sequence_floor

    async def _raise_floor(self, *, always: bool) -> None:
        known = self.sequence_floor
        raised = await self.fetch(epochs.POSTGRES_RAISE, (known, always))
        if raised:
            self.sequence_floor = raised[0][0]
            _log.warning("sequence_floor_raised", extra={"sequence": self.sequence_floor})

    async def claim(self, limit: int, hold: timedelta) -> list[str]:
        """See `Database`."""
        return [row[0] for row in await self.fetch(queues.CLAIM_ORDERS, (limit, hold))]

    async def claim_rows(self, tables: Sequence[str], limit: int, hold: timedelta) -> Sequence[Row]:
        """See `Database`."""
        return await self.fetch(queues.claim_rows(tuple(tables)), (limit, hold))

    async def release_rows(self, table: str, rows: Sequence[Row]) -> None:
        """See `Database`."""
        await self.fetch(queues.RELEASE_ROWS[table], tuple(zip(*rows, strict=True)))

    async def add_event(self, row: Row) -> bool:
        """See `Database`."""
        return bool(await self.fetch(queues.ADD_EVENT, row))

    async def claim_events(self, limit: int, hold: timedelta) -> Sequence[Row]:
        """See `Database`."""
        return await self.fetch(queues.CLAIM_EVENTS, (limit, hold))

    async def lease(self, limit: int, hold: timedelta, token: str) -> Sequence[Row]:
        """See `Database`."""
        return await self.fetch(queues.LEASE, (limit, hold, token))

    async def settle(self, settlings: list[Settling]) -> set[str]:
        """See `Database`."""
        arrays = tuple(zip(*settlings, strict=True))
        return {row[0] for row in await self.fetch(queues.SETTLE, arrays)}

    async def since_possible_loss(self) -> timedelta:
        """See `Database`."""
        rows = await self.fetch(epochs.POSTGRES_LOSS)
        if not rows or not rows[0][0]:
            await self.learn_floor()  # that notes the moment
            rows = await self.fetch(epochs.POSTGRES_LOSS)
        return epochs.since(*rows[0][1:])

    async def ping(self) -> None:
        """See `Database`."""
        began = time.monotonic()
        rows = await self.fetch("SELECT clock_timestamp()")
        self._set_clock(rows[0][0], began)

    async def close(self) -> None:
        """See `Database`."""
        await self._engine.dispose()

    def _set_clock(self, server_time: datetime, began: float) -> None:
        """Set the clock by the server's, unless the statement waited: that time is too vague."""
        ended = time.monotonic()
        if ended - began <= CLOCK_READING_MAX_S or not self._clock_read:
            self._clock_read = True
            self._clock_offset_s = server_time.timestamp() - (began + ended) / 2

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[AsyncConnection]:
        try:
            connection = await self._engine.connect()
        except DRIVER_ERRORS as error:
            raise NotWritten(str(cause_of(error))) from error
        try:
            yield connection
        except DRIVER_ERRORS as error:
            fault = fault_of(error)
            if isinstance(fault, NotWritten | InDoubt):
                # A server that turned read-only or went away stays so: take a new connection.
                await connection.invalidate()
            raise fault from error
        finally:
            await connection.close()


_ARRAY_TYPES = (
    *((Integer, "int"), (Boolean, "boolean")),
    *((DateTime, "timestamptz"), (LargeBinary, "bytea")),
)


def _array_type(write: TableWrite, column: str) -> str:
    kind = write.table.columns[column].type
    if isinstance(kind, BigInteger):
        return "bigint[]"
    return next((f"{name}[]" for cls, name in _ARRAY_TYPES if isinstance(kind, cls)), "text[]")


@lru_cache(maxsize=256)
def commit_statement(writes: tuple[TableWrite, ...]) -> str:
    """SQL that writes a batch with these writes. It answers with the orders that were written."""
    numbered = NOTIFICATIONS in writes
    statements: list[str] = []
    position = 8 if numbered else 6
    for write in writes:
        statements.append(_write_statement(write, position, after=updates_before(writes, write)))
        position += len(write.columns)
    answer = _NUMBERED_ANSWER if numbered else "SELECT order_no, clock_timestamp() FROM written"
    return ",\n".join((_version_ctes(numbered=numbered), *statements)) + f"\n{answer}"


def _version_ctes(*, numbered: bool) -> str:
    """The CTEs that compare the versions of the orders with what is expected, then set them.

    `numbered`: some changes have notifications. A change that numbers them above another floor than
    the current one is not written. None is written on a server whose history is not the floor's. If
    its notifications are all that the order service must still get, delivery begins with them.
    """
    arrays = ", $6::bigint[], $7::boolean[]" if numbered else ""
    columns = ", floor, renumbers" if numbered else ""
    epoch = f"epoch AS MATERIALIZED ({epochs.POSTGRES_FLOOR})," if numbered else ""
    right = _RIGHTLY_NUMBERED if numbered else "true"
    return f"""
WITH wanted AS MATERIALIZED (
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::bigint[], $5::text[]{arrays})
        AS w(order_no, expected, expected_change, last_sequence, last_change{columns})
),
{epoch}
inserted AS (
    INSERT INTO orders (order_no, version, last_sequence, last_change, announce_at)
    SELECT order_no, 1, last_sequence, last_change, now() FROM wanted w
    WHERE expected = 0 AND {right} ORDER BY order_no
    ON CONFLICT (order_no) DO NOTHING
    RETURNING order_no
),
locked AS MATERIALIZED (
    SELECT w.* FROM wanted w JOIN orders o ON o.order_no = w.order_no AND o.version = w.expected
        AND o.last_change = w.expected_change
    WHERE {right} ORDER BY w.order_no FOR UPDATE OF o
),
updated AS (
    UPDATE orders o
    SET version = w.expected + 1, last_sequence = w.last_sequence, last_change = w.last_change,
        -- a notification that is the only one waiting is due from now on: others waited longer
        announce_at = CASE WHEN o.delivered_sequence = o.last_sequence THEN now()
            ELSE o.announce_at END{_RENUMBER if numbered else ""}
    FROM locked w WHERE o.order_no = w.order_no
    RETURNING o.order_no
),
written AS MATERIALIZED (
    SELECT order_no FROM inserted UNION ALL SELECT order_no FROM updated
)"""  # noqa: S608


_RIGHTLY_NUMBERED = "(w.floor IS NULL OR w.floor = (SELECT floor FROM epoch WHERE current))"
_RENUMBER = """,
        delivered_sequence = CASE WHEN w.renumbers THEN o.last_sequence
            ELSE o.delivered_sequence END,
        announce_attempts = CASE WHEN w.renumbers THEN 0 ELSE o.announce_attempts END,
        lease_token = CASE WHEN w.renumbers THEN '' ELSE o.lease_token END,
        parked_code = CASE WHEN w.renumbers THEN '' ELSE o.parked_code END"""
_NUMBERED_ANSWER = """
SELECT order_no, clock_timestamp(), floor, current FROM epoch LEFT JOIN written ON true"""


def updates_before(writes: tuple[TableWrite, ...], write: TableWrite) -> tuple[str, ...]:
    """The names of the updates that must be done before the rows of this write are inserted.

    They stand before it in the statement: PostgreSQL knows no later one by its name.
    """
    if write.is_update:
        return ()
    earlier = writes[: writes.index(write)]
    return tuple(each.name for each in earlier if each.is_update and each.table is write.table)


def _write_statement(write: TableWrite, position: int, after: tuple[str, ...]) -> str:
    arrays = ", ".join(
        f"${n}::{_array_type(write, column)}" for n, column in enumerate(write.columns, position)
    )
    source = f"unnest({arrays}) AS v({', '.join(write.columns)})"
    # "IS TRUE" keeps the planner from joining: a hashed list is looked up once per row.
    ours = "(v.order_no IN (SELECT order_no FROM written)) IS TRUE"
    if write.is_update:
        key = write.columns[0]
        sets = ", ".join(f"{column} = {_value(write, column)}" for column in write.columns[2:])
        return (
            f"{write.name} AS (UPDATE {write.table.name} t SET {sets} FROM {source}"  # noqa: S608
            f" WHERE t.{key} = v.{key} AND t.order_no = v.order_no AND {ours} RETURNING 1)"
        )
    values = ", ".join(_value(write, column) for column in write.columns)
    # Counting waits for the updates: a charge stops being open before the next one is inserted.
    waits = "".join(f" AND (SELECT count(*) FROM {name}) >= 0" for name in after)  # noqa: S608
    return (
        f"{write.name} AS (INSERT INTO {write.table.name} ({', '.join(write.columns)})"  # noqa: S608
        f" SELECT {values} FROM {source} WHERE {ours}{waits})"
    )


def _value(write: TableWrite, column: str) -> str:
    is_document = isinstance(write.table.columns[column].type, JSON)
    return f"v.{column}::json" if is_document else f"v.{column}"
