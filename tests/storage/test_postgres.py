"""PostgreSQL that goes away, comes back and is shared (reliability.md D1, D2, D4, D5, R1 to R4)."""

import asyncio
from datetime import timedelta

import pytest

from midas.errors import StorageUnavailable
from midas.ports import ClaimedRow, RowKind
from midas.storage import SqlStore, open_store
from tests.postgres import PostgresServer
from tests.records import NOON, intent, touched
from tests.storage.faulty import SHORT, database_at

HOLD = timedelta(seconds=60)


async def test_ended_sessions_lose_and_double_nothing(
    postgres: PostgresServer, postgres_url: str
) -> None:
    """Every session is ended again and again during commits; each change is on disk once."""
    killer = database_at(postgres.url())
    name = postgres_url.rpartition("/")[2]
    kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1"
    async with await open_store(postgres_url) as store:
        finished = 0

        async def caller(number: int) -> None:
            nonlocal finished
            for n in range(15):
                order_no = f"o{number}-{n}"
                assert await store.commit(intent(order_no))
                order = await store.load(order_no)
                assert await store.commit(touched(order, looks=1))
                assert len(await store.journal(order_no)) == 2
                finished += 1

        calls = asyncio.gather(*(caller(number) for number in range(16)))
        kills = 0
        while not calls.done():
            before = finished
            await killer.fetch(kill, (name,))
            kills += 1
            while not calls.done() and finished < before + 24:  # noqa: ASYNC110
                await asyncio.sleep(0)
        await calls
        await killer.close()
        assert kills > 3
        assert finished == 240


async def test_a_server_that_went_away_and_came_back_is_used_again(
    postgres: PostgresServer, postgres_url: str
) -> None:
    """While it is down calls fail in time, those that are patient get through; nothing restarts."""
    async with (
        SqlStore(database_at(postgres_url), SHORT) as hasty,
        await open_store(postgres_url) as patient,
    ):
        assert await hasty.commit(intent("o1"))
        await hasty.check()
        await asyncio.to_thread(postgres.stop)
        try:
            with pytest.raises(StorageUnavailable):
                await hasty.check()
            with pytest.raises(StorageUnavailable):
                await hasty.commit(intent("o2"))
            with pytest.raises(StorageUnavailable):
                await hasty.load("o1")
            with pytest.raises(StorageUnavailable):
                await hasty.claim_due_orders(1, HOLD)
            with pytest.raises(StorageUnavailable):
                await hasty.claim_due_rows(tuple(RowKind), 1, HOLD)
            with pytest.raises(StorageUnavailable):
                await hasty.release_rows([ClaimedRow(RowKind.CHARGE, "o1", "c1", NOON, NOON)])
            with pytest.raises(StorageUnavailable):
                await hasty.due_times(tuple(RowKind))
            waiting = asyncio.create_task(patient.commit(intent("o3")))
            reading = asyncio.create_task(patient.load("o1"))
            await asyncio.sleep(0)
        finally:
            await asyncio.to_thread(postgres.start)
        assert await waiting is True
        assert (await reading).version == 1
        assert (await hasty.load("o2")).version == 0
        assert await hasty.commit(intent("o2"))


async def test_a_read_only_server_writes_nothing(
    postgres: PostgresServer, postgres_url: str
) -> None:
    """After a failover to a node that does not take writes, the caller learns it, certainly."""
    name = postgres_url.rpartition("/")[2]
    async with SqlStore(database_at(postgres_url), SHORT) as store:
        assert await store.commit(intent("o1"))
        postgres.sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        await store._database._engine.dispose()  # type: ignore[attr-defined]
        with pytest.raises(StorageUnavailable) as raised:
            await store.commit(intent("o2"))
        assert raised.value.may_have_written is False
        postgres.sql(f"ALTER DATABASE {name} SET default_transaction_read_only = off")
        assert await store.commit(intent("o2"))


async def test_a_lock_that_stays_is_given_up_and_not_written_later(postgres_url: str) -> None:
    """A commit behind another transaction's lock ends with the patience, in doubt, and for good."""
    blocker = database_at(postgres_url)
    async with SqlStore(database_at(postgres_url), SHORT) as store:
        assert await store.commit(intent("o1"))
        order = await store.load("o1")
        async with blocker._engine.connect() as held:  # type: ignore[union-attr]
            await held.exec_driver_sql("BEGIN")
            await held.exec_driver_sql("SELECT * FROM orders FOR UPDATE")
            with pytest.raises(StorageUnavailable) as raised:
                await store.commit(touched(order, looks=1))
            assert raised.value.may_have_written is True
            await held.exec_driver_sql("ROLLBACK")
        assert await store.commit(touched(await store.load("o1"), looks=2))
        assert (await store.load("o1")).charges[0].looks == 2
    await blocker.close()


async def test_two_processes_lose_no_update(postgres_url: str) -> None:
    """Two stores that change the same orders at once: each version has one author."""
    async with await open_store(postgres_url) as one, await open_store(postgres_url) as two:

        async def charge_all(store: SqlStore) -> list[bool]:
            return await asyncio.gather(*(store.commit(intent(f"o{n}")) for n in range(60)))

        first, second = await asyncio.gather(charge_all(one), charge_all(two))
        assert [a + b for a, b in zip(first, second, strict=True)] == [1] * 60

        async def add_five(store: SqlStore, order_no: str) -> None:
            done = 0
            while done < 5:
                order = await store.load(order_no)
                done += await store.commit(touched(order, looks=order.charges[0].looks + 1))

        await asyncio.gather(
            *(add_five(store, f"o{n}") for n in range(10) for store in (one, two, one))
        )
        for n in range(10):
            order = await two.load(f"o{n}")
            assert (order.version, order.charges[0].looks) == (16, 15)
            assert len(await one.journal(f"o{n}")) == 16


async def test_two_processes_share_what_is_due(postgres_url: str) -> None:
    """Each due order is given to one of them."""
    async with await open_store(postgres_url) as one, await open_store(postgres_url) as two:
        due = one.now() - HOLD
        await asyncio.gather(*(one.commit(intent(f"o{n}", due_at=due)) for n in range(100)))
        claims = await asyncio.gather(
            *(store.claim_due_orders(7, HOLD) for store in (one, two) * 10)
        )
        claims += [await one.claim_due_orders(100, HOLD)]
        claimed = sorted(order_no for each in claims for order_no in each)
        assert claimed == sorted(f"o{n}" for n in range(100))
        assert await two.claim_due_orders(100, HOLD) == []


async def test_the_clock_is_the_servers(postgres_url: str) -> None:
    """`now` follows the server's answer, not this machine's wall clock."""
    async with await open_store(postgres_url) as store:
        database = store._database
        database._clock_offset_s += 3600  # type: ignore[attr-defined]
        wrong = store.now()
        assert await store.commit(intent("o1"))
        assert wrong - store.now() > timedelta(minutes=59)
