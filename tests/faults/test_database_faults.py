"""T4 and T6: the database of a running server is locked, full, read-only, gone, and back."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from grpc import StatusCode

from midas.v1 import charge_pb2, errors_pb2, refund_pb2
from midas.v1 import payment_service_pb2 as pb
from tests.faults.books import books_agree
from tests.faults.caller import attempt, insist
from tests.faults.processes import (
    NOT_SERVING,
    REFUNDS,
    SERVING,
    Harness,
    Midas,
    eventually,
    until,
)
from tests.postgres import PostgresServer
from tests.rpc.scripted import ErrorStatus, error_of

SHORT_LOCK_S = 1.0
CALLS_AT_ONCE = 20
CUTS = 10
CUT_SESSIONS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'midas'"
)
PING_TAKES_S = 1.0
"""Long enough for the database to fail between the call and its record."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another program is in the middle of a long transaction."""
    connection = sqlite3.connect(path)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
    finally:
        connection.close()


@contextmanager
def full(midas: Midas) -> Iterator[None]:
    """No file of this process can grow, as on a device that takes no more."""
    process = psutil.Process(midas.process.pid)
    before = process.rlimit(psutil.RLIMIT_FSIZE)
    process.rlimit(psutil.RLIMIT_FSIZE, (1, before[1]))
    try:
        yield
    finally:
        process.rlimit(psutil.RLIMIT_FSIZE, before)


@contextmanager
def read_only(postgres: PostgresServer) -> Iterator[None]:
    """As after a failover to a node that does not take writes."""
    postgres.sql("ALTER SYSTEM SET default_transaction_read_only = on")
    postgres.sql("SELECT pg_reload_conf()")
    try:
        yield
    finally:
        postgres.sql("ALTER SYSTEM RESET default_transaction_read_only")
        postgres.sql("SELECT pg_reload_conf()")


async def test_a_short_lock_is_waited_out(
    harness: Harness, sqlite_url: str, sqlite_path: Path
) -> None:
    """A call during another program's transaction waits, and gets the answer (D5)."""
    midas = await harness.serve(sqlite_url)
    with locked(sqlite_path):
        calling = asyncio.ensure_future(midas.charge("waits"))
        await asyncio.wait([calling], timeout=SHORT_LOCK_S)
        assert not calling.done()
        assert harness.posts("waits") == []
    assert (await calling).charge_json


async def test_a_long_lock_is_unavailable(
    harness: Harness, sqlite_url: str, sqlite_path: Path
) -> None:
    """Longer than the patience: UNAVAILABLE and nothing sent; it works when the lock is gone."""
    midas = await harness.serve(sqlite_url)
    with locked(sqlite_path):
        _assert_storage_unavailable(await error_of(midas.charge("locked")))
        assert harness.posts("locked") == []
    await _works_again(midas, "locked")
    await books_agree(sqlite_url, ["locked"], harness.sandbox.lookalike)


async def test_the_disk_is_full(harness: Harness, sqlite_url: str) -> None:
    """Before the call: UNAVAILABLE, unsent. After it: unknown, and found out with space (D6)."""
    midas = await harness.serve(sqlite_url)
    await harness.paid(midas, "refunded")
    under_way = await _charge_and_refund_under_way(harness, midas)
    with full(midas):
        _assert_storage_unavailable(await error_of(midas.charge("unsent")))
        assert harness.posts("unsent") == []
        for error in await asyncio.gather(*under_way):
            _assert_unknown(error)
    await _works_again(midas, "unsent")
    await _both_found_out(harness, midas)
    await books_agree(sqlite_url, ["unsent", "charged", "refunded"], harness.sandbox.lookalike)


async def test_postgres_goes_away_and_comes_back(
    harness: Harness, postgres: PostgresServer, postgres_url: str
) -> None:
    """The same without any database; health shows it; nothing has to be restarted (D1)."""
    midas = await harness.serve(postgres_url)
    await harness.paid(midas, "refunded")
    under_way = await _charge_and_refund_under_way(harness, midas)
    await asyncio.to_thread(postgres.stop)
    try:
        error, _ = await asyncio.gather(error_of(midas.charge("unsent")), midas.health(NOT_SERVING))
        _assert_storage_unavailable(error)
        assert harness.posts("unsent") == []
        for error in await asyncio.gather(*under_way):
            _assert_unknown(error)
    finally:
        await asyncio.to_thread(postgres.start)
    await midas.health(SERVING)
    await _works_again(midas, "unsent")
    await _both_found_out(harness, midas)
    await books_agree(postgres_url, ["unsent", "charged", "refunded"], harness.sandbox.lookalike)


async def test_postgres_turns_read_only(
    harness: Harness, postgres: PostgresServer, postgres_url: str
) -> None:
    """UNAVAILABLE, nothing sent, reads go on; it works as soon as writes are taken (D4)."""
    midas = await harness.serve(postgres_url)
    await midas.charge("before")
    with read_only(postgres):
        _assert_storage_unavailable(await error_of(midas.charge("unsent")))
        assert harness.posts("unsent") == []
        assert (await midas.query("before")).charges
    await _works_again(midas, "unsent")
    await books_agree(postgres_url, ["before", "unsent"], harness.sandbox.lookalike)


async def test_sessions_are_cut_under_load(
    harness: Harness, postgres: PostgresServer, postgres_url: str
) -> None:
    """Commits whose answer is lost are looked up, not guessed: each order is charged once (D2)."""
    midas = await harness.serve(postgres_url)
    orders = [f"order-{number}" for number in range(CALLS_AT_ONCE)]
    calls = asyncio.gather(*(insist(lambda no=no: midas.charge(no)) for no in orders))  # type: ignore[misc]
    for _ in range(CUTS):
        if not calls.done():
            await asyncio.to_thread(postgres.sql, CUT_SESSIONS)
    for order_no, first in zip(orders, await calls, strict=True):
        if isinstance(first, ErrorStatus):
            _assert_storage_unavailable(first)
        answer = await insist(lambda no=order_no: midas.charge(no))  # type: ignore[misc]
        assert isinstance(answer, pb.ChargeResponse), answer
        assert answer.charge_json
    assert any("commit_tried_again" in line for line in midas.log), "no commit was ever cut"
    await books_agree(postgres_url, orders, harness.sandbox.lookalike)
    assert len(harness.sandbox.lookalike.newest_charges(100)) == CALLS_AT_ONCE


async def _charge_and_refund_under_way(
    harness: Harness, midas: Midas
) -> list["asyncio.Future[ErrorStatus]"]:
    """Both are at Ping++, which has carried them out and is about to answer."""
    harness.fault("delay", seconds=PING_TAKES_S, when="after")
    harness.fault("delay", path=REFUNDS, seconds=PING_TAKES_S, when="after")
    charging = asyncio.ensure_future(error_of(midas.charge("charged")))
    refunding = asyncio.ensure_future(error_of(midas.refund("refunded", "refunded")))
    posts = harness.sandbox.requests
    await until(lambda: harness.posts("charged") and posts.matching("POST", REFUNDS), "both calls")
    return [charging, refunding]


async def _both_found_out(harness: Harness, midas: Midas) -> None:
    charged = await insist(lambda: midas.charge("charged"))
    assert isinstance(charged, pb.ChargeResponse), charged
    assert charged.charge.state == charge_pb2.CHARGE_STATE_PENDING
    refunded = await insist(lambda: midas.refund("refunded", "refunded"))
    assert isinstance(refunded, pb.RefundResponse), refunded
    assert refunded.refund.state == refund_pb2.REFUND_STATE_SUCCEEDED
    assert len(harness.refund_posts("refunded")) == 1


async def _works_again(midas: Midas, order_no: str) -> None:
    """The caller tries again with the same key until it gets through."""
    answer = await eventually(
        lambda: attempt(midas.charge(order_no)),
        lambda end: not (isinstance(end, ErrorStatus) and end.code is StatusCode.UNAVAILABLE),
    )
    if isinstance(answer, ErrorStatus):
        assert answer.info.reason == "OUTCOME_UNKNOWN", answer.message
        answer = await insist(lambda: midas.charge(order_no))
    assert isinstance(answer, pb.ChargeResponse), answer


def _assert_storage_unavailable(error: ErrorStatus) -> None:
    assert (error.code, error.info.reason) == (StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE")
    assert error.detail.money_moved in (errors_pb2.MONEY_MOVED_NO, errors_pb2.MONEY_MOVED_UNKNOWN)
    assert error.detail.retry == errors_pb2.RETRY_SAME_KEY
    assert "nothing was sent" in error.message


def _assert_unknown(error: ErrorStatus) -> None:
    assert (error.code, error.info.reason) == (StatusCode.UNKNOWN, "OUTCOME_UNKNOWN"), error.message
    assert error.detail.money_moved == errors_pb2.MONEY_MOVED_UNKNOWN
