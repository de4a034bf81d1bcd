"""Migrations beside processes that go on working: locks, indexes, several at once (PostgreSQL)."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import pytest

from midas.errors import SettingsError
from midas.storage import migrate
from midas.storage.schema import SCHEMA
from tests.patience import PATIENCE_S
from tests.storage.newer import MIGRATING, Newer, Older, install
from tests.storage.waiting import until_waiting

COLUMN = 'op.add_column("charges", sa.Column("of_later", sa.Text(), nullable=True))'
INDEX = 'build_index("charges_of_later", "charges", ["subject"], where="amount > 100")'


class Stage:
    """A database with this Midas's schema, and a newer Midas that is about to migrate it."""

    def __init__(self, url: str, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.url = url
        self.newer = Newer(folder)
        self._patch = patch

    def add(self, upgrade: str) -> None:
        """Add a migration that does this."""
        self.newer.add(upgrade, oldest=SCHEMA)
        install(self.newer.folder, self._patch)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Any]:
        """A session of somebody else."""
        session = await asyncpg.connect(self.url)
        try:
            yield session
        finally:
            await session.close()

    async def sql(self, statement: str) -> list[Any]:
        """Rows of a statement in a session of its own, which must not wait for anybody."""
        async with self.session() as session:
            rows: list[Any] = await session.fetch(statement, timeout=PATIENCE_S)
            return rows

    async def index(self) -> list[bool]:
        """Whether the index is there, and whether it serves queries."""
        return list((await self.indexes("charges_of_later")).values())

    async def indexes(self, *names: str) -> dict[str, bool]:
        """Which of these indexes are there, and which of those serve queries."""
        rows = await self.sql(
            "SELECT relname, indisvalid FROM pg_index JOIN pg_class c ON c.oid = indexrelid"
        )
        return {name: is_valid for name, is_valid in rows if name in names}

    async def columns(self) -> int:
        """How many columns of the migrations are there."""
        rows = await self.sql("SELECT 1 FROM pg_attribute WHERE attname = 'of_later'")
        return len(rows)


@pytest.fixture
def stage(postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """See `Stage`."""
    return Stage(postgres_url, tmp_path, monkeypatch)


class MigrationLog:
    """The events that a migration logs; a test can wait for the next one."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.more = asyncio.Event()

    def __call__(self, name: str, fields: Mapping[str, str | int]) -> None:
        """Take one event."""
        self.names.append(name)
        self.more.set()

    async def another(self) -> None:
        """Wait until one more is logged."""
        self.more.clear()
        async with asyncio.timeout(PATIENCE_S):
            await self.more.wait()


async def test_nobody_waits_behind_a_migration_that_waits(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gives up after a moment, lets later ones go first, and tries again until it may."""
    monkeypatch.setattr(MIGRATING, "LOCK_TIMEOUT", "100ms")
    monkeypatch.setattr(MIGRATING, "LOCK_PAUSE_S", 0.1)
    stage.add(COLUMN)
    log = MigrationLog()
    async with stage.session() as reader:
        reading = reader.transaction()
        await reading.start()
        await reader.fetch("SELECT * FROM charges")
        migrating = asyncio.ensure_future(migrate(stage.url, log))
        await log.another()
        assert await stage.sql("SELECT * FROM charges") == []
        await log.another()
        await reading.commit()
    assert await migrating == (SCHEMA, stage.newer.revision)
    assert set(log.names) == {"migration_waits_for_lock", "schema_migrated"}
    assert await stage.columns() == 1


async def test_a_lock_that_is_never_given_back_is_a_sentence(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After many attempts the error names what to end; nothing of that migration is done."""
    monkeypatch.setattr(MIGRATING, "LOCK_TIMEOUT", "10ms")
    monkeypatch.setattr(MIGRATING, "LOCK_PAUSE_S", 0)
    monkeypatch.setattr(MIGRATING, "LOCK_ATTEMPTS", 3)
    stage.add('op.create_table("of_later", sa.Column("of_later", sa.Text()))\n' + COLUMN)
    async with stage.session() as reader:
        async with reader.transaction():
            await reader.fetch("SELECT * FROM charges")
            with pytest.raises(SettingsError, match="long transaction"):
                await migrate(stage.url)
        assert await stage.columns() == 0
    assert await migrate(stage.url) == (SCHEMA, stage.newer.revision)


async def test_an_index_is_built_beside_writers(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for a transaction that is older, however long; and nobody waits for it."""
    monkeypatch.setattr(MIGRATING, "LOCK_TIMEOUT", "10ms")
    stage.add(INDEX)
    log = MigrationLog()
    async with stage.session() as writer, writer.transaction():
        await writer.execute("DELETE FROM charges")
        migrating = asyncio.ensure_future(migrate(stage.url, log))
        await until_waiting(stage.url)
        await stage.sql("DELETE FROM charges")
        assert not migrating.done()
    assert await migrating == (SCHEMA, stage.newer.revision)
    assert log.names == ["schema_migrated"]
    assert await stage.index() == [True]


async def test_an_index_that_was_interrupted_is_made_anew(stage: Stage) -> None:
    """Killed on the way it leaves one behind that serves nobody; the next run replaces it."""
    stage.add(f"{INDEX}\n{COLUMN}")
    async with stage.session() as writer, writer.transaction():
        await writer.execute("DELETE FROM charges")
        migrating = asyncio.ensure_future(migrate(stage.url))
        session = await until_waiting(stage.url)
        await stage.sql(f"SELECT pg_terminate_backend({session})")
        with pytest.raises(SettingsError):
            await migrating
    assert await stage.index() == [False]
    assert await migrate(stage.url) == (SCHEMA, stage.newer.revision)
    assert (await stage.index(), await stage.columns()) == ([True], 1)


async def test_an_index_that_cannot_be_leaves_nothing_behind(stage: Stage) -> None:
    """An unfinished unique index would refuse rows already."""
    values = "SELECT repeat('o', n), 1, 0, 'c' FROM generate_series(1, 2) n"
    columns = "order_no, version, last_sequence, last_change"
    await stage.sql(f"INSERT INTO orders ({columns}) {values}")
    stage.add('build_index("charges_of_later", "orders", ["last_change"], unique=True)')
    with pytest.raises(SettingsError):
        await migrate(stage.url)
    assert await stage.index() == []
    await stage.sql("DELETE FROM orders WHERE order_no = 'o'")
    assert await migrate(stage.url) == (SCHEMA, stage.newer.revision)
    assert await stage.index() == [True]


async def test_an_index_comes_first_in_its_migration(stage: Stage) -> None:
    """Behind another step it would commit that step, and a rerun would do the step again."""
    stage.add(f"{COLUMN}\n{INDEX}")
    with pytest.raises(RuntimeError, match="comes first"):
        await migrate(stage.url)
    assert (await stage.index(), await stage.columns()) == ([], 0)


async def test_one_migrates_and_the_others_wait_outside_of_a_transaction(stage: Stage) -> None:
    """An index that is built waits for every transaction, and so would wait for theirs."""
    stage.add(INDEX)
    log = MigrationLog()
    async with stage.session() as writer, writer.transaction():
        await writer.execute("DELETE FROM charges")
        first = asyncio.ensure_future(migrate(stage.url))
        await until_waiting(stage.url)
        second = asyncio.ensure_future(migrate(stage.url, log))
        await log.another()
    newest = stage.newer.revision
    assert (await first, await second) == ((SCHEMA, newest), (newest, newest))
    assert log.names == ["migration_waits_for_another"]
    assert await stage.index() == [True]


async def test_migrations_that_are_done_stay_done(stage: Stage) -> None:
    """The second one fails: the first one stays, and the next run goes on behind it."""
    stage.add(COLUMN)
    first = stage.newer.revision
    broken = 'op.execute("SELECT 1 / count(*) FROM orders")'
    stage.add(broken)
    with pytest.raises(SettingsError):
        await migrate(stage.url)
    assert await stage.columns() == 1
    values = "VALUES ('o', 1, 0, 'c')"
    await stage.sql(f"INSERT INTO orders (order_no, version, last_sequence, last_change) {values}")
    assert await migrate(stage.url) == (first, stage.newer.revision)


async def test_0005_goes_on_where_it_was_interrupted(
    blank_postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first index is there and stays; the second one is made anew, and nobody waits for it."""
    stage = Stage(blank_postgres_url, tmp_path / "newer", monkeypatch)
    with monkeypatch.context() as older:
        install(Older(tmp_path / "older", "0004").folder, older)
        assert await migrate(stage.url) == ("", "0004")
    async with stage.session() as writer, writer.transaction():
        await writer.execute("DELETE FROM refunds")
        migrating = asyncio.ensure_future(migrate(stage.url))
        session = await until_waiting(stage.url)
        assert await stage.indexes("charges_due", "refunds_due") == {
            "charges_due": True,
            "refunds_due": False,
        }
        await stage.sql("DELETE FROM charges")
        await stage.sql("DELETE FROM refunds")
        await stage.sql(f"SELECT pg_terminate_backend({session})")
        with pytest.raises(SettingsError):
            await migrating
    assert await migrate(stage.url) == ("0004", SCHEMA)
    assert all((await stage.indexes("charges_due", "refunds_due")).values())
