"""Real databases for a state machine: an empty one for each run, and a clock that the test moves.

When Midas claims what is due, SQLite's store gives the time to its SQL, and PostgreSQL's SQL calls
`now()`. Here the store gives the test's time, and a function of the same name that returns the
test's time hides `now()`.
"""

import shutil
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from midas.storage.database import Database
from midas.storage.engine import parse, postgres_engine, sqlite_engine
from midas.storage.postgres import PostgresDatabase
from midas.storage.sqlite import SqliteDatabase
from tests.postgres import PostgresServer

START = datetime(2090, 3, 1, 12, tzinfo=UTC)
"""Beyond the machine's own time, by which SQLite dates new orders: they are due at once."""


class TestClock:
    """The one clock of a run. It moves only when a test moves it."""

    __test__ = False

    def __init__(self) -> None:
        self.now = START

    def pass_time(self, seconds: float) -> None:
        """Let time pass for everybody."""
        self.now += timedelta(seconds=seconds)


class Stage(Protocol):
    """A kind of database."""

    async def clear(self) -> None:
        """Leave the schema and nothing in it."""

    async def open(self, clock: TestClock) -> "MovedDatabase":
        """One process's connections."""


@dataclass(slots=True)
class MovedDatabase:
    """A database with the test's clock. `set_time` before anything that asks for the time."""

    database: Database
    clock: TestClock
    engine: AsyncEngine | None = None

    async def set_time(self) -> None:
        """Give PostgreSQL the test's time; SQLite's store has it already."""
        if self.engine is not None:
            await _run(self.engine, _SET_CLOCK, self.clock.now)


class SqliteStage:
    """A file, copied from a template for each run."""

    def __init__(self, template: Path, folder: Path) -> None:
        self._template = template
        self._path = folder / "machine.db"

    async def clear(self) -> None:
        """A fresh copy."""
        for leftover in self._path.parent.glob("machine.db*"):
            leftover.unlink()
        shutil.copy(self._template, self._path)

    async def open(self, clock: TestClock) -> MovedDatabase:
        """An engine on the file. The machine itself does not fail here, so fsync is left out."""
        engine = sqlite_engine(parse(f"sqlite:///{self._path}"))

        @event.listens_for(engine, "connect")
        def _prepare(connection: sqlite3.Connection, _record: Any) -> None:
            connection.execute("PRAGMA synchronous = OFF").close()

        class Moved(SqliteDatabase):
            def now(self) -> datetime:
                """The test's time."""
                return clock.now

        return MovedDatabase(Moved(engine), clock)


_MOVED_CLOCK = """
CREATE SCHEMA moved;
CREATE TABLE moved.clock (moment timestamptz NOT NULL);
INSERT INTO moved.clock VALUES ('2000-01-01T00:00:00Z');
CREATE FUNCTION moved.now() RETURNS timestamptz LANGUAGE sql STABLE
    AS 'SELECT moment FROM moved.clock';
"""
_SET_CLOCK = "UPDATE moved.clock SET moment = $1"
_TABLES = "orders, charges, refunds, journal, notifications, events"


class PostgresStage:
    """A database of a real server, emptied for each run."""

    def __init__(self, server: PostgresServer, url: str) -> None:
        name = url.rsplit("/", 1)[-1]
        self._url = parse(url)
        server.sql(_MOVED_CLOCK, name)
        server.sql(f"ALTER DATABASE {name} SET search_path = moved, public, pg_catalog")

    async def clear(self) -> None:
        """Empty all tables."""
        engine = postgres_engine(self._url)
        await _run(engine, f"TRUNCATE {_TABLES}")
        await _run(engine, _SET_CLOCK, START)
        await engine.dispose()

    async def open(self, clock: TestClock) -> MovedDatabase:
        """A pool of its own."""
        engine = postgres_engine(self._url)
        return MovedDatabase(PostgresDatabase(engine), clock, engine)


async def _run(engine: AsyncEngine, statement: str, *parameters: object) -> None:
    async with engine.connect() as connection:
        await connection.exec_driver_sql(statement, parameters)
