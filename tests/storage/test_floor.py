"""A failover, a restore, a dump: notifications are numbered above all that was used (I7, D3)."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import pytest

from midas.errors import SchemaRefused
from midas.lease import DeliveryOutcome, Settlement
from midas.payment import Order
from midas.sequences import EPOCH, raised_floor
from midas.storage import migrate, open_store, raise_sequence_floor, schema
from midas.storage.store import SqlStore
from tests.postgres import PostgresServer
from tests.records import NOON, intent, paid, refund_intent, refunded

LOST = "UPDATE sequence_epochs SET history = 'of another server' RETURNING 1"
"""The row as it is on a server whose history is another one."""


@pytest.fixture
def own_url() -> Iterator[tuple[PostgresServer, str]]:
    """A server that may get another timeline, and a database with the schema."""
    server = PostgresServer()
    try:
        name = server.new_database()
        asyncio.run(migrate(server.url(name)))
        yield server, server.url(name)
    finally:
        server.close()


async def numbers(store: SqlStore, order_no: str) -> list[int]:
    """Of the order's notifications."""
    return [each.sequence for each in await store.notifications(order_no)]


async def pay(store: SqlStore, order: Order) -> None:
    """One notification of an order; decided anew when another commit was first, as the flows do."""
    while not await store.commit(paid(order)):
        order = await store.load(order.order_no)


async def refund(store: SqlStore, order_no: str = "o1") -> None:
    """One more."""
    order = await store.load(order_no)
    newest = NOON + timedelta(seconds=len(order.refunds))
    assert await store.commit(refund_intent(order, created_at=newest))
    if not await store.commit(refunded(await store.load(order_no))):
        assert await store.commit(refunded(await store.load(order_no)))


def test_a_failover_begins_a_new_epoch(own_url: tuple[PostgresServer, str]) -> None:
    """The server itself shows it: the first commit on the new timeline numbers above.

    An order that goes on, one that is new, and one that was read before; each in its own epoch
    without a gap. A second failover begins another one.
    """
    server, url = own_url

    async def story() -> None:
        async with await open_store(url) as store:
            assert await store.commit(intent("o1"))
            await pay(store, await store.load("o1"))
            assert await store.commit(intent("read before"))
            before = await store.load("read before")
            assert await numbers(store, "o1") == [1]
            floors = [0]
            for _ in range(2):
                server.fail_over()
                await refund(store)
                floors.append(store.unread("new").sequence_floor)
                assert floors[-1] >= floors[-2] + EPOCH
            await refund(store)
            assert await numbers(store, "o1") == [1, floors[1] + 1, floors[2] + 1, floors[2] + 2]
            await pay(store, before)
            assert await numbers(store, "read before") == [floors[2] + 1]
            change = intent("new", store.unread("new"))
            assert await store.commit(change)
            assert await store.commit(paid(change.after))
            assert await numbers(store, "new") == [floors[2] + 1]

    asyncio.run(story())


def test_a_restart_of_the_server_is_no_new_epoch(own_url: tuple[PostgresServer, str]) -> None:
    """Nothing is lost by it, and nothing is raised."""
    server, url = own_url

    async def story() -> None:
        async with await open_store(url) as store:
            assert await store.commit(intent("o1"))
            await pay(store, await store.load("o1"))
            server.stop()
            server.start()
            assert await store.since_possible_loss() == timedelta.max
            await refund(store)
            assert await numbers(store, "o1") == [1, 2]
        async with await open_store(url) as store:
            assert store.unread("o1").sequence_floor == 0

    asyncio.run(story())


def test_how_long_ago_commits_may_have_been_lost(own_url: tuple[PostgresServer, str]) -> None:
    """Every process learns it from the database, also from another one's notice of it (D3)."""
    server, url = own_url

    async def story() -> None:
        async with await open_store(url) as one, await open_store(url) as two:
            assert await one.since_possible_loss() == timedelta.max
            server.fail_over()
            first = await one.since_possible_loss()
            assert first < await two.since_possible_loss() < timedelta(minutes=1)
        async with await open_store(url) as store:
            assert first < await store.since_possible_loss() < timedelta(minutes=1)

    asyncio.run(story())


def test_a_process_learns_that_its_commits_may_be_lost(
    own_url: tuple[PostgresServer, str],
) -> None:
    """Each process of its own commits, though it writes nothing more, and once (D3)."""
    server, url = own_url

    async def story() -> None:
        async with await open_store(url) as one, await open_store(url) as two:
            assert await one.commit(intent("o1"))
            await pay(one, await one.load("o1"))
            assert await two.commit(intent("o2"))
            server.stop()
            server.start()
            assert await one.perhaps_lost() == []
            server.fail_over()
            known = await one.load("o1")
            assert await one.perhaps_lost() == [known]
            assert [each.order_no for each in await two.perhaps_lost()] == ["o2"]
            assert await one.perhaps_lost() == []
            server.fail_over()
            assert await one.perhaps_lost() == [known]

    asyncio.run(story())


async def test_a_restored_file_may_have_lost_commits(sqlite_url: str) -> None:
    """Only the person who restored it knows."""
    async with await open_store(sqlite_url) as store:
        assert await store.since_possible_loss() == timedelta.max
    await raise_sequence_floor(sqlite_url)
    async with await open_store(sqlite_url) as store:
        assert timedelta(0) <= await store.since_possible_loss() < timedelta(minutes=1)


async def test_whoever_numbers_from_before_loses(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Of two processes one raises the floor; the other's change loses once and learns it."""
    async with await open_store(postgres_url) as one, await open_store(postgres_url) as two:
        for order_no in ("o1", "o2", "o3"):
            assert await one.commit(intent(order_no))
        orders = [await one.load("o1"), await one.load("o2"), await two.load("o3")]
        await one._database.fetch(LOST)
        assert not await one.commit(paid(orders[0]))
        floor = one.unread("").sequence_floor
        assert floor >= EPOCH
        assert [each.message for each in caplog.records] == ["sequence_floor_raised"]
        assert not await one.commit(paid(orders[1])), "read before the raise"
        assert not await two.commit(paid(orders[2])), "by a process that did not know it yet"
        assert two.unread("").sequence_floor == floor
        for store, order_no in ((one, "o1"), (one, "o2"), (two, "o3")):
            assert await store.commit(paid(await store.load(order_no)))
            assert await numbers(store, order_no) == [floor + 1]
        assert len(caplog.records) == 1


async def test_a_change_without_a_notification_needs_no_number(postgres_url: str) -> None:
    """Of changes that share a commit, those without a notification are written."""
    async with await open_store(postgres_url) as store:
        assert await store.commit(intent("o1"))
        order = await store.load("o1")
        await store._database.fetch(LOST)
        answers = await asyncio.gather(store.commit(paid(order)), store.commit(intent("o2")))
        assert list(answers) == [False, True]


async def test_a_floor_below_the_known_one_is_raised(postgres_url: str) -> None:
    """The raise itself was lost, on a server that calls its history the same: a process knows."""
    async with await open_store(postgres_url) as store:
        assert await store.commit(intent("o1"))
        known = await store._database.raise_floor()
        await store._database.fetch("UPDATE sequence_epochs SET floor = 0 RETURNING 1")
        await pay(store, await store.load("o1"))
        (number,) = await numbers(store, "o1")
        assert number > known + EPOCH


async def test_a_process_that_starts_learns_the_floor(postgres_url: str) -> None:
    """And raises it where it has to be, before anything is written."""
    async with await open_store(postgres_url) as store:
        await store._database.fetch(LOST)
    async with await open_store(postgres_url) as store:
        change = intent("o1", store.unread("o1"))
        assert await store.commit(change)
        assert await store.commit(paid(change.after))
        assert (await numbers(store, "o1"))[0] > EPOCH
    async with await open_store(postgres_url) as again:
        assert again.unread("").sequence_floor == store.unread("").sequence_floor


async def test_after_a_restore_it_is_raised_by_hand(database_url: str) -> None:
    """A copy of files looks like the original: a person raises the floor, also while Midas runs."""
    async with await open_store(database_url) as store:
        assert await store.commit(intent("o1"))
        await pay(store, await store.load("o1"))
        assert await store.commit(refund_intent(await store.load("o1")))
        order = await store.load("o1")
        floor = await raise_sequence_floor(database_url)
        assert floor >= raised_floor(0, int(store.now().timestamp()) - 60)
        assert not await store.commit(refunded(order))
        assert await store.load("o1") == order
        assert await store.commit(refunded(await store.load("o1")))
        assert await numbers(store, "o1") == [1, floor + 1]
        assert await raise_sequence_floor(database_url) >= floor + EPOCH
    async with await open_store(database_url) as store:
        assert store.unread("").sequence_floor >= floor + EPOCH


async def test_the_server_costs_no_further_trip(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit with a notification is one statement, as before."""
    async with await open_store(postgres_url) as store:
        assert await store.commit(intent("o1"))
        change = paid(await store.load("o1"))
        fetch, statements = store._database.fetch, []

        async def counted(sql: str, parameters: tuple[object, ...] = ()) -> object:
            statements.append(sql)
            return await fetch(sql, parameters)

        monkeypatch.setattr(store._database, "fetch", counted)
        assert await store.commit(change)
        assert len(statements) == 1


_LEASE_OF_0003 = (
    "SELECT n.sequence FROM orders o JOIN notifications n ON n.order_no = o.order_no"
    " AND n.sequence = o.delivered_sequence + 1"
    " WHERE o.delivered_sequence < o.last_sequence AND o.parked_code = ''"
)
"""How code before the epochs searched for the next notification."""


async def test_code_before_the_epochs_may_not_go_on(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a gap it would find nothing, for ever: the schema keeps it out, at start and later.

    Code that reads gaps delivers what the older code has left, and what comes after that.
    """
    async with await open_store(database_url) as store:
        assert await store.commit(intent("o1"))
        await pay(store, await store.load("o1"))
        assert await store._database.fetch(_LEASE_OF_0003) == [(1,)]
        await raise_sequence_floor(database_url)
        await refund(store)
        numbered = await numbers(store, "o1")
        for number in numbered:
            (lease,) = await store.lease_notifications(1, timedelta(minutes=1))
            assert lease.notification.sequence == number
            settled = Settlement(lease.token, "o1", number, DeliveryOutcome.DELIVERED)
            assert await store.settle_notifications([settled]) == [True]
            assert not await store._database.fetch(_LEASE_OF_0003)
        with monkeypatch.context() as patch:
            patch.setattr(schema, "SCHEMA", "0003")
            with pytest.raises(SchemaRefused):
                await store.check()
            with pytest.raises(SchemaRefused):
                await open_store(database_url)
        await store.check()
