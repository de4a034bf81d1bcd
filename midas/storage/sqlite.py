"""SQLite: one file, one writer at a time, a few readers.

Every transaction runs as a whole in a thread of its own. So a batch costs one change of threads
instead of one per statement, and no cancellation can end a transaction between two statements.
"""

import asyncio
import json
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any, TypeVar, cast

from sqlalchemy import Engine, PoolProxiedConnection
from sqlalchemy.exc import DBAPIError

from midas.storage import epochs, steady
from midas.storage import sqlite_queues as queues
from midas.storage.database import Batch, Head, Settling
from midas.storage.faults import RowsRefused, StorageFault
from midas.storage.rows import PARTS, Codec, Part, Row, utc_text
from midas.storage.sqlite_faults import fault_of

READERS = 2

_Result = TypeVar("_Result")


class SqliteDatabase:
    """A SQLite file behind `engine`, which is in autocommit mode: transactions are begun here."""

    plain = True

    def __init__(self, engine: Engine) -> None:
        self.codec = Codec(plain=True)
        self.sequence_floor = 0
        self._engine = engine
        self._writer = ThreadPoolExecutor(1, "midas-sqlite-writer")
        self._readers = ThreadPoolExecutor(READERS, "midas-sqlite-reader")
        self._writing: PoolProxiedConnection | None = None
        self._reading: list[PoolProxiedConnection] = []
        """Idle ones. Taken and given back without a lock: each is one operation of the list."""
        self._released = False
        """Whether what an earlier process planned for a time far ahead was looked at."""

    def now(self) -> datetime:
        """The machine's clock without its steps. A transaction has the time at which it began."""
        return steady.CLOCK.now()

    def keys(self, keys: Sequence[str]) -> str:
        """A JSON array: one parameter however many keys, so the statement stays prepared."""
        return json.dumps(keys)

    def in_keys(self) -> str:
        """See `Database`."""
        return " IN (SELECT value FROM json_each(?))"

    def parameter(self, position: int) -> str:  # noqa: ARG002
        """See `Database`."""
        return "?"  # from Python 3.14 on, numbered ones would have to be named

    async def fetch(self, sql: str, parameters: tuple[Any, ...] = ()) -> Sequence[Row]:
        """See `Database`."""
        return await self._run(self._readers, lambda: self._fetch(sql, parameters))

    async def write(self, batch: Batch) -> set[str]:
        """See `Database`."""
        won, self.sequence_floor = await self._in_turn(_write, batch)
        return won

    async def claim(self, limit: int, hold: timedelta) -> list[str]:
        """See `Database`."""
        return await self._in_turn(queues.claim_orders, (limit, hold))

    async def add_event(self, row: Row) -> bool:
        """See `Database`."""
        return await self._in_turn(queues.add_event, row)

    async def claim_events(self, limit: int, hold: timedelta) -> Sequence[Row]:
        """See `Database`."""
        return await self._in_turn(queues.claim_events, (limit, hold))

    async def lease(self, limit: int, hold: timedelta, token: str) -> Sequence[Row]:
        """See `Database`."""
        return await self._in_turn(queues.lease, (limit, hold, token))

    async def settle(self, settlings: list[Settling]) -> set[str]:
        """See `Database`."""
        return await self._in_turn(queues.settle, settlings)

    async def learn_floor(self) -> None:
        """See `Database`. Whether the file is a copy cannot be seen."""
        ((self.sequence_floor,),) = await self.fetch(epochs.SQLITE_FLOOR)

    async def raise_floor(self) -> int:
        """See `Database`."""
        self.sequence_floor = await self._in_turn(_raise_floor, None)
        return self.sequence_floor

    async def since_possible_loss(self) -> timedelta:
        """See `Database`. Only by hand is it known that the file is a copy."""
        ((raised_at,),) = await self.fetch(epochs.RAISED_AT)
        return epochs.since(raised_at and datetime.fromisoformat(raised_at), self.now())

    async def ping(self) -> None:
        """See `Database`."""
        await self.fetch("SELECT 1")

    async def close(self) -> None:
        """Wait for the threads, then close the file."""
        for threads in (self._writer, self._readers):
            threads.shutdown(wait=True)
        for pooled in (self._writing, *self._reading):
            if pooled is not None:
                pooled.close()
        self._engine.dispose()

    async def _in_turn(
        self, work: Callable[[sqlite3.Connection, Any, datetime], _Result], argument: Any
    ) -> _Result:
        """One transaction in the writer's thread."""
        return await self._run(self._writer, lambda: self._transaction(work, argument))

    async def _run(self, threads: ThreadPoolExecutor, work: Callable[[], _Result]) -> _Result:
        try:
            return await asyncio.get_running_loop().run_in_executor(threads, work)
        except StorageFault:
            raise
        except (DBAPIError, sqlite3.Error) as error:
            raise fault_of(error) from error
        except (UnicodeError, OverflowError, TypeError) as error:
            raise RowsRefused(repr(error)) from error

    def _fetch(self, sql: str, parameters: tuple[Any, ...]) -> Sequence[Row]:
        """Run in a reader's thread, on a connection that is kept like the writer's."""
        try:
            pooled = self._reading.pop()
        except IndexError:
            pooled = self._engine.raw_connection()
        try:
            rows = _driver(pooled).execute(sql, parameters).fetchall()
        except BaseException:
            pooled.close()
            raise
        self._reading.append(pooled)
        return rows

    def _transaction(
        self, work: Callable[[sqlite3.Connection, Any, datetime], _Result], argument: Any
    ) -> _Result:
        """Run in the writer's thread. Its connection is kept, for the pages that it has cached.

        The driver is spoken to directly: SQLAlchemy costs as much per statement as SQLite itself.
        """
        pooled = self._writing or self._engine.raw_connection()
        self._writing = None
        try:
            connection = _driver(pooled)
            connection.execute("BEGIN IMMEDIATE")
            now = self.now()
            if not self._released:
                queues.release_far_ahead(connection, now)
            result = work(connection, argument, now)
            _commit(connection)
            self._released = True
        except BaseException:
            pooled.close()  # which rolls back
            raise
        self._writing = pooled
        return result


def _driver(pooled: PoolProxiedConnection) -> sqlite3.Connection:
    return cast("sqlite3.Connection", pooled.driver_connection)


def _commit(connection: sqlite3.Connection) -> None:
    try:
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise fault_of(error, committing=True) from error


def _raise_floor(connection: sqlite3.Connection, _: None, now: datetime) -> int:
    times = utc_text(now), int(now.timestamp())
    ((floor,),) = connection.execute(epochs.SQLITE_RAISE, times).fetchall()
    return int(floor)


def _write(connection: sqlite3.Connection, batch: Batch, now: datetime) -> tuple[set[str], int]:
    """The orders that were written, and the floor above which notifications are numbered."""
    won, floor = _winners(connection, batch.heads, utc_text(now))
    every_one = len(won) == len(batch.heads)
    for part in PARTS:
        rows = batch.rows.get(part.name)
        if rows and not every_one:
            rows = [row for row in rows if row[part.order_no] in won]
        if rows and part.changes:
            rows = [(*row[2:], *row[:2]) for row in rows]
        if rows:
            connection.executemany(_STATEMENTS[part.name], rows)
    return won, floor


def _winners(connection: sqlite3.Connection, heads: list[Head], at: str) -> tuple[set[str], int]:
    """Set the versions of the orders that still stand as expected."""
    known = json.dumps([head.order_no for head in heads])
    (_, floor, _), *found = connection.execute(_VERSIONS, (known,)).fetchall()
    stored = {order_no: stands for order_no, *stands in found}
    numbered = (head for head in heads if head.floor in (None, floor))
    won = [head for head in numbered if _stands(stored.get(head.order_no), head)]
    retold = [(head.order_no,) for head in won if head.retells]
    if retold:
        connection.executemany(_RETOLD_ORDER, retold)
    new = [_head_values(head, at) for head in won if head.expected == 0]
    old = [_head_values(head, at) for head in won if head.expected > 0]
    if new:
        connection.executemany(_NEW_ORDER, new)
    if old:
        connection.executemany(_CHANGED_ORDER, old)
    return {head.order_no for head in won}, floor


def _stands(stored: list[Any] | None, head: Head) -> bool:
    if stored is None:
        return head.expected == 0
    return stored == [head.expected, head.expected_change]


def _head_values(head: Head, at: str) -> Row:
    return at, head.expected + 1, head.last_sequence, head.change_id, head.order_no


_VERSIONS = (
    "SELECT NULL, floor, NULL FROM sequence_epochs"
    " UNION ALL SELECT order_no, version, last_change FROM orders"
    " WHERE order_no IN (SELECT value FROM json_each(?))"
)
"""The first row has the floor."""
_NEW_ORDER = (
    "INSERT INTO orders (announce_at, version, last_sequence, last_change, order_no)"
    " VALUES (?, ?, ?, ?, ?)"
)
_CHANGED_ORDER = (
    "UPDATE orders SET announce_at = CASE WHEN delivered_sequence = last_sequence"
    " THEN ? ELSE announce_at END, version = ?, last_sequence = ?, last_change = ?"
    " WHERE order_no = ?"
)
"""What becomes due while nothing else waits is due from now on: others have waited longer."""
_RETOLD_ORDER = (
    "UPDATE orders SET delivered_sequence = last_sequence, announce_attempts = 0,"
    " lease_token = '', parked_code = '' WHERE order_no = ?"
)
"""Before its new numbers are set: what it had to be told until now comes again under those."""


def _statement(part: Part) -> str:
    """SQL for one row. An update takes the key and the order_no, which lead the row, last."""
    if not part.changes:
        marks = ", ".join("?" for _ in part.columns)
        return f"INSERT INTO {part.table.name} ({', '.join(part.columns)}) VALUES ({marks})"  # noqa: S608
    key, order_no, *changed = part.columns
    sets = ", ".join(f"{column} = ?" for column in changed)
    return f"UPDATE {part.table.name} SET {sets} WHERE {key} = ? AND {order_no} = ?"  # noqa: S608


_STATEMENTS = {part.name: _statement(part) for part in PARTS}
