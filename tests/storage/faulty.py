"""Stores whose database fails by the script of a test."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import event

from midas.storage.database import Batch, Database
from midas.storage.engine import parse, postgres_engine, sqlite_engine
from midas.storage.postgres import PostgresDatabase
from midas.storage.rows import Row
from midas.storage.sqlite import SqliteDatabase
from midas.storage.store import SqlStore

SHORT = timedelta(seconds=0.4)
"""A patience for tests in which it runs out."""


AnyDatabase = SqliteDatabase | PostgresDatabase


def database_at(url: str, *pragmas: str) -> AnyDatabase:
    """The database itself; SQLite's connections get these pragmas."""
    parsed = parse(url)
    if parsed.drivername != "sqlite":
        return PostgresDatabase(postgres_engine(parsed))
    engine = sqlite_engine(parsed)

    @event.listens_for(engine, "connect")
    def _more(connection: Any, _record: Any) -> None:
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}").close()

    return SqliteDatabase(engine)


class Scripted:
    """A database whose writes fail by a script, one line for each write; the rest succeed.

    A line is an exception to raise instead of the write; or ("after", exception): the batch is
    written first; or ("late", exception): the batch is written just before the next write.
    """

    def __init__(self, real: Database, *script: Any) -> None:
        self._real = real
        self._script = list(script)
        self._late: list[Batch] = []
        self.codec, self.is_sqlite = real.codec, real.is_sqlite
        self.now, self.keys, self.in_keys = real.now, real.keys, real.in_keys
        self.parameter, self.claim, self.ping = real.parameter, real.claim, real.ping
        self.claim_rows, self.release_rows = real.claim_rows, real.release_rows
        self.close, self.add_event, self.claim_events = (
            real.close,
            real.add_event,
            real.claim_events,
        )
        self.lease, self.settle = real.lease, real.settle
        self.learn_floor, self.raise_floor = real.learn_floor, real.raise_floor
        self.since_possible_loss = real.since_possible_loss
        self.writes = self.reads = 0
        self.writing = asyncio.Event()
        self.fetch_fails: Exception | None = None

    @property
    def sequence_floor(self) -> int:
        """As the real one knows it."""
        return self._real.sequence_floor

    async def fetch(self, sql: str, parameters: tuple[Any, ...] = ()) -> Sequence[Row]:
        """Read, unless reads are to fail."""
        self.reads += 1
        if self.fetch_fails is not None:
            raise self.fetch_fails
        return await self._real.fetch(sql, parameters)

    async def write(self, batch: Batch) -> set[str]:
        """Write by the script."""
        self.writes += 1
        self.writing.set()
        while self._late:
            await self._real.write(self._late.pop())
        step = self._script.pop(0) if self._script else None
        if step is None:
            return await self._real.write(batch)
        if isinstance(step, Exception):
            raise step
        when, error = step
        if when == "after":
            await self._real.write(batch)
        else:
            self._late.append(batch)
        raise error


def scripted_store(
    url: str, *script: Any, patience: timedelta = timedelta(seconds=5)
) -> tuple[SqlStore, Scripted]:
    """A store whose writes fail by the script, and its database."""
    database = Scripted(database_at(url), *script)
    return SqlStore(database, patience), database
