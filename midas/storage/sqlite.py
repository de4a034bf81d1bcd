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
from midas.storage.database import Batch, OrderVersion, Settling
from midas.storage.faults import RowsRefused, StorageFault
from midas.storage.rows import TABLE_WRITES, Codec, Row, TableWrite, utc_text
from midas.storage.sqlite_faults import fault_of

READERS = 2

_Result = TypeVar("_Result")


class SqliteDatabase:
    """A SQLite file behind `engine`, which is in autocommit mode: transactions are begun here."""

    is_sqlite = True

    def __init__(self, engine: Engine) -> None:
        self.codec = Codec(is_sqlite=True)
        self.sequence_floor = 0
        self._engine = engine
        self._writer = ThreadPoolExecutor(1, "midas-sqlite-writer")
        self._readers = ThreadPoolExecutor(READERS, "midas-sqlite-reader")
        self._writing: PoolProxiedConnection | None = None
        self._reading: list[PoolProxiedConnection] = []
        """The idle connections. They need no lock: to take or give back is one list operation."""
        self._released = False
        """Whether `release_far_ahead` was done."""

    def now(self) -> datetime:
        """The machine's clock without its steps. A transaction has the time at which it began."""
        return steady.CLOCK.now()

    def keys(self, keys: Sequence[str]) -> str:
        """A JSON array: one parameter for any number of keys, so the statement stays prepared."""
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
        written, self.sequence_floor = await self._in_turn(_write, batch)
        return written

    async def claim(self, limit: int, hold: timedelta) -> list[str]:
        """See `Database`."""
        return await self._in_turn(queues.claim_orders, (limit, hold))

    async def add_event(self, row: Row) -> bool:
        """See `Database`."""
        return await self._in_turn(queues.add_event, row)

    async def claim_rows(self, tables: Sequence[str], limit: int, hold: timedelta) -> Sequence[Row]:
        """See `Database`."""
        return await self._in_turn(queues.claim_rows, (tables, limit, hold))

    async def release_rows(self, table: str, rows: Sequence[Row]) -> None:
        """See `Database`."""
        await self._in_turn(queues.release_rows, (table, rows))

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
        """See `Database`. Nothing in the file shows whether it is a copy."""
        ((self.sequence_floor,),) = await self.fetch(epochs.SQLITE_FLOOR)

    async def raise_floor(self) -> int:
        """See `Database`."""
        self.sequence_floor = await self._in_turn(_raise_floor, None)
        return self.sequence_floor

    async def since_possible_loss(self) -> timedelta:
        """See `Database`. Only the person who put a copy in place knows that it is one."""
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
        """Run one transaction in the writer's thread."""
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

        The driver is called directly: SQLAlchemy costs as much per statement as SQLite itself.
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
    written, floor = _set_versions(connection, batch.versions, utc_text(now))
    all_written = len(written) == len(batch.versions)
    for write in TABLE_WRITES:
        rows = batch.rows.get(write.name)
        if rows and not all_written:
            rows = [row for row in rows if row[write.order_no] in written]
        if rows and write.is_update:
            rows = [(*row[2:], *row[:2]) for row in rows]
        if rows:
            connection.executemany(_STATEMENTS[write.name], rows)
    return written, floor


def _set_versions(
    connection: sqlite3.Connection, versions: list[OrderVersion], at: str
) -> tuple[set[str], int]:
    """Set the versions of the orders that are as expected. Returns these orders and the floor."""
    known = json.dumps([version.order_no for version in versions])
    (_, floor, _), *found = connection.execute(_VERSIONS, (known,)).fetchall()
    stored = {order_no: stands for order_no, *stands in found}
    numbered = (version for version in versions if version.floor in (None, floor))
    written = [
        version for version in numbered if _is_as_expected(stored.get(version.order_no), version)
    ]
    renumbered = [(version.order_no,) for version in written if version.renumbers]
    if renumbered:
        connection.executemany(_RENUMBERED_ORDER, renumbered)
    new = [_version_values(version, at) for version in written if version.expected == 0]
    old = [_version_values(version, at) for version in written if version.expected > 0]
    if new:
        connection.executemany(_NEW_ORDER, new)
    if old:
        connection.executemany(_CHANGED_ORDER, old)
    return {version.order_no for version in written}, floor


def _is_as_expected(stored: list[Any] | None, version: OrderVersion) -> bool:
    if stored is None:
        return version.expected == 0
    return stored == [version.expected, version.expected_change]


def _version_values(version: OrderVersion, at: str) -> Row:
    return at, version.expected + 1, version.last_sequence, version.change_id, version.order_no


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
"""A notification that is the only one waiting is due from now on: others have waited longer."""
_RENUMBERED_ORDER = (
    "UPDATE orders SET delivered_sequence = last_sequence, announce_attempts = 0,"
    " lease_token = '', parked_code = '' WHERE order_no = ?"
)
"""Run before the order's new numbers are set: all that was waiting comes again under those."""


def _statement(write: TableWrite) -> str:
    """SQL for one row. An update takes its first two columns, key and order_no, at the end."""
    if not write.is_update:
        placeholders = ", ".join("?" for _ in write.columns)
        return (
            f"INSERT INTO {write.table.name} ({', '.join(write.columns)}) VALUES ({placeholders})"  # noqa: S608
        )
    key, order_no, *changed = write.columns
    sets = ", ".join(f"{column} = ?" for column in changed)
    return f"UPDATE {write.table.name} SET {sets} WHERE {key} = ? AND {order_no} = ?"  # noqa: S608


_STATEMENTS = {write.name: _statement(write) for write in TABLE_WRITES}
