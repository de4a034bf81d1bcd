"""Brings a database up to this Midas's schema (`migrations/env.py` has the migrations' rules).

SQLite is brought up when it is opened. PostgreSQL is brought up by `midas migrate`, since several
replicas of different versions may be running on it.
"""

import asyncio
import glob
import logging
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, create_engine, event, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from midas.errors import SettingsError
from midas.storage.backup import back_up
from midas.storage.engine import (
    BUSY_TIMEOUT,
    CONNECT_TIMEOUT,
    check_file,
    close_to_others,
    is_sqlite,
    parse,
)
from midas.storage.schema import DatabaseSchema, schema_of
from midas.storage.unreachable import unreachable

MIGRATION_LOCK = 6_011_000_001
"""The number of the advisory lock that lets one migration run at a time on PostgreSQL."""
TURN_PAUSE_S = 0.5
"""How often a migration looks whether the one before it is over."""
LOCK_TIMEOUT = "1s"
"""How long a migration waits for a lock on a table. Everybody who comes later waits behind it."""
LOCK_ATTEMPTS = 60
LOCK_PAUSE_S = 2.0
"""The longest pause between two attempts: those who waited behind the first one get their turn."""

_MIGRATIONS = Path(__file__).parent / "migrations"
_log = logging.getLogger(__name__)

LogEvent = Callable[[str, Mapping[str, str | int]], None]
"""Takes an event of the migration, as for a line of the log: its name and its fields."""


def _to_log(name: str, fields: Mapping[str, str | int]) -> None:
    _log.info(name, extra=dict(fields))


async def migrate(url: str, log_event: LogEvent = _to_log) -> tuple[str, str]:
    """Bring a database to this Midas's schema; returns the revisions before and after.

    A newer database on which this Midas may work stays as it is. Several processes may run this
    at once. Each migration is done as a whole or not at all; on SQLite so are all of them
    together, and the file is copied before, if it has any rows. Raises SettingsError if the
    database cannot be reached or written, or if another session holds it locked, and SchemaRefused
    if it is too new. Migrations that were done before the error stay; the next run goes on there.
    """
    parsed = parse(url)
    if is_sqlite(parsed):
        return migrate_sqlite(parsed, log_event)
    return await _migrate_postgres(parsed, log_event)


def migrate_sqlite(url: URL, log_event: LogEvent = _to_log) -> tuple[str, str]:
    """`migrate` for SQLite; blocks."""
    check_file(url)
    if close_to_others(url):
        log_event("database_closed_to_others", {})
    engine = create_engine(
        url, poolclass=NullPool, connect_args={"timeout": BUSY_TIMEOUT.total_seconds()}
    )

    @event.listens_for(engine, "connect")
    def _no_hidden_transactions(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode = WAL").close()

    @event.listens_for(engine, "begin")
    def _lock_first(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    try:
        with engine.begin() as connection:
            found = schema_of(connection)
            if _is_older(found):
                _upgrade_sqlite(connection, Path(url.database or ""), found.revision, log_event)
            return _done(found, schema_of(connection), log_event)
    except SQLAlchemyError as error:
        raise SettingsError(f"DATABASE_URL: the schema cannot be written ({error}).") from error


def check_sqlite(url: URL) -> None:
    """Raise the SettingsError that `migrate_sqlite` would; blocks, and changes nothing."""
    check_file(url, make=False)
    if not Path(url.database or "").exists():
        return
    engine = create_engine(url, poolclass=NullPool)
    try:
        with engine.connect() as connection:
            _is_older(schema_of(connection))
    except SQLAlchemyError as error:
        raise SettingsError(f"DATABASE_URL: the schema cannot be read ({error}).") from error


def _upgrade_sqlite(connection: Connection, path: Path, revision: str, log_event: LogEvent) -> None:
    backup = back_up(path, revision)
    try:
        _upgrade(connection)
    except Exception:
        # The file is as it was. A process that is started again and again must not fill the disk.
        if backup is not None:
            backup.unlink()
        raise
    if backup is not None:
        log_event("database_backed_up", {"file": backup.name})


async def _migrate_postgres(url: URL, log_event: LogEvent) -> tuple[str, str]:
    engine = create_async_engine(
        url, poolclass=NullPool, connect_args={"timeout": CONNECT_TIMEOUT.total_seconds()}
    )
    try:
        async with engine.connect() as connection:
            await _take_turn(connection, log_event)
            await connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
            found = await connection.run_sync(schema_of)
            await connection.commit()
            if _is_older(found):
                await _upgrade_patiently(connection, log_event)
            return _done(found, await connection.run_sync(schema_of), log_event)
    except (SQLAlchemyError, OSError, TimeoutError, TypeError, ValueError) as error:
        raise SettingsError(unreachable(error, url)) from error
    finally:
        await engine.dispose()


async def _take_turn(connection: AsyncConnection, log_event: LogEvent) -> None:
    """Wait until no other migration runs. The connection keeps the turn until it is closed.

    It does not wait for the lock inside PostgreSQL: an index that the other migration builds waits
    for every older transaction, and so would wait for this one.
    """
    waiting = False
    lock = text("SELECT pg_try_advisory_lock(:lock)")
    while not (await connection.execute(lock, {"lock": MIGRATION_LOCK})).scalar():
        await connection.rollback()
        if not waiting:
            log_event("migration_waits_for_another", {})
        waiting = True
        await asyncio.sleep(TURN_PAUSE_S)
    await connection.commit()


async def _upgrade_patiently(connection: AsyncConnection, log_event: LogEvent) -> None:
    """Run the migrations, again and again while somebody holds a lock that one of them needs."""
    for attempt in range(1, LOCK_ATTEMPTS + 1):
        try:
            await connection.run_sync(_upgrade)
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) not in _LOCKED:
                raise
            await connection.rollback()
            log_event("migration_waits_for_lock", {"attempt": attempt})
        else:
            return
        await asyncio.sleep(LOCK_PAUSE_S * random.uniform(0.5, 1.0))  # noqa: S311
    raise SettingsError(
        "A long transaction of another session holds a lock on Midas's tables. End it (see"
        " pg_stat_activity), then run `midas migrate` again."
    )


_LOCKED = frozenset({"55P03", "40P01"})
"""The SQLSTATEs lock_not_available and deadlock_detected."""


def _is_older(found: DatabaseSchema) -> bool:
    """Whether migrations are to be run.

    Raises SchemaRefused for a schema that is too new, SettingsError for one that no Midas has made.
    """
    if found.fits:
        return False
    if found.is_newer:
        raise found.refusal()
    if found.revision and not any(_MIGRATIONS.glob(f"versions/{glob.escape(found.revision)}_*.py")):
        raise SettingsError(_NOT_OURS)
    return True


_NOT_OURS = (
    "The database's schema is none that any Midas has made: name another database in DATABASE_URL."
)


def _done(before: DatabaseSchema, after: DatabaseSchema, log_event: LogEvent) -> tuple[str, str]:
    if after != before:
        log_event("schema_migrated", {"schema": after.revision, "schema_before": before.revision})
    return before.revision, after.revision


def _upgrade(connection: Connection) -> None:
    # Alembic costs half a second to import, and is needed for a change of the schema alone.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise SettingsError(_NOT_OURS) from error
