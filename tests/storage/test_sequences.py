"""The schema itself keeps an order from having two notifications with one number (I7)."""

import asyncio
import sqlite3
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from midas.payment import Change
from midas.storage import open_store
from midas.storage.faults import RowRefused
from midas.storage.store import SqlStore
from tests.postgres import PostgresServer
from tests.records import intent, paid, refund_intent, refunded


async def notice_for(store: SqlStore, order_no: str = "o1") -> Change:
    """A paid order with a notification and a refund under way: the change that ends the refund."""
    assert await store.commit(intent(order_no))
    assert await store.commit(paid(await store.load(order_no)))
    assert await store.commit(refund_intent(await store.load(order_no)))
    return refunded(await store.load(order_no))


async def test_a_sequence_that_is_taken_is_refused(database_url: str) -> None:
    """A change that numbers its notification like an earlier one is not written, no part of it."""
    async with await open_store(database_url) as store:
        change = await notice_for(store)
        before, earlier = await store.load("o1"), await store.notifications("o1")
        journal = await store.journal("o1")
        assert [each.sequence for each in earlier] == [1]
        (second,) = change.notifications
        doubled = replace(change, notifications=(replace(second, sequence=1),))
        with pytest.raises(RowRefused):
            await store.commit(doubled)
        assert await store.load("o1") == before
        assert await store.notifications("o1") == earlier
        assert await store.journal("o1") == journal
        assert await store.commit(change)
        assert await store.notifications("o1") == [*earlier, second]


async def test_one_change_cannot_use_a_sequence_twice(database_url: str) -> None:
    """Two notifications with one number in one change are refused as well."""
    async with await open_store(database_url) as store:
        change = await notice_for(store)
        (second,) = change.notifications
        other = replace(second, kind="PAY_ORDER_CLOSED", refund_no="")
        with pytest.raises(RowRefused):
            await store.commit(replace(change, notifications=(second, other)))
        assert len(await store.notifications("o1")) == 1


async def test_a_doubled_sequence_does_not_harm_its_neighbours(database_url: str) -> None:
    """Of changes that share a commit only that one is refused; each order counts for itself."""
    async with await open_store(database_url) as store:
        names = [f"o{number}" for number in range(8)]
        changes = [await notice_for(store, name) for name in names]
        (second,) = changes[5].notifications
        changes[5] = replace(changes[5], notifications=(replace(second, sequence=1),))
        answers = await asyncio.gather(*map(store.commit, changes), return_exceptions=True)
        assert [n for n, each in enumerate(answers) if isinstance(each, RowRefused)] == [5]
        assert [each for n, each in enumerate(answers) if n != 5] == [True] * 7
        sequences = [[n.sequence for n in await store.notifications(name)] for name in names]
        assert sequences == [[1] if n == 5 else [1, 2] for n in range(8)]


_AGAIN = (
    "INSERT INTO notifications (order_no, sequence, kind, occurred_at, observed_by, out_trade_no,"
    " refund_no, late, duplicate_payment) SELECT order_no, sequence, 'PAY_ORDER_CLOSED',"
    " occurred_at, observed_by, out_trade_no, refund_no, late, duplicate_payment FROM notifications"
)
"""Every notification once more, with other contents, as a hand at the database would do it."""


async def test_sqlite_itself_refuses_it(sqlite_path: Path) -> None:
    """The table's own key refuses it, also from outside of Midas."""
    async with await open_store(f"sqlite:///{sqlite_path}") as store:
        await notice_for(store)
    connection = sqlite3.connect(sqlite_path)
    with pytest.raises(sqlite3.IntegrityError, match=r"notifications\.order_no.*sequence"):
        connection.execute(_AGAIN)
    assert connection.execute("SELECT COUNT(*) FROM notifications").fetchone() == (1,)
    connection.close()


async def test_postgres_itself_refuses_it(postgres: PostgresServer, postgres_url: str) -> None:
    """The same there."""
    async with await open_store(postgres_url) as store:
        await notice_for(store)
        earlier = await store.notifications("o1")
        with pytest.raises(subprocess.CalledProcessError) as refused:
            postgres.sql(_AGAIN, postgres_url.rpartition("/")[2])
        assert b'unique constraint "notifications_pkey"' in refused.value.stderr
        assert await store.notifications("o1") == earlier
