"""Opening a database: the schema, and a sentence for everything that is not as it must be."""

import asyncio
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine
from sqlalchemy.ext.asyncio import create_async_engine

from midas.charge import Charge
from midas.errors import SchemaRefused, SettingsError
from midas.event import EventRecord
from midas.payment import Notification
from midas.refund import Refund
from midas.storage import check_store, migrate, open_store, rows, tables
from midas.storage.schema import SCHEMA
from tests.postgres import PostgresServer
from tests.storage.faulty import database_at


def test_columns_are_the_fields_of_the_records() -> None:
    """Rows become records by position, so the order of columns is that of fields."""
    for part, record in (
        (rows.NEW_CHARGES, Charge),
        (rows.NEW_REFUNDS, Refund),
        (rows.NOTIFICATIONS, Notification),
        (rows.NEW_EVENTS, EventRecord),
    ):
        assert list(part.columns) == [each.name for each in fields(record)]


def test_the_newest_migration_is_the_schema_that_is_expected() -> None:
    """A migration that is added moves SCHEMA with it."""
    assert _migrations().get_heads() == [SCHEMA]


def _migrations() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", "midas:storage/migrations")
    return ScriptDirectory.from_config(config)


_SQLITE_SCHEMA = "SELECT sql FROM sqlite_master WHERE tbl_name <> 'alembic_version' AND sql <> ''"
_POSTGRES_SCHEMA = """
SELECT pg_get_indexdef(indexrelid) FROM pg_index JOIN pg_class c ON c.oid = indrelid
WHERE relnamespace = 'public'::regnamespace AND c.relname <> 'alembic_version'
UNION ALL
SELECT conrelid::regclass || conname || pg_get_constraintdef(oid) FROM pg_constraint
WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text <> 'alembic_version'
UNION ALL
SELECT concat_ws(' ', table_name, column_name, data_type, character_maximum_length, is_nullable,
    ordinal_position)
FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'alembic_version'
"""


def _differences(connection: Connection) -> list[Any]:
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    return list(compare_metadata(context, tables.metadata))


def _schema(connection: Connection, query: str) -> list[str]:
    """Every definition, without regard to the order of clauses and white space."""
    rows = connection.exec_driver_sql(query)
    return sorted(" ".join(sorted(row[0].replace(",", " ").split())) for row in rows)


def test_migrations_make_the_tables_on_sqlite(sqlite_path: Path) -> None:
    """The schema of the migrations is that of tables.py, with every check and partial index."""
    migrated, created = create_engine(f"sqlite:///{sqlite_path}"), create_engine("sqlite://")
    with migrated.connect() as one, created.connect() as two:
        assert _differences(one) == []
        tables.metadata.create_all(two)
        assert _schema(one, _SQLITE_SCHEMA) == _schema(two, _SQLITE_SCHEMA)
    migrated.dispose()
    created.dispose()


async def test_migrations_make_the_tables_on_postgres(
    postgres_url: str, blank_postgres_url: str
) -> None:
    """The same, on PostgreSQL."""
    schemas = []
    for url in (postgres_url, blank_postgres_url):
        engine = create_async_engine(url.replace("://", "+asyncpg://"))
        async with engine.begin() as connection:
            if url is blank_postgres_url:
                await connection.run_sync(tables.metadata.create_all)
            assert await connection.run_sync(_differences) == []
            schemas.append(await connection.run_sync(_schema, _POSTGRES_SCHEMA))
        await engine.dispose()
    assert schemas[0] == schemas[1]


async def test_the_schema_states_the_oldest_code_that_may_use_it(database_url: str) -> None:
    """The database has the `oldest` of the newest migration."""
    newest = _migrations().get_revision(SCHEMA)
    database = database_at(database_url)
    rows = await database.fetch("SELECT oldest FROM schema_compatibility")
    await database.close()
    assert [row[0] for row in rows] == [newest.module.oldest]


async def test_migrations_at_once_run_once(blank_postgres_url: str) -> None:
    """Several `midas migrate` at the same time: one does it, and all find it done."""
    done = await asyncio.gather(*(migrate(blank_postgres_url) for _ in range(4)))
    assert sorted(done) == [("", SCHEMA), *[(SCHEMA, SCHEMA)] * 3]


async def test_postgres_is_not_migrated_by_opening_it(blank_postgres_url: str) -> None:
    """An old schema is refused with the command to run."""
    with pytest.raises(SettingsError, match="run `midas migrate`"):
        await check_store(blank_postgres_url)
    with pytest.raises(SettingsError, match="run `midas migrate`"):
        await open_store(blank_postgres_url)
    assert await migrate(blank_postgres_url) == ("", SCHEMA)
    await (await open_store(blank_postgres_url)).close()


OLDEST = "UPDATE schema_compatibility SET oldest = '{}'"
VERSION = "UPDATE alembic_version SET version_num = '{}'"


async def test_a_newer_schema_is_served_or_refused_by_its_oldest(
    postgres: PostgresServer, postgres_url: str, sqlite_path: Path
) -> None:
    """A Midas that is new enough opens it and changes nothing; an older one does not open it.

    Readiness names the schema then.
    """

    def write(url: str, statement: str) -> None:
        if url is postgres_url:
            postgres.sql(statement, url.rpartition("/")[2])
            return
        with closing(sqlite3.connect(sqlite_path)) as connection, connection:
            connection.execute(statement)

    for url in (postgres_url, f"sqlite:///{sqlite_path}"):
        write(url, VERSION.format("9999"))
        write(url, OLDEST.format(SCHEMA))
        assert await migrate(url) == ("9999", "9999")
        async with await open_store(url) as store:
            await store.check()
            write(url, OLDEST.format("9998"))
            with pytest.raises(SchemaRefused) as raised:
                await store.check()
        refused = raised.value
        assert (refused.found, refused.oldest, refused.known) == ("9999", "9998", SCHEMA)
        for use in (open_store, migrate, check_store):
            with pytest.raises(SettingsError, match="deploy the newer version"):
                await use(url)


async def test_a_schema_that_no_midas_has_made_is_a_sentence(sqlite_path: Path) -> None:
    """Alembic knows no way from there."""
    with closing(sqlite3.connect(sqlite_path)) as connection, connection:
        connection.execute(VERSION.format("0000"))
    for use in (open_store, migrate, check_store):
        with pytest.raises(SettingsError, match="none that any Midas has made"):
            await use(f"sqlite:///{sqlite_path}")


async def test_sqlite_is_migrated_by_opening_it(tmp_path: Path) -> None:
    """A file that is not there yet is made, by either spelling of the URL; reopening is fine."""
    for scheme in ("sqlite", "sqlite+aiosqlite"):
        async with await open_store(f"{scheme}:///{tmp_path}/new.db") as store:
            await store.check()


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("", "cannot be read"),
        ("nonsense", "cannot be read"),
        ("mysql://u:secret@h/d", "unknown scheme"),
        ("postgres://u:secret@h/d", "unknown scheme"),
        ("postgresql+psycopg2://u:secret@h/d", "unknown scheme"),
        ("postgresql://u:secret@h", "names no database"),
        ("postgresql://u:secret@h:port/d", "cannot be read"),
        ("postgresql://u:secret@h:1/d?host=a&host=b", "cannot be read"),
        ("postgresql://u:secret@/d?host=a:1&host=secret", "cannot be read"),
        ("sqlite://", "names no SQLite file"),
        ("sqlite:///:memory:", "names no SQLite file"),
        ("sqlite:////nowhere/at/all/secret.db", "does not exist"),
        ("sqlite:///u:secret@h/d", "does not exist"),
        ("sqlite:////tmp/" + "secret" * 100, "names no file"),
        ("sqlite:////proc/midas.db", "for writing"),
        ("sqlite:////proc", "names a folder"),
        ("postgresql://u:secret@127.0.0.1:1/d", "cannot be reached"),
        ("postgresql://u:secret@127.0.0.1:1/d?sslmode=nonsense", "DATABASE_URL"),
        ("postgresql://u:secret@127.0.0.1:1/d?nonsense=1", "DATABASE_URL"),
        ("secret://u@h/d", "unknown scheme"),
    ],
)
async def test_the_error_of_a_wrong_url_names_what_to_do(url: str, sentence: str) -> None:
    """The sentence names the setting, and never the password."""
    for use in (open_store, migrate, check_store):
        with pytest.raises(SettingsError, match=sentence) as raised:
            await use(url)
        assert "DATABASE_URL" in str(raised.value)
        assert "secret" not in str(raised.value)


async def test_a_missing_database_is_named(postgres: PostgresServer) -> None:
    """A server that is there without the database is another sentence than one that is not."""
    for use in (open_store, migrate, check_store):
        with pytest.raises(SettingsError, match="database's name"):
            await use(postgres.url("missing"))


async def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    """Midas does not touch a file that is something else."""
    path = tmp_path / "notes.txt"
    path.write_text("dear diary " * 100)
    for use in (open_store, check_store):
        with pytest.raises(SettingsError, match="no SQLite database"):
            await use(f"sqlite:///{path}")
    assert path.read_text() == "dear diary " * 100


def modes(folder: Path) -> dict[str, str]:
    """The rights on each file."""
    return {path.name: oct(path.stat().st_mode & 0o777) for path in folder.iterdir()}


@pytest.fixture
def umask() -> Iterator[None]:
    """What most machines have."""
    before = os.umask(0o022)
    yield
    os.umask(before)


async def test_nobody_else_reads_a_new_sqlite_file(tmp_path: Path, umask: None) -> None:
    """Nor what SQLite keeps beside it while it is open."""
    async with await open_store(f"sqlite:///{tmp_path}/new.db") as store:
        await store.check()
        found = modes(tmp_path)
        assert {"new.db", "new.db-wal", "new.db-shm"} <= found.keys()
        assert set(found.values()) == {"0o600"}


async def test_a_file_that_everybody_could_read_is_closed_to_others(
    tmp_path: Path, umask: None
) -> None:
    """As Midas made it once, with its copies; a group keeps its rights. The change is logged."""
    path = tmp_path / "old.db"
    names = ("old.db", "old.db.schema-0003.x.backup", "other.db")
    for name in names:
        (tmp_path / name).touch(mode=0o666)
    logged: list[str] = []
    for _ in range(2):
        await migrate(f"sqlite:///{path}", lambda name, _: logged.append(name))
    assert logged == ["database_closed_to_others", "schema_migrated"]
    assert [modes(tmp_path)[name] for name in names] == ["0o640", "0o640", "0o644"]
