"""A change that the database refuses for a reason of its own holds up nobody else.

A change with a report of Ping++ is retried by itself; an intent is answered at once. An alarm is
raised either way.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from midas import limits
from midas.errors import Overloaded, StorageUnavailable
from midas.payment import Change, Order
from midas.ports import KeyTaken
from midas.storage.commits import Commits
from midas.storage.database import Batch
from midas.storage.faults import InDoubt, StatementRefused
from midas.storage.store import SqlStore
from tests.postgres import PostgresServer
from tests.records import intent, paid, touched
from tests.storage.faulty import SHORT, Scripted, database_at
from tests.storage.test_table_writes import an_event

LONG = timedelta(minutes=5)
"""A patience that no test waits for."""


class Picky(Scripted):
    """A database that refuses every batch with a change of one of these orders in it."""

    def __init__(self, url: str, *refused: str) -> None:
        super().__init__(database_at(url))
        self.refused = set(refused)
        self.error: Callable[[], Exception] = lambda: StatementRefused("42P01")
        self.sent: list[list[str]] = []

    async def write(self, batch: Batch) -> set[str]:
        """Refuse or write."""
        orders = [version.order_no for version in batch.versions]
        self.sent.append(orders)
        if self.refused & set(orders):
            self.writing.set()
            raise self.error()
        return await super().write(batch)


def _alarms(caplog: pytest.LogCaptureFixture) -> list[str]:
    lines = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert {each.message for each in lines} <= {"commit_refused"}
    return [each.order_no for each in lines]  # type: ignore[attr-defined]


async def _stored(store: SqlStore, *orders: str) -> list[Order]:
    assert all(await asyncio.gather(*(store.commit(intent(each)) for each in orders)))
    return [await store.load(each) for each in orders]


async def test_a_refused_intent_is_answered_at_once(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing was written for certain; those beside it in the batch are written, with no delay."""
    database = Picky(database_url, "o3", "o11")
    async with SqlStore(database, LONG) as store:
        orders = [f"o{n}" for n in range(16)]
        answers = await asyncio.gather(
            *(store.commit(intent(each)) for each in orders), return_exceptions=True
        )
        for order_no, answer in zip(orders, answers, strict=True):
            if order_no in database.refused:
                assert isinstance(answer, StorageUnavailable)
                assert answer.may_have_written is False
            else:
                assert answer is True
    assert sorted(_alarms(caplog)) == ["o11", "o3"]
    assert len(database.sent) <= 2 * 2 * 4 + 1  # each is found in four steps


async def test_an_answer_that_is_refused_goes_on_by_itself(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Others commit meanwhile, again and again; it is written once the reason is gone."""
    database = Picky(database_url)
    async with SqlStore(database, LONG) as store:
        order, *_ = await _stored(store, "o1", "o2")
        database.refused = {"o1"}
        answer = asyncio.create_task(store.commit(paid(order)))
        await database.writing.wait()
        for n in range(5):
            beside = touched(await store.load("o2"), looks=n + 1)
            assert await asyncio.gather(store.commit(beside), store.commit(intent(f"n{n}")))
        assert not answer.done()
        assert _alarms(caplog) == ["o1"]
        database.refused = set()
        assert await answer is True
        assert len(await store.notifications("o1")) == 1
        assert await store.commit(touched(await store.load("o1"), looks=9))


async def test_changes_of_one_order_keep_their_order(database_url: str) -> None:
    """A change that comes after one that is being retried is sent after it."""
    database = Picky(database_url)
    async with SqlStore(database, LONG) as store:
        order, other = await _stored(store, "o1", "o2")
        database.refused = {"o1"}
        first = asyncio.create_task(store.commit(paid(order)))
        await database.writing.wait()
        second = asyncio.create_task(store.commit(touched(order, looks=5)))
        assert await store.commit(touched(other, looks=1))
        assert ["o2"] in database.sent, "the writer took the second one along"
        assert not second.done()
        database.refused = set()
        assert await first is True
        assert await second is False, "it was decided before the first"


@pytest.mark.parametrize("kind", ["paid", "event", "closing", "rescheduled", "restored"])
async def test_what_has_been_learnt_is_not_given_up(database_url: str, kind: str) -> None:
    """Every change that is not an intent alone is retried until the reason is gone."""
    database = Picky(database_url)
    async with SqlStore(database, LONG) as store:
        (order,) = await _stored(store, "o1")
        changes: dict[str, Change] = {
            "paid": paid(order),
            "event": replace(intent("o2"), new_events=(an_event("o2", 1),)),
            "closing": touched(order, answer="withdrawn"),
            "rescheduled": replace(touched(order, looks=1), journal=()),
            "restored": _restored("o2"),
        }
        change = changes[kind]
        database.refused = {change.order_no}
        committing = asyncio.create_task(store.commit(change))
        await database.writing.wait()
        assert await store.commit(intent("o3"))
        assert not committing.done()
        database.refused = set()
        assert await committing is True


def _restored(order_no: str) -> Change:
    """A row that a failover lost is written again."""
    change = intent(order_no)
    return replace(change, journal=(replace(change.journal[0], event="charge_restored"),))


@pytest.mark.parametrize(
    ("error", "may"),
    [(StatementRefused("42501"), False), (StatementRefused("XX002", in_doubt=True), True)],
    ids=["certain", "in doubt"],
)
async def test_its_patience_ends(database_url: str, error: Exception, may: bool) -> None:
    """A reason that stays ends in an error in time, which has whether the change may be on disk."""
    database = Picky(database_url)
    async with SqlStore(database, SHORT) as store:
        (order,) = await _stored(store, "o1")
        database.refused, database.error = {"o1"}, lambda: error
        with pytest.raises(StorageUnavailable) as raised:
            await store.commit(paid(order))
        assert raised.value.may_have_written is may


async def test_an_intent_in_doubt_is_not_answered_as_not_written(database_url: str) -> None:
    """It is retried like a report, and is found where its lost attempt has written it."""
    database = Picky(database_url)
    change = intent("o1")
    lost = [InDoubt("lost"), StatementRefused("42P01")]

    def fail() -> Exception:
        return lost.pop(0) if lost else StatementRefused("42P01")

    database.refused, database.error = {"o1"}, fail
    async with SqlStore(database, LONG) as store:
        committing = asyncio.create_task(store.commit(change))
        while lost:  # noqa: ASYNC110
            await asyncio.sleep(0)
        database.refused = set()
        assert await committing is True
        assert (await store.load("o1")).charges == change.new_charges


async def test_a_defect_of_ours_stops_nobody(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception that no database raises concerns only the change that raised it."""
    database = Picky(database_url, "o1")
    database.error = lambda: TypeError("secret")
    async with SqlStore(database, SHORT) as store:
        answers = await asyncio.gather(
            *(store.commit(intent(f"o{n}")) for n in range(3)), return_exceptions=True
        )
        defect = answers.pop(1)
        assert isinstance(defect, StorageUnavailable)
        assert defect.may_have_written, "nobody knows where it was raised"
        assert answers == [True, True]
        assert await store.commit(intent("o9"))
    assert _alarms(caplog) == ["o1"]
    assert "secret" not in caplog.text


async def test_a_key_that_was_taken_meanwhile_is_an_error(database_url: str) -> None:
    """A change that was retried is answered like any other in the end."""
    database = Picky(database_url)
    async with SqlStore(database, LONG) as store:
        order, other = await _stored(store, "o1", "o2")
        database.refused = {"o1"}
        aside = asyncio.create_task(store.commit(paid(order, "ch_1")))
        await database.writing.wait()
        assert await store.commit(paid(other, "ch_1"))
        database.refused = set()
        with pytest.raises(KeyTaken):
            await aside


async def test_those_aside_leave_connections_to_the_others(database_url: str) -> None:
    """However many there are, one of them asks the database at a time."""
    at_once, most = 0, 0

    class Counting(Picky):
        async def write(self, batch: Batch) -> set[str]:
            nonlocal at_once, most
            at_once += 1
            most = max(most, at_once)
            try:
                await asyncio.sleep(0)
                return await super().write(batch)
            finally:
                at_once -= 1

    database = Counting(database_url)
    async with SqlStore(database, LONG) as store:
        orders = await _stored(store, *(f"o{n}" for n in range(20)))
        database.refused = {each.order_no for each in orders}
        tasks = [asyncio.create_task(store.commit(paid(each))) for each in orders]
        while len(store._commits._retrying) < len(orders):  # noqa: ASYNC110
            await asyncio.sleep(0)
        for _ in range(100):
            await asyncio.sleep(0)
        database.refused = set()
        assert await asyncio.gather(*tasks) == [True] * len(orders)
    assert most <= 2, "the writer and one of those aside"


async def test_those_aside_count_as_waiting(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a reason that stays cannot gather changes without end."""
    database = Picky(sqlite_url)
    async with SqlStore(database, SHORT) as store:
        orders = await _stored(store, "o1", "o2")
        database.refused = {"o1", "o2"}
        tasks = [asyncio.create_task(store.commit(paid(each))) for each in orders]
        while len(store._commits._retrying) < len(orders):  # noqa: ASYNC110
            await asyncio.sleep(0)
        monkeypatch.setattr(limits, "STORE_WAITING", 2)
        with pytest.raises(Overloaded):
            await store.commit(intent("o3"))
        await asyncio.gather(*tasks, return_exceptions=True)
        assert await store.commit(intent("o3"))


async def test_closing_waits_for_those_aside(database_url: str) -> None:
    """What was committed before it is written or answered, also what stands behind one aside."""
    database = Picky(database_url)
    commits = Commits(database, LONG)
    store = SqlStore(database)
    (order,) = await _stored(store, "o1")
    database.refused = {"o1"}
    tasks: Sequence[asyncio.Task[Any]] = [
        asyncio.create_task(commits.commit(each)) for each in (paid(order), touched(order, looks=1))
    ]
    await database.writing.wait()
    closing = asyncio.create_task(commits.close())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not closing.done()
    database.refused = set()
    await closing
    assert [task.result() for task in tasks] == [True, False]
    await store.close()


async def test_rights_that_are_under_way(
    postgres: PostgresServer, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Real 42501: what needs the table waits for the right to it, everybody else goes on."""
    name = postgres_url.rpartition("/")[2]
    role = f"role_{name}"
    postgres.sql(f"CREATE ROLE {role} LOGIN")
    postgres.sql(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}", name)
    postgres.sql(f"REVOKE ALL ON notifications FROM {role}", name)
    async with SqlStore(database_at(postgres_url.replace("postgres@", f"{role}@")), LONG) as store:
        order, other = await _stored(store, "o1", "o2")
        payment = asyncio.create_task(store.commit(paid(order)))
        while not store._commits._retrying:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert await store.commit(touched(other, looks=1))
        assert _alarms(caplog) == ["o1"]
        assert caplog.records[-1].reason == "InsufficientPrivilegeError"  # type: ignore[attr-defined]
        postgres.sql(f"GRANT ALL ON notifications TO {role}", name)
        assert await payment is True
    postgres.sql(f"DROP OWNED BY {role}", name)
    postgres.sql(f"DROP ROLE {role}")


async def test_a_table_that_a_migration_has_not_made_yet(
    database_url: str, postgres: PostgresServer, tmp_path: Any
) -> None:
    """Real 42P01, and SQLite's "no such table": the same."""
    database = database_at(database_url)

    async def rename(before: str, after: str) -> None:
        statement = f"ALTER TABLE {before} RENAME TO {after}"
        if database.is_sqlite:
            await database._in_turn(lambda link, sql, _: link.execute(sql), statement)  # type: ignore[union-attr]
        else:
            await asyncio.to_thread(postgres.sql, statement, database_url.rpartition("/")[2])

    async with SqlStore(database, LONG) as store:
        order, other = await _stored(store, "o1", "o2")
        await rename("notifications", "notifications_later")
        payment = asyncio.create_task(store.commit(paid(order)))
        while not store._commits._retrying:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert await store.commit(touched(other, looks=1))
        assert await store.commit(intent("o3"))
        await rename("notifications_later", "notifications")
        assert await payment is True
