"""Rows whose look is due: claims, releases and commits at once, and answers that are lost."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from midas.draft import Draft
from midas.errors import StorageUnavailable
from midas.ports import ClaimedRow, DueTimes, RowKind
from midas.storage import open_store, sqlite_queues
from midas.storage import store as product
from midas.storage.faults import InDoubt
from midas.storage.postgres_queues import claim_rows
from midas.storage.store import SqlStore
from tests.patience import PATIENCE_S
from tests.records import changed, intent, refund_intent, touched
from tests.storage.faulty import database_at
from tests.storage.waiting import until_waiting

HOLD = timedelta(seconds=60)
BOTH = tuple(RowKind)


async def put(store: SqlStore, name: str, due_at: datetime) -> None:
    """A charge and a refund that are due."""
    assert await store.commit(intent(name, out_trade_no=f"c{name}", due_at=due_at))
    order = await store.load(name)
    assert await store.commit(refund_intent(order, refund_no=f"r{name}", due_at=due_at))


def keys(claimed: Sequence[ClaimedRow]) -> list[str]:
    """The rows that were claimed, sorted."""
    return sorted(each.key for each in claimed)


@asynccontextmanager
async def transaction(url: str) -> AsyncIterator[AsyncConnection]:
    """Somebody else's, rolled back at its end unless it was committed."""
    database = database_at(url)
    try:
        async with database._engine.connect() as session:  # type: ignore[union-attr]
            await session.exec_driver_sql("BEGIN")
            try:
                yield session
            finally:
                await session.exec_driver_sql("ROLLBACK")
    finally:
        await database.close()


async def test_a_commit_behind_a_claim_is_written(postgres_url: str) -> None:
    """It waits for the claim's end, and stands then as it was decided; other rows stay held."""
    async with await open_store(postgres_url) as store:
        await put(store, "1", store.now() - HOLD)
        order = await store.load("1")
        planned = order.charges[0].created_at
        async with transaction(postgres_url) as session:
            result = await session.exec_driver_sql(claim_rows(("charges", "refunds")), (9, HOLD))
            held_until = {row.key: row.held_until for row in result}
            committing = asyncio.create_task(store.commit(touched(order, due_at=planned, looks=1)))
            await until_waiting(postgres_url)
            await session.exec_driver_sql("COMMIT")
        assert await committing is True
        after = await store.load("1")
        assert (after.version, after.charges[0].due_at, after.charges[0].looks) == (3, planned, 1)
        assert after.refunds[0].due_at == held_until["r1"]


async def test_a_claim_passes_over_what_is_being_changed(postgres_url: str) -> None:
    """It waits for nobody. What was locked comes up once its change is over."""
    async with await open_store(postgres_url) as store:
        for name in "12":
            await put(store, name, store.now() - HOLD)
        async with transaction(postgres_url) as session:
            await session.exec_driver_sql("UPDATE charges SET looks = 7 WHERE order_no = '1'")
            await session.exec_driver_sql("UPDATE refunds SET looks = 7 WHERE order_no = '2'")
            assert keys(await store.claim_due_rows(BOTH, 9, HOLD)) == ["c2", "r1"]
        assert keys(await store.claim_due_rows(BOTH, 9, HOLD)) == ["c1", "r2"]


async def test_a_claim_takes_what_a_new_refund_refers_to(postgres_url: str) -> None:
    """Its foreign key locks the charge until its commit is over; that keeps nobody from a look."""
    async with await open_store(postgres_url) as store:
        await put(store, "1", store.now() - HOLD)
        async with transaction(postgres_url) as session:
            await session.exec_driver_sql("SELECT 1 FROM charges FOR KEY SHARE")
            claimed = await store.claim_due_rows(BOTH, 9, HOLD)
            assert keys(claimed) == ["c1", "r1"]
            await store.release_rows(claimed)
            assert keys(await store.claim_due_rows(BOTH, 9, HOLD)) == ["c1", "r1"]


async def test_a_release_waits_for_nobody(postgres_url: str) -> None:
    """It would deadlock with a commit that has one of its rows and is about to change another."""
    async with await open_store(postgres_url) as store:
        due_at = store.now() - HOLD
        for name in "12":
            await put(store, name, due_at)
        claimed = await store.claim_due_rows(BOTH, 9, HOLD)
        change = "UPDATE charges SET looks = 7 WHERE out_trade_no = $1 RETURNING due_at"
        async with transaction(postgres_url) as session:
            (held,) = await session.exec_driver_sql(change, ("c1",))
            async with asyncio.timeout(PATIENCE_S):
                await store.release_rows(sorted(claimed, key=lambda each: each.key, reverse=True))
            (released,) = await session.exec_driver_sql(change, ("c2",))
            await session.exec_driver_sql("COMMIT")
        assert (held[0] > due_at, released[0] == due_at) == (True, True)
        assert keys(await store.claim_due_rows(BOTH, 9, HOLD)) == ["c2", "r1", "r2"]


async def test_two_processes_share_the_rows_that_are_due(postgres_url: str) -> None:
    """Each due row is given to one of them."""
    names = [f"{n}" for n in range(50)]
    async with await open_store(postgres_url) as one, await open_store(postgres_url) as two:
        due_at = one.now() - HOLD
        await asyncio.gather(*(put(one, name, due_at) for name in names))
        claims = await asyncio.gather(
            *(store.claim_due_rows(BOTH, 7, HOLD) for store in (one, two) * 10)
        )
        claims += [await one.claim_due_rows(BOTH, 100, HOLD)]
        claimed = sorted(each.key for rows in claims for each in rows)
        assert claimed == sorted(kind + name for kind in "cr" for name in names)
        assert await two.claim_due_rows(BOTH, 100, HOLD) == []


async def test_two_processes_look_and_commit_at_once(postgres_url: str) -> None:
    """No change is lost and no session waits in a circle.

    Claims and releases take the rows in another order than commits do, and than the resolver does.
    """
    names = [f"{n}" for n in range(30)]
    async with await open_store(postgres_url) as one, await open_store(postgres_url) as two:
        due_at = one.now() - HOLD
        await asyncio.gather(*(put(one, name, due_at) for name in names))
        over = asyncio.Event()

        async def look(store: SqlStore) -> int:
            done = 0
            while not over.is_set():
                claimed = await store.claim_due_rows(BOTH, 20, HOLD)
                await store.claim_due_orders(5, timedelta(seconds=-1))
                await store.release_rows(claimed[::-1])
                done += len(claimed)
            return done

        async def commit_many(store: SqlStore, name: str) -> None:
            done = 0
            while done < 15:
                order = await store.load(name)
                draft = Draft(order)
                draft.put(replace(order.charges[0], looks=order.charges[0].looks + 1))
                draft.put(replace(order.refunds[0], looks=order.refunds[0].looks + 1))
                done += await store.commit(changed(draft))

        looking = [asyncio.create_task(look(store)) for store in (one, two) * 2]
        await asyncio.gather(*(commit_many(store, name) for name in names for store in (one, two)))
        over.set()
        assert min(await asyncio.gather(*looking)) > 0
        for name in names:
            order = await one.load(name)
            assert (order.version, order.charges[0].looks, order.refunds[0].looks) == (32, 30, 30)
        deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        assert await one._database.fetch(deadlocks) == [(0,)]


async def test_a_claim_that_fails_holds_nothing(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Charges and refunds are claimed together or not at all."""
    async with await open_store(postgres_url) as store:
        await put(store, "1", store.now() - HOLD)
        before = await store.load("1")
        async with transaction(postgres_url) as session:
            await session.exec_driver_sql("LOCK TABLE refunds")
            with monkeypatch.context() as patch:
                patch.setattr(product, "ONCE_TIMEOUT", timedelta(seconds=0.3))
                with pytest.raises(StorageUnavailable):
                    await store.claim_due_rows(BOTH, 9, HOLD)
        assert await store.load("1") == before


async def test_due_times_follow_the_servers_clock(postgres_url: str) -> None:
    """A process whose clock is an hour ahead takes nothing for due that nobody can claim (R6)."""
    async with await open_store(postgres_url) as store:
        due_at = store.now() + timedelta(minutes=10)
        await put(store, "1", due_at)
        store._database._clock_offset_s += 3600  # type: ignore[attr-defined]
        assert store.now() > due_at
        assert await store.claim_due_rows(BOTH, 9, HOLD) == []
        assert await store.due_times(BOTH) == DueTimes(None, due_at)


def losing_answers(store: SqlStore, name: str, patch: pytest.MonkeyPatch) -> None:
    """Let the database do what it is asked for, and its answers be lost."""
    real = getattr(store._database, name)

    async def lost(*arguments: Any) -> None:
        await real(*arguments)
        raise InDoubt("connection lost")

    patch.setattr(store._database, name, lost)


async def test_a_claim_whose_answer_is_lost_comes_up_after_its_hold(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not repeated: that would take other rows. Nothing but due_at has changed."""
    async with await open_store(database_url) as store:
        for name in "12":
            await put(store, name, store.now() - HOLD)
        for hold, left in ((timedelta(seconds=-1), ["c1", "c2", "r1", "r2"]), (HOLD, [])):
            with monkeypatch.context() as patch:
                losing_answers(store, "claim_rows", patch)
                with pytest.raises(StorageUnavailable):
                    await store.claim_due_rows(BOTH, 9, hold)
            assert keys(await store.claim_due_rows(BOTH, 9, timedelta(seconds=-1))) == left
        assert (await store.load("1")).version == 2


async def test_a_release_whose_answer_is_lost_may_be_repeated(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one finds nothing to do, also after somebody else's claim."""
    async with await open_store(database_url) as store:
        await put(store, "1", store.now() - HOLD)
        before = await store.load("1")
        claimed = await store.claim_due_rows((RowKind.CHARGE,), 9, HOLD)
        with monkeypatch.context() as patch:
            losing_answers(store, "release_rows", patch)
            with pytest.raises(StorageUnavailable):
                await store.release_rows(claimed)
        assert await store.load("1") == before
        await store.release_rows(claimed)
        assert await store.load("1") == before
        await store.claim_due_rows((RowKind.CHARGE,), 9, 2 * HOLD)
        others = await store.load("1")
        await store.release_rows(claimed)
        assert await store.load("1") == others


async def test_due_rows_are_found_by_an_index_on_sqlite(sqlite_url: str) -> None:
    """However many others there are, in the order in which they are due, and so are due times."""
    async with await open_store(sqlite_url) as store:
        database = store._database
        for table in ("charges", "refunds"):
            sql = f"EXPLAIN QUERY PLAN {sqlite_queues.DUE_ROWS[table]}"
            assert [row[3] for row in await database.fetch(sql, ("2030", 9))] == [
                f"SEARCH {table} USING INDEX {table}_due (due_at<?)"
            ]
            sql = "EXPLAIN QUERY PLAN " + product._DUE_TIMES.format(table=table, now="?")
            steps = {row[3] for row in await database.fetch(sql, ("2030", "2030"))}
            assert {each for each in steps if table in each} == {
                f"SEARCH {table} USING COVERING INDEX {table}_due (due_at<?)",
                f"SEARCH {table} USING COVERING INDEX {table}_due (due_at>?)",
            }
