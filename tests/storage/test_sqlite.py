"""SQLite under the faults that can be made on purpose (reliability.md F10, D4 to D6)."""

import asyncio
import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest

from midas.errors import StorageUnavailable
from midas.payment import Order
from midas.storage import engine as engine_module
from midas.storage import open_store
from midas.storage.store import SqlStore
from tests.records import NOON, intent, touched
from tests.storage.faulty import SHORT, database_at


@pytest.fixture
def quick_to_give_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite waits for a lock only briefly, so that a test gets to what comes after."""
    pragmas = [each for each in engine_module._PRAGMAS if not each.startswith("busy_timeout")]
    monkeypatch.setattr(engine_module, "_PRAGMAS", (*pragmas, "busy_timeout = 20"))


@pytest.mark.usefixtures("quick_to_give_up")
async def test_a_lock_of_another_process_is_waited_for(sqlite_path: Path) -> None:
    """A commit that waits for a lock is written as soon as the lock is gone."""
    async with SqlStore(database_at(f"sqlite:///{sqlite_path}")) as store:
        other = sqlite3.connect(sqlite_path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        committing = asyncio.create_task(store.commit(intent("o1")))
        assert not (await asyncio.wait({committing}, timeout=0.1))[0]
        assert await store.load("o1") == Order("o1")
        other.execute("COMMIT")
        other.close()
        assert await committing is True
        assert (await store.load("o1")).version == 1


@pytest.mark.usefixtures("quick_to_give_up")
async def test_a_lock_that_stays_is_reported(sqlite_path: Path) -> None:
    """When the patience is over, the caller learns that nothing was written, and nothing was."""
    async with SqlStore(database_at(f"sqlite:///{sqlite_path}"), SHORT) as store:
        other = sqlite3.connect(sqlite_path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageUnavailable):
            await store.commit(intent("o1"))
        other.execute("ROLLBACK")
        other.close()
        assert await store.load("o1") == Order("o1")
        assert await store.commit(intent("o1"))


@pytest.mark.parametrize("pragma", ["max_page_count = 5", "query_only = ON"])
async def test_a_full_or_read_only_disk_is_reported(sqlite_path: Path, pragma: str) -> None:
    """Nothing was written, and this is certain; the order can still be read."""
    url = f"sqlite:///{sqlite_path}"
    async with await open_store(url) as store:
        assert await store.commit(intent("o1"))
    async with SqlStore(database_at(url, pragma), SHORT) as store:
        order = await store.load("o1")
        assert order.version == 1
        with pytest.raises(StorageUnavailable) as raised:
            await store.commit(touched(order, answer="x" * 200_000))
        assert raised.value.may_have_written is False
        assert await store.load("o1") == order


async def test_every_commit_is_flushed_to_the_disk(sqlite_path: Path) -> None:
    """The connections write ahead and flush at each commit; foreign keys are checked."""
    database = database_at(f"sqlite:///{sqlite_path}")
    answers = [
        (await database.fetch(f"PRAGMA {name}"))[0][0]
        for name in ("journal_mode", "synchronous", "foreign_keys")
    ]
    await database.close()
    assert answers == ["wal", 2, 1]


async def test_two_processes_share_a_file(sqlite_url: str) -> None:
    """Two stores on one file lose no update."""
    async with await open_store(sqlite_url) as one, await open_store(sqlite_url) as two:
        assert await one.commit(intent("o1"))

        async def add_ten(store: SqlStore) -> None:
            done = 0
            while done < 10:
                order = await store.load("o1")
                done += await store.commit(touched(order, looks=order.charges[0].looks + 1))

        await asyncio.gather(add_ten(one), add_ten(two), add_ten(one), add_ten(two))
        assert (await one.load("o1")).charges[0].looks == 40


async def test_moments_sort_as_text(sqlite_path: Path) -> None:
    """A moment is UTC text of one length, whose order is that of time."""
    url = f"sqlite:///{sqlite_path}"
    moments = [NOON.replace(microsecond=0), NOON, NOON + timedelta(seconds=1)]
    async with await open_store(url) as store:
        for n, moment in enumerate(moments):
            assert await store.commit(intent(f"o{n}", created_at=moment))
    with sqlite3.connect(sqlite_path) as connection:
        rows = connection.execute("SELECT created_at FROM charges ORDER BY order_no").fetchall()
    connection.close()
    texts = [row[0] for row in rows]
    assert texts[0] == "2030-05-01 12:00:00.000000+00:00"
    assert texts == sorted(texts)
