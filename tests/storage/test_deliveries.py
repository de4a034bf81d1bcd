"""Leases, settlements and commits at once, from two stores on one database; and their plans."""

import asyncio
import logging
import random
import re
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from midas.errors import StorageUnavailable
from midas.event import EventRecord, EventStanding
from midas.lease import DeliveryOutcome, Lease, Settlement
from midas.limits import NOTIFICATION_PAUSE_MAX_S
from midas.payment import Order
from midas.ports import ClaimedRow, RowKind
from midas.storage import open_store
from midas.storage import store as product
from midas.storage.sqlite_queues import _CLAIM_EVENTS, _UNDELIVERED
from midas.storage.store import SqlStore
from midas.storage.tables import UNDELIVERED
from tests.postgres import PostgresServer
from tests.records import NOON, intent, paid, refund_intent, refunded, touched
from tests.storage.faulty import database_at

HOLD = timedelta(seconds=60)
DELIVERED = DeliveryOutcome.DELIVERED
RETRY = DeliveryOutcome.RETRY
REFUSED = DeliveryOutcome.REFUSED
OPERATING = Path(__file__).parents[2] / "docs" / "operating.md"
FAILING = 40
ROUNDING_S = 0.002
"""SQLite keeps moments to the millisecond."""


async def pay(store: SqlStore, order_no: str) -> None:
    """An order with a notification."""
    assert await store.commit(intent(order_no))
    assert await store.commit(paid(await store.load(order_no)))


def settled(lease: Lease, outcome: DeliveryOutcome) -> Settlement:
    """The outcome of the lease's delivery."""
    notification = lease.notification
    return Settlement(lease.token, notification.order_no, notification.sequence, outcome)


async def test_two_processes_never_hold_one_order(database_url: str) -> None:
    """Four hundred orders, leased in small bites by two stores at once: each is given out once."""
    async with await open_store(database_url) as one, await open_store(database_url) as two:
        orders = [f"o{number:03}" for number in range(400)]
        await asyncio.gather(*(pay(one, order_no) for order_no in orders))
        held: Counter[str] = Counter()

        async def take(store: SqlStore, limit: int) -> None:
            while found := await store.lease_notifications(limit, HOLD):
                held.update(each.notification.order_no for each in found)

        await asyncio.gather(*(take(store, 3 + n) for n in range(4) for store in (one, two)))
        rest = await two.lease_notifications(500, HOLD)
        held.update(each.notification.order_no for each in rest)
        assert held == Counter(orders)


async def test_everything_at_once_ends_well(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Commits, leases and settlements of the same orders from two stores: no deadlock, no gap.

    Each delivery is the one after the last that was settled as delivered.
    """
    caplog.set_level(logging.WARNING)
    dice = random.Random(5)
    orders = [f"o{number:02}" for number in range(30)]
    delivered: dict[str, list[int]] = {order_no: [] for order_no in orders}
    async with await open_store(database_url) as one, await open_store(database_url) as two:
        await asyncio.gather(*(pay(one, order_no) for order_no in orders))

        async def write(store: SqlStore, order_no: str) -> None:
            done = 0
            while done < 4:
                order = await store.load(order_no)
                at = NOON + timedelta(seconds=len(order.refunds))
                if await store.commit(refund_intent(order, created_at=at)):
                    done += 1
                while not await store.commit(touched(await store.load(order_no), looks=done)):
                    pass

        async def end_refunds(order_no: str) -> None:
            for refund in (await two.load(order_no)).refunds:
                change = None
                while change is None or not await two.commit(change):
                    change = refunded(_ending(await two.load(order_no), refund.refund_no))

        async def fill(order_no: str) -> None:
            await asyncio.gather(write(one, order_no), write(two, order_no))
            await end_refunds(order_no)

        async def relay(store: SqlStore) -> None:
            while any(len(each) < 9 for each in delivered.values()):
                found = await store.lease_notifications(dice.randrange(1, 9), HOLD)
                dice.shuffle(found)
                outcomes = [dice.choices((DELIVERED, RETRY), (9, 1))[0] for _ in found]
                applied = await store.settle_notifications(
                    [settled(*each) for each in zip(found, outcomes, strict=True)]
                )
                assert all(applied)
                for lease, outcome in zip(found, outcomes, strict=True):
                    if outcome is DELIVERED:
                        sent = lease.notification
                        delivered[sent.order_no].append(sent.sequence)
                if not found:
                    await asyncio.sleep(0.02)

        async with asyncio.timeout(90):
            await asyncio.gather(
                *(fill(order_no) for order_no in orders),
                *(relay(store) for store in (one, two) for _ in range(3)),
            )
        assert set(map(tuple, delivered.values())) == {tuple(range(1, 10))}
        assert (await one.backlog()).oldest_at is None
    assert not caplog.records


@pytest.mark.parametrize("attempts", [0, 6, 40])
async def test_orders_that_fail_together_come_up_again_apart(
    database_url: str, attempts: int
) -> None:
    """Each pause of the same attempt has a jitter of its own, up to half of it (M6)."""
    pauses_s = await _pauses_s(database_url, attempts)
    whole_s = min(2**attempts, NOTIFICATION_PAUSE_MAX_S)
    assert len(pauses_s) == FAILING
    assert len(set(pauses_s)) > FAILING * 0.7, "many come up at the same moment"
    assert max(pauses_s) - min(pauses_s) > whole_s / 8
    assert whole_s / 2 - ROUNDING_S <= min(pauses_s)
    assert max(pauses_s) <= whole_s + ROUNDING_S


@pytest.mark.parametrize("cut", [0.5, 1.0])
async def test_a_pause_is_cut_by_half_at_the_most(
    database_url: str, monkeypatch: pytest.MonkeyPatch, cut: float
) -> None:
    """The shortest and the longest that chance can make of it."""
    drawn: list[tuple[float, float]] = []

    def edge(*bounds: float) -> float:
        drawn.append((min(bounds), max(bounds)))
        return cut

    monkeypatch.setattr(random, "uniform", edge)
    for pause_s in await _pauses_s(database_url, 6):
        assert abs(pause_s - 64 * cut) <= ROUNDING_S
    assert set(drawn) == {(0.5, 1.0)}


async def _pauses_s(database_url: str, attempts: int) -> list[float]:
    """How long each of some orders pauses that fail at once after so many attempts before.

    Measured from an order that is delivered in the same moment, and so due at once.
    """
    async with await open_store(database_url) as store:
        for order_no in ("delivered", *(f"o{number}" for number in range(FAILING))):
            await pay(store, order_no)
        await store._fetch(f"UPDATE orders SET announce_attempts = {attempts} RETURNING 1")  # noqa: S608
        leases = await store.lease_notifications(100, HOLD)
        outcomes = {"delivered": DELIVERED}
        settlements = [
            settled(each, outcomes.get(each.notification.order_no, RETRY)) for each in leases
        ]
        assert all(await store.settle_notifications(settlements))
        rows = await store._fetch("SELECT order_no, announce_at FROM orders")
    due = {order_no: _moment(at) for order_no, at in rows}
    now = due.pop("delivered")
    return [(each - now).total_seconds() for each in due.values()]


def _moment(stored: datetime | str) -> datetime:
    return stored if isinstance(stored, datetime) else datetime.fromisoformat(stored)


def _ending(order: Order, refund_no: str) -> Order:
    """The order with this refund as its newest one, which `refunded` ends."""
    refund = order.refund(refund_no)
    others = [each for each in order.refunds if each is not refund]
    return replace(order, refunds=(*others, refund))


async def test_the_documented_statement_lets_a_parked_order_go_on(
    database_url: str, request: pytest.FixtureRequest
) -> None:
    """It is run as an operator would: this order is leased again and delivered, and no other."""
    (documented,) = re.findall(r"`(UPDATE orders SET [^`]+)`", OPERATING.read_text())
    assert documented.count("…") == 1
    async with await open_store(database_url) as store:
        for order_no in ("mended", "parked"):
            await pay(store, order_no)
        leases = await store.lease_notifications(5, HOLD)
        settlements = [replace(settled(each, REFUSED), code="NOT_FOUND") for each in leases]
        assert await store.settle_notifications(settlements) == [True, True]
        assert await store.lease_notifications(5, HOLD) == []
        _run_by_hand(request, database_url, documented.replace("…", "mended"))
        (lease,) = await store.lease_notifications(5, HOLD)
        assert (lease.notification.order_no, lease.notification.sequence) == ("mended", 1)
        assert await store.settle_notifications([settled(lease, DELIVERED)]) == [True]
        backlog = await store.backlog()
        assert (backlog.oldest_at, backlog.parked) == (None, 1)


def _run_by_hand(request: pytest.FixtureRequest, database_url: str, sql: str) -> None:
    """Run SQL in a session of its own: Python's for SQLite, psql for PostgreSQL."""
    if database_url.startswith("sqlite"):
        with closing(sqlite3.connect(request.getfixturevalue("sqlite_path"))) as connection:
            connection.execute(sql)
            connection.commit()
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        server.sql(sql, database_url.rpartition("/")[2])


async def test_an_order_just_committed_is_not_read_for_its_lease(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once; an order that is leased again, or that another store has written, is read."""
    async with await open_store(database_url) as one, await open_store(database_url) as two:
        for order_no in ("o1", "o2", "o3"):
            await pay(one, order_no)
        assert await two.commit(refund_intent(await two.load("o2")))
        # as after a failover that lost the last commit, and another one with the same version
        await one._fetch("UPDATE orders SET last_change = '' WHERE order_no = 'o3' RETURNING 1")
        read: list[str] = []
        load = one.load

        async def loaded(order_no: str) -> Order:
            read.append(order_no)
            return await load(order_no)

        monkeypatch.setattr(one, "load", loaded)
        for expected in (["o2", "o3"], ["o1", "o2", "o3"]):
            found = await one.lease_notifications(10, timedelta(0))
            assert sorted(read) == expected
            for lease in found:
                assert lease.order == await two.load(lease.notification.order_no)
            read.clear()


async def test_an_order_that_cannot_be_read_for_its_lease_comes_up_again(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its leases run out then; nothing was sent, and nothing is lost."""
    async with await open_store(database_url) as one, await open_store(database_url) as two:
        await pay(one, "o1")

        async def away(_: str) -> Order:
            raise StorageUnavailable

        with monkeypatch.context() as patch:
            patch.setattr(two, "load", away)
            with pytest.raises(StorageUnavailable):
                await two.lease_notifications(10, timedelta(0))
        (lease,) = await two.lease_notifications(10, HOLD)
        assert lease.order == await one.load("o1")


async def test_an_order_that_cannot_be_read_spoils_no_other(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A newer Midas wrote a word that this one does not know (D10): the others are leased (I13)."""
    async with await open_store(database_url) as one, await open_store(database_url) as two:
        for order_no in ("o1", "o2", "o3"):
            await pay(one, order_no)
        newer = "UPDATE charges SET observed_by = 'NEWER' WHERE order_no = 'o2' RETURNING order_no"
        assert len(await one._database.fetch(newer)) == 1
        leases = await two.lease_notifications(10, HOLD)
        assert {each.order.order_no for each in leases} == {"o1", "o3"}
        read = await asyncio.gather(*map(two.load, ("o1", "o2", "o3")), return_exceptions=True)
        assert [isinstance(each, StorageUnavailable) for each in read] == [False, True, False]
        assert {each.message for each in caplog.records} >= {
            "order_unreadable",
            "notification_not_told",
        }


async def test_a_notification_that_cannot_be_read_spoils_no_other(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its moment is none, which SQLite lets happen: the others are leased (I13)."""
    async with await open_store(sqlite_url) as store:
        for order_no in ("o1", "o2", "o3"):
            await pay(store, order_no)
        spoilt = "UPDATE notifications SET occurred_at = 'soon' WHERE order_no = 'o2' RETURNING 1"
        assert len(await store._database.fetch(spoilt)) == 1
        leases = await store.lease_notifications(10, HOLD)
        assert {each.order.order_no for each in leases} == {"o1", "o3"}
        assert [vars(each)["order_no"] for each in caplog.records] == ["o2"]


async def test_a_due_order_without_a_notification_is_an_error(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its notification is gone: each time an error is logged, and the others are leased (I8)."""
    async with await open_store(database_url) as store:
        for order_no in ("o1", "o2", "o3"):
            await pay(store, order_no)
        gone = "DELETE FROM notifications WHERE order_no = 'o2' RETURNING order_no"
        assert len(await store._database.fetch(gone)) == 1
        for expected in ({"o1", "o3"}, set()):
            leases = await store.lease_notifications(10, HOLD)
            assert {each.order.order_no for each in leases} == expected
            lines = [each for each in caplog.records if each.levelno == logging.ERROR]
            assert [(each.message, vars(each)["order_no"]) for each in lines] == [
                ("nothing_to_tell_of_a_due_order", "o2")
            ]
            caplog.clear()
            past = "UPDATE orders SET announce_at = '1970-01-01 00:00:00.000000+00:00'"
            await store._fetch(f"{past} WHERE order_no = 'o2' RETURNING 1")
        assert await store.lease_notifications(10, HOLD) == []
        assert [each.message for each in caplog.records] == ["nothing_to_tell_of_a_due_order"]


async def test_an_event_that_cannot_be_read_spoils_no_other(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One row of a newer Midas among those that wait: the others are claimed (D10, I13)."""
    async with await open_store(database_url) as store:
        for number in (1, 2, 3):
            assert await store.record_event(_a_waiting_event(f"evt_{number}"))
        newer = "UPDATE events SET standing = 'NEWER' WHERE event_id = 'evt_2' RETURNING event_id"
        assert len(await store._database.fetch(newer)) == 1
        claimed = await store.claim_events(10, HOLD)
        assert {each.event_id for each in claimed} == {"evt_1", "evt_3"}
        assert "row_unreadable" in {each.message for each in caplog.records}


async def test_a_connection_that_is_dead_without_a_word_keeps_nobody(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Claims, leases and settlements end in bounded time, though the database never answers."""

    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(product, "ONCE_TIMEOUT", timedelta(milliseconds=10))
    async with await open_store(database_url) as store:
        for name in ("claim", "claim_rows", "release_rows", "claim_events", "lease", "settle"):
            monkeypatch.setattr(store._database, name, never)
        with pytest.raises(StorageUnavailable):
            await store.claim_due_orders(1, HOLD)
        with pytest.raises(StorageUnavailable):
            await store.claim_due_rows(tuple(RowKind), 1, HOLD)
        with pytest.raises(StorageUnavailable):
            await store.release_rows([ClaimedRow(RowKind.REFUND, "o1", "r1", NOON, NOON)])
        with pytest.raises(StorageUnavailable):
            await store.claim_events(1, HOLD)
        with pytest.raises(StorageUnavailable):
            await store.lease_notifications(1, HOLD)
        with pytest.raises(StorageUnavailable):
            await store.settle_notifications([Settlement("token", "o1", 1, DELIVERED)])


async def test_a_lease_follows_the_servers_clock(postgres_url: str) -> None:
    """A process whose clock is an hour ahead breaks nobody's lease (R6, M18)."""
    async with await open_store(postgres_url) as one, await open_store(postgres_url) as two:
        await pay(one, "o1")
        two._database._clock_offset_s += 3600  # type: ignore[attr-defined]
        assert two.now() - one.now() > timedelta(minutes=59)
        (lease,) = await one.lease_notifications(5, HOLD)
        assert await two.lease_notifications(5, HOLD) == []
        assert await one.settle_notifications([settled(lease, DELIVERED)]) == [True]


async def test_a_lease_that_is_broken_off_hurts_nobody(database_url: str) -> None:
    """Callers go away in the middle of a statement: the store goes on, and nothing is lost."""
    async with await open_store(database_url) as store:
        for number in range(30):
            await pay(store, f"o{number}")
        for pause_s in (0, 0.0005, 0.001, 0.002, 0.004) * 6:
            calls = [
                asyncio.ensure_future(call)
                for call in (
                    store.lease_notifications(1, timedelta(0)),
                    store.backlog(),
                    store.record_event(_an_event(f"evt_{pause_s}")),
                    store.claim_events(5, HOLD),
                )
            ]
            await asyncio.sleep(pause_s)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
        found = await store.lease_notifications(100, HOLD)
        assert len(found) == 30
        assert all(await store.settle_notifications([settled(each, DELIVERED) for each in found]))
        assert (await store.backlog()).oldest_at is None


def _an_event(event_id: str) -> EventRecord:
    return EventRecord(
        event_id, None, "a.type", NOON, "ab" * 32, b"{}", EventStanding.IGNORED, "type_not_handled"
    )


def _a_waiting_event(event_id: str) -> EventRecord:
    standing, due_at = EventStanding.WAITING, datetime(2020, 1, 1, tzinfo=UTC)
    return replace(_an_event(event_id), standing=standing, due_at=due_at)


async def test_a_settlement_waits_for_a_commit_and_reads_it(postgres_url: str) -> None:
    """A settlement beside a commit under way decides by what that commit writes."""
    blocker = database_at(postgres_url)
    async with await open_store(postgres_url) as store:
        await pay(store, "o1")
        (lease,) = await store.lease_notifications(1, HOLD)
        async with blocker._engine.connect() as held:  # type: ignore[union-attr]
            await held.exec_driver_sql("BEGIN")
            await held.exec_driver_sql("UPDATE orders SET lease_token = 'taken over'")
            assert await store.lease_notifications(5, HOLD) == []
            settling = asyncio.create_task(store.settle_notifications([settled(lease, DELIVERED)]))
            assert not (await asyncio.wait({settling}, timeout=0.1))[0]
            await held.exec_driver_sql("COMMIT")
        assert await settling == [False]
    await blocker.close()


async def test_leases_are_found_by_an_index_on_sqlite(sqlite_path: Path) -> None:
    """Looking for what is due costs the same however many orders there are."""
    with sqlite3.connect(sqlite_path) as connection:
        for sql, index in ((_UNDELIVERED, "orders_undelivered"), (_CLAIM_EVENTS, "events_due")):
            marks = (1,) * sql.count("?")
            plan = str(connection.execute(f"EXPLAIN QUERY PLAN {sql}", marks).fetchall())
            assert index in plan
            assert "SCAN orders" not in plan.replace(f"SCAN orders USING INDEX {index}", "")
            assert "TEMP B-TREE" not in plan
    connection.close()


async def test_leases_are_found_by_an_index_on_postgres(
    postgres: PostgresServer, postgres_url: str
) -> None:
    """The same there, with the settings of Midas's own sessions."""
    async with await open_store(postgres_url) as store:
        fetch = store._database.fetch
        for table, due, since, index in (
            ("orders", UNDELIVERED, "announce_at", "orders_undelivered"),
            ("events", "true", "due_at", "events_due"),
        ):
            sql = (
                f"EXPLAIN SELECT 1 FROM {table} WHERE {due} AND {since} <= now()"  # noqa: S608
                f" ORDER BY {since} LIMIT 5 FOR UPDATE SKIP LOCKED"
            )
            plan = str(await fetch(sql))
            assert f"Index Scan using {index}" in plan
            assert "Sort" not in plan
