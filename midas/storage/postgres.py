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
from midas.storage.rows import NOTIFICATIONS, PARTS, Codec, Part, Row

CLOCK_VAGUENESS_S = 1.0
"""The longest statement that the server's clock is read from."""

_log = logging.getLogger(__name__)


class PostgresDatabase:
    """A PostgreSQL server behind `engine`, in autocommit mode: each statement is a transaction."""

    plain = False

    def __init__(self, engine: AsyncEngine) -> None:
        self.codec = Codec(plain=False)
        self.sequence_floor = 0
        self._engine = engine
        self._ahead = time.time() - time.monotonic()
        self._clock_read = False

    def now(self) -> datetime:
        """The server's clock, carried on by ours that never steps since the last write or ping."""
        return datetime.fromtimestamp(time.monotonic() + self._ahead, UTC)

    def keys(self, keys: Sequence[str]) -> list[str]:
        """An array: one parameter however many keys, so the statement stays prepared."""
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
        parts = tuple(part for part in PARTS if part.name in batch.rows)
        arrays: list[Sequence[Any]] = [
            [head.order_no for head in batch.heads],
            [head.expected for head in batch.heads],
            [head.expected_change for head in batch.heads],
            [head.last_sequence for head in batch.heads],
            [head.change_id for head in batch.heads],
        ]
        if NOTIFICATIONS in parts:
            arrays.append([head.floor for head in batch.heads])
            arrays.append([head.retells for head in batch.heads])
        for part in parts:
            arrays.extend(zip(*batch.rows[part.name], strict=True))
        began = time.monotonic()
        rows = await self.fetch(commit_statement(parts), tuple(arrays))
        if rows:
            self._set_clock(rows[0][1], began)
        if NOTIFICATIONS in parts:
            await self._keep_floor(rows)
        return {row[0] for row in rows if row[0] is not None}

    async def _keep_floor(self, rows: Sequence[Row]) -> None:
        """Know the floor that holds, as a commit has met it; raise it if commits may be gone.

        Raises nothing: the commit is done. Where it cannot be raised now, the next one meets it.
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
            await self.learn_floor()  # which notes the moment
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

    def _set_clock(self, told: datetime, began: float) -> None:
        """Read the server's clock, unless the statement waited: its moment is too vague then."""
        ended = time.monotonic()
        if ended - began <= CLOCK_VAGUENESS_S or not self._clock_read:
            self._clock_read = True
            self._ahead = told.timestamp() - (began + ended) / 2

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
                # A server that turned read-only or away stays so: ask for a new connection.
                await connection.invalidate()
            raise fault from error
        finally:
            await connection.close()


_ARRAYS = (
    *((Integer, "int"), (Boolean, "boolean")),
    *((DateTime, "timestamptz"), (LargeBinary, "bytea")),
)


def _array_type(part: Part, column: str) -> str:
    kind = part.table.columns[column].type
    if isinstance(kind, BigInteger):
        return "bigint[]"
    return next((f"{name}[]" for cls, name in _ARRAYS if isinstance(kind, cls)), "text[]")


@lru_cache(maxsize=256)
def commit_statement(parts: tuple[Part, ...]) -> str:
    """SQL that writes a batch with rows for these parts. It answers with the orders that won."""
    numbered = NOTIFICATIONS in parts
    written: list[str] = []
    position = 8 if numbered else 6
    for part in parts:
        written.append(_part_statement(part, position, after=written_names(parts, part)))
        position += len(part.columns)
    answer = _NUMBERED_ANSWER if numbered else "SELECT order_no, clock_timestamp() FROM won"
    return ",\n".join((_heads(numbered=numbered), *written)) + f"\n{answer}"


def _heads(*, numbered: bool) -> str:
    """The parts of the statement that decide: compare what is expected, then set.

    `numbered`: some changes have notifications. One that numbers them above another floor than the
    one that holds loses, and so does each on a server whose history is not the floor's. One whose
    notifications are all that the order service is to be told has the order begin with them.
    """
    arrays = ", $6::bigint[], $7::boolean[]" if numbered else ""
    columns = ", floor, retells" if numbered else ""
    epoch = f"epoch AS MATERIALIZED ({epochs.POSTGRES_FLOOR})," if numbered else ""
    right = _RIGHTLY_NUMBERED if numbered else "true"
    return f"""
WITH wanted AS MATERIALIZED (
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::bigint[], $5::text[]{arrays})
        AS w(order_no, expected, expected_change, last_sequence, last_change{columns})
),
{epoch}
made AS (
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
moved AS (
    UPDATE orders o
    SET version = w.expected + 1, last_sequence = w.last_sequence, last_change = w.last_change,
        -- what becomes due while nothing else waits is due from now on: others have waited longer
        announce_at = CASE WHEN o.delivered_sequence = o.last_sequence THEN now()
            ELSE o.announce_at END{_RETELL if numbered else ""}
    FROM locked w WHERE o.order_no = w.order_no
    RETURNING o.order_no
),
won AS MATERIALIZED (SELECT order_no FROM made UNION ALL SELECT order_no FROM moved)"""  # noqa: S608


_RIGHTLY_NUMBERED = "(w.floor IS NULL OR w.floor = (SELECT floor FROM epoch WHERE current))"
_RETELL = """,
        delivered_sequence = CASE WHEN w.retells THEN o.last_sequence
            ELSE o.delivered_sequence END,
        announce_attempts = CASE WHEN w.retells THEN 0 ELSE o.announce_attempts END,
        lease_token = CASE WHEN w.retells THEN '' ELSE o.lease_token END,
        parked_code = CASE WHEN w.retells THEN '' ELSE o.parked_code END"""
_NUMBERED_ANSWER = """
SELECT order_no, clock_timestamp(), floor, current FROM epoch LEFT JOIN won ON true"""


def written_names(parts: tuple[Part, ...], part: Part) -> tuple[str, ...]:
    """The changes that must be done before the rows of this part may be inserted.

    They stand before it in the statement: PostgreSQL knows no other part by its name.
    """
    if part.changes:
        return ()
    earlier = parts[: parts.index(part)]
    return tuple(each.name for each in earlier if each.changes and each.table is part.table)


def _part_statement(part: Part, position: int, after: tuple[str, ...]) -> str:
    arrays = ", ".join(
        f"${n}::{_array_type(part, column)}" for n, column in enumerate(part.columns, position)
    )
    source = f"unnest({arrays}) AS v({', '.join(part.columns)})"
    # "IS TRUE" keeps the planner from joining: a hashed list is looked up once per row.
    ours = "(v.order_no IN (SELECT order_no FROM won)) IS TRUE"
    if part.changes:
        key = part.columns[0]
        sets = ", ".join(f"{column} = {_value(part, column)}" for column in part.columns[2:])
        return (
            f"{part.name} AS (UPDATE {part.table.name} t SET {sets} FROM {source}"  # noqa: S608
            f" WHERE t.{key} = v.{key} AND t.order_no = v.order_no AND {ours} RETURNING 1)"
        )
    values = ", ".join(_value(part, column) for column in part.columns)
    # Counting waits for them: a charge stops being open before the next one of its order is.
    waits = "".join(f" AND (SELECT count(*) FROM {name}) >= 0" for name in after)  # noqa: S608
    return (
        f"{part.name} AS (INSERT INTO {part.table.name} ({', '.join(part.columns)})"  # noqa: S608
        f" SELECT {values} FROM {source} WHERE {ours}{waits})"
    )


def _value(part: Part, column: str) -> str:
    is_document = isinstance(part.table.columns[column].type, JSON)
    return f"v.{column}::json" if is_document else f"v.{column}"
