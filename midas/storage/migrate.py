"""The schema's version: bringing a database up to this Midas, and refusing one that is not.

SQLite is brought up when it is opened. PostgreSQL is brought up by `midas migrate`, since several
replicas of different versions may be running on it.
"""

from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, create_engine, event, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from midas.errors import SettingsError
from midas.storage.engine import BUSY_TIMEOUT, CONNECT_TIMEOUT, check_file, is_sqlite, parse
from midas.storage.unreachable import unreachable

SCHEMA = "0004"
"""The revision that this Midas reads and writes: the newest file in `migrations/versions`."""

NO_SCHEMA = ""
"""What an empty database has instead of a revision."""

MIGRATION_LOCK = 6_011_000_001
"""Of PostgreSQL's advisory locks, the one that has one migration run at a time."""

_MIGRATIONS = Path(__file__).parent / "migrations"


async def migrate(url: str) -> tuple[str, str]:
    """Bring a database to this Midas's schema; returns the revisions before and after.

    All or nothing, and safe to run by several at once. Raises SettingsError if the database cannot
    be reached or is newer than this Midas.
    """
    parsed = parse(url)
    return migrate_sqlite(parsed) if is_sqlite(parsed) else await _migrate_postgres(parsed)


def migrate_sqlite(url: URL) -> tuple[str, str]:
    """`migrate` for SQLite; blocks."""
    check_file(url)
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
            return _upgrade(connection)
    except SQLAlchemyError as error:
        raise SettingsError(f"DATABASE_URL: the schema cannot be written ({error}).") from error


async def _migrate_postgres(url: URL) -> tuple[str, str]:
    engine = create_async_engine(
        url, poolclass=NullPool, connect_args={"timeout": CONNECT_TIMEOUT.total_seconds()}
    )
    try:
        async with engine.begin() as connection:
            await connection.execute(
                text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK}
            )
            return await connection.run_sync(_upgrade)
    except (SQLAlchemyError, OSError, TimeoutError, TypeError, ValueError) as error:
        raise SettingsError(unreachable(error)) from error
    finally:
        await engine.dispose()


def _upgrade(connection: Connection) -> tuple[str, str]:
    before = revision(connection)
    if before == SCHEMA:
        return before, before
    if before > SCHEMA:
        raise SettingsError(refusal(before))
    # Alembic costs half a second to import, and is needed for a change of the schema alone.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    return before, revision(connection)


def revision(connection: Connection) -> str:
    """The schema's revision, NO_SCHEMA if there is none."""
    if not connection.dialect.has_table(connection, "alembic_version"):
        return NO_SCHEMA
    return str(connection.execute(text(REVISION)).scalar() or NO_SCHEMA)


REVISION = "SELECT version_num FROM alembic_version"


def refusal(found: str) -> str:
    """Why a database of this revision is not opened, and what to do."""
    if found > SCHEMA:
        return (
            f"This Midas is older than its database (schema {found}, known up to {SCHEMA}):"
            " deploy the newer version."
        )
    return (
        f"The database has schema {found or 'none'} and this Midas needs {SCHEMA}:"
        " run `midas migrate`."
    )
