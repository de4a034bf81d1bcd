"""After a lost answer Midas searches for the commit; it is written once (reliability.md F5, D2)."""

import asyncio
import random
import sqlite3

import pytest
from sqlalchemy.exc import DBAPIError

from midas import limits
from midas.errors import Overloaded, StorageUnavailable
from midas.payment import Order
from midas.ports import KeyTaken
from midas.storage import open_store
from midas.storage.faults import InDoubt, NotWritten
from tests.patience import PATIENCE_S
from tests.records import intent, touched
from tests.storage.faulty import SHORT, scripted_store

LOST = InDoubt("the connection is gone")


@pytest.mark.parametrize(
    "script",
    [
        [LOST],
        [("after", LOST)],
        [("late", LOST)],
        [NotWritten("locked"), NotWritten("locked")],
        [LOST, ("after", LOST)],
        [("late", LOST), LOST, NotWritten("starting")],
    ],
    ids=["before", "after", "late", "locked", "before-after", "late-before-locked"],
)
async def test_a_lost_commit_is_written_once(database_url: str, script: list[object]) -> None:
    """Wherever the answer was lost, the change is on disk once and answered True."""
    store, _ = scripted_store(database_url, *script)
    async with store:
        changes = [intent(f"o{n}") for n in range(5)]
        assert await asyncio.gather(*map(store.commit, changes)) == [True] * 5
        for change in changes:
            order = await store.load(change.order_no)
            assert (order.version, order.charges) == (1, change.new_charges)
            assert len(await store.journal(change.order_no)) == 1


async def test_a_drivers_error_is_logged_by_its_name(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its text may quote a user, a table or a value (I15)."""
    lost = InDoubt("permission denied for user midas_rw")
    wrapped = DBAPIError("UPDATE midas_rw", {}, ConnectionResetError("midas_rw"))
    lost.__cause__ = wrapped
    store, _ = scripted_store(database_url, lost)
    async with store:
        assert await store.commit(intent("o1"))
    (line,) = [each for each in caplog.records if each.message == "commit_tried_again"]
    assert (line.reason, line.doubt) == ("ConnectionResetError", True)  # type: ignore[attr-defined]
    assert "midas_rw" not in caplog.text


async def test_sqlites_error_is_logged_by_its_own_name(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """All errors of SQLite are OperationalErrors in Python: the code's name distinguishes them."""
    busy = NotWritten("database is locked")
    locked = sqlite3.OperationalError("database is locked")
    locked.sqlite_errorname = "SQLITE_BUSY"
    busy.__cause__ = DBAPIError("BEGIN IMMEDIATE", {}, locked)
    store, _ = scripted_store(sqlite_url, busy)
    async with store:
        assert await store.commit(intent("o1"))
    (line,) = [vars(each) for each in caplog.records if each.message == "commit_tried_again"]
    assert (line["reason"], line["doubt"]) == ("SQLITE_BUSY", False)


async def test_a_lost_commit_that_another_one_followed_is_found(database_url: str) -> None:
    """The change is known by its journal entry after the order has moved on."""
    store, database = scripted_store(database_url, ("after", LOST))
    async with store, await open_store(database_url) as other:
        database.fetch_fails = NotWritten("not yet")
        committing = asyncio.create_task(store.commit(intent("o1")))
        while (await other.load("o1")).version == 0:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert await other.commit(touched(await other.load("o1"), looks=1))
        database.fetch_fails = None
        assert await committing is True
        assert (await store.load("o1")).version == 2


async def test_a_lost_commit_is_not_taken_for_that_of_a_rival(database_url: str) -> None:
    """When somebody else wrote the version meanwhile, the answer is False."""
    store, _ = scripted_store(database_url, LOST)
    async with store, await open_store(database_url) as other:
        order_there = intent("o1")
        assert await other.commit(order_there)
        assert await store.commit(intent("o1")) is False
        assert (await store.load("o1")).charges == order_there.new_charges


@pytest.mark.parametrize(
    ("script", "looks", "writes"),
    [
        ([], 0, 1),
        ([NotWritten("locked")], 0, 2),
        ([LOST], 1, 2),
        ([("after", LOST)], 1, 1),
        ([("late", LOST)], 2, 2),
    ],
    ids=["written", "locked", "before", "after", "late"],
)
async def test_only_what_is_in_doubt_is_looked_for(
    sqlite_url: str, script: list[object], looks: int, writes: int
) -> None:
    """Before it is written again, and after that if it lost: perhaps to its own first attempt.

    A change that is found is not written again.
    """
    store, database = scripted_store(sqlite_url, *script)
    async with store:
        assert await store.commit(intent("o1")) is True
        assert (database.reads, database.writes) == (looks * READS_OF_A_LOOK, writes)
        assert await store.commit(intent("o1")) is False
        assert database.reads == looks * READS_OF_A_LOOK


READS_OF_A_LOOK = 2
"""The orders, and the journal."""


async def test_doubt_and_a_refused_row_in_one_batch(database_url: str) -> None:
    """A batch on disk is answered True row by row, though its repetition finds a key taken."""
    store, _ = scripted_store(database_url, LOST)
    async with store:
        assert await store.commit(intent("owner", charge_id="ch_1"))
        changes = [intent(f"o{n}") for n in range(6)]
        changes[3] = intent("o3", charge_id="ch_1")
        answers = await asyncio.gather(*map(store.commit, changes), return_exceptions=True)
        assert isinstance(answers.pop(3), KeyTaken)
        assert answers == [True] * 5


@pytest.mark.parametrize(("error", "may"), [(NotWritten("full"), False), (LOST, True)])
async def test_patience_ends(sqlite_url: str, error: Exception, may: bool) -> None:
    """A database that stays away is reported in time, and so is whether the change may be there."""
    store, database = scripted_store(sqlite_url, *[error] * 1000, patience=SHORT)
    database.fetch_fails = error
    async with store:
        async with asyncio.timeout(PATIENCE_S):
            answers = await asyncio.gather(
                *(store.commit(intent(f"o{n % 7}")) for n in range(20)), return_exceptions=True
            )
        assert {type(each) for each in answers} == {StorageUnavailable}
        first = answers[0]
        assert isinstance(first, StorageUnavailable)
        assert first.may_have_written is may
        with pytest.raises(StorageUnavailable):
            await store.load("o1")


async def test_a_change_in_doubt_that_is_found_at_the_end_is_answered(sqlite_url: str) -> None:
    """When the patience ends and the change is on disk, the answer is True after all."""
    store, _ = scripted_store(sqlite_url, ("after", LOST), patience=SHORT)
    async with store:
        assert await store.commit(intent("o1"))


async def test_too_many_waiting_writes_are_refused(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the bound a write is refused at once, and nothing of it is written."""
    monkeypatch.setattr(limits, "STORE_WAITING", 3)
    store, _ = scripted_store(sqlite_url)
    async with store:
        answers = await asyncio.gather(
            *(store.commit(intent(f"o{n}")) for n in range(5)), return_exceptions=True
        )
        assert answers[:3] == [True] * 3
        assert [type(each) for each in answers[3:]] == [Overloaded] * 2
        assert await store.load("o4") == Order("o4")


async def test_a_closed_store_writes_what_waits_and_no_more(sqlite_url: str) -> None:
    """Closing lets the commits finish that were asked for before it."""
    store, _ = scripted_store(sqlite_url)
    waiting = [asyncio.create_task(store.commit(intent(f"o{n}"))) for n in range(5)]
    await asyncio.sleep(0)
    await store.close()
    assert await asyncio.gather(*waiting) == [True] * 5
    with pytest.raises(StorageUnavailable):
        await store.commit(intent("o9"))


async def test_no_batch_is_beyond_its_bound(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is above it goes with the next ones."""
    monkeypatch.setattr(limits, "BATCH_CHANGES", 3)
    store, database = scripted_store(sqlite_url)
    async with store:
        assert (
            await asyncio.gather(*(store.commit(intent(f"o{n}")) for n in range(7))) == [True] * 7
        )
        assert database.writes == 3


async def test_what_nobody_waits_for_before_its_batch_is_not_written(sqlite_url: str) -> None:
    """Its caller went away first; the change that waits beside it is written."""
    store, database = scripted_store(sqlite_url)
    async with store:
        gone, stays = (asyncio.create_task(store.commit(intent(key))) for key in ("o1", "o2"))
        await asyncio.sleep(0)
        gone.cancel()
        assert await stays is True
        assert (await store.load("o1")).version == 0
        assert database.writes == 1


async def test_cancelled_callers_lose_and_double_nothing(database_url: str) -> None:
    """400 writers, many of them cancelled: what was answered True is there, and nothing twice."""
    seed = 7
    chance = random.Random(seed)
    async with await open_store(database_url) as store:
        changes = [intent(f"o{n % 200}") for n in range(400)]
        tasks = [asyncio.create_task(store.commit(change)) for change in changes]
        victims = chance.sample(range(400), 150)
        for victim in victims:
            for _ in range(chance.randrange(3)):
                await asyncio.sleep(0)
            if chance.random() < 0.3:
                await asyncio.wait({tasks[0]}, timeout=0.002)
            tasks[victim].cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        for n in range(200):
            order = await store.load(f"o{n}")
            assert len(order.charges) == order.version <= 1
            winners = [k for k in (n, n + 200) if answers[k] is True]
            assert len(winners) <= 1
            if winners:
                assert order.charges == changes[winners[0]].new_charges
            elif order.version:
                on_disk = [k for k in (n, n + 200) if order.charges == changes[k].new_charges]
                assert isinstance(answers[on_disk[0]], asyncio.CancelledError)
            else:
                both = (answers[n], answers[n + 200])
                assert all(isinstance(each, asyncio.CancelledError) for each in both)
