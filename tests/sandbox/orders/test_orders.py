"""The sample order service keeps the promises of midas.order.v1."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio

from midas.sandbox.errors import SandboxError
from midas.sandbox.orders.server import OrderOptions, OrderServer
from midas.v1 import charge_pb2
from tests.sandbox.orders.notifications import METHODS, Caller, caller, notification
from webhook_gateway.calls import CallFailed, _details_of
from webhook_gateway.delivery import receiver_sequence


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[OrderServer]:
    """A running service on a file of its own."""
    async with OrderServer(OrderOptions(file=tmp_path / "orders.sqlite3")) as running:
        yield running


@pytest.fixture
async def midas(server: OrderServer) -> AsyncIterator[Caller]:
    """Whoever calls it."""
    async with caller(server.target) as calling:
        yield calling


@pytest.mark.parametrize("method", METHODS)
async def test_each_call_is_acknowledged_and_kept(
    method: str, server: OrderServer, midas: Caller
) -> None:
    """OK, and the message is there as it was sent."""
    assert await midas.notify(method, "o-1", 1) == "OK"
    (kept,) = server.book.received("o-1")
    assert kept.request == notification(method, "o-1", 1)
    assert sum(getattr(server.book.order("o-1"), name) for name in COUNTERS) == 1


COUNTERS = ("pay_order_success", "pay_order_closed", "refund_success", "refund_failed")


@pytest.mark.parametrize("method", METHODS)
async def test_a_repeat_is_acknowledged_without_effect(
    method: str, server: OrderServer, midas: Caller
) -> None:
    """The same again, days apart or at once."""
    assert [await midas.notify(method, "o-1", 1) for _ in range(3)] == ["OK"] * 3
    assert len(server.book.received("o-1")) == 1


async def test_concurrent_copies_have_one_effect(server: OrderServer, midas: Caller) -> None:
    """Fifty copies at once, of several orders: all OK, one effect each."""
    copies = [midas.notify("RefundSuccess", f"o-{n % 5}", 1) for n in range(50)]
    assert set(await asyncio.gather(*copies)) == {"OK"}
    assert sorted(each.order_no for each in server.book.received()) == [f"o-{n}" for n in range(5)]


async def test_an_older_one_after_later_ones_has_no_effect(
    server: OrderServer, midas: Caller
) -> None:
    """A sequence that is not above the highest is ignored, whether it came before or not."""
    for sequence in (1, 2, 5, 2, 4, 1, 5):
        assert await midas.notify("RefundSuccess", "o-1", sequence) == "OK"
    assert [each.sequence for each in server.book.received("o-1")] == [1, 2, 5]


async def test_a_gap_is_accepted_and_logged(
    server: OrderServer, midas: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    """It is this side's own loss: accepted as the contract says, logged and counted."""
    await midas.notify("PayOrderSuccess", "o-1", 4)
    await midas.notify("RefundSuccess", "o-1", 6)
    assert server.book.order("o-1").missed == 4
    assert [each.msg for each in caplog.records] == ["notifications_missed"] * 2


async def test_it_remembers_over_a_restart(tmp_path: Path) -> None:
    """A new service on the file knows what the one before has accepted."""
    options = OrderOptions(file=tmp_path / "orders.sqlite3")
    async with OrderServer(options) as server, caller(server.target) as midas:
        for sequence in (1, 2):
            await midas.notify("RefundSuccess", "o-1", sequence)
    async with OrderServer(options) as server, caller(server.target) as midas:
        for sequence in (2, 1, 3, 1):
            assert await midas.notify("RefundSuccess", "o-1", sequence) == "OK"
        assert [each.sequence for each in server.book.received("o-1")] == [1, 2, 3]


async def test_two_services_on_one_file_have_one_effect(tmp_path: Path) -> None:
    """The file decides, not the process."""
    options = OrderOptions(file=tmp_path / "orders.sqlite3")
    async with OrderServer(options) as one, OrderServer(options) as other:
        async with caller(one.target) as here, caller(other.target) as there:
            copies = [each.notify("RefundSuccess", "o-1", 1) for each in [here, there] * 10]
            assert set(await asyncio.gather(*copies)) == {"OK"}
        assert len(one.book.received("o-1")) == 1


@pytest.mark.parametrize(("order_no", "sequence"), [("", 1), ("o-1", 0), ("o-1", -1)])
async def test_what_belongs_to_nothing_is_refused(
    order_no: str, sequence: int, server: OrderServer, midas: Caller
) -> None:
    """Without order or sequence it can never be taken; a person has to look."""
    assert await midas.notify("PayOrderSuccess", order_no, sequence) == "INVALID_ARGUMENT"
    assert server.book.received() == []


async def test_a_file_that_cannot_be_written_is_not_acknowledged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Disk full: UNAVAILABLE, so Midas sends it again; afterwards it is taken."""
    path = tmp_path / "orders.sqlite3"
    async with OrderServer(OrderOptions(file=path)) as server, caller(server.target) as midas:
        await midas.notify("PayOrderSuccess", "o-1", 1)
        connection = server.book._connection
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count={pages}")
        large = {"body": "x" * 100_000}
        assert await midas.notify("PayOrderSuccess", "o-2", 1, charge=large) == "UNAVAILABLE"
        connection.execute("PRAGMA max_page_count=1000000")
        assert await midas.notify("PayOrderSuccess", "o-2", 1, charge=large) == "OK"
        assert server.book.order("o-2").pay_order_success == 1
    assert "order_file_unwritable" in [each.msg for each in caplog.records]


async def test_a_caller_that_goes_away_changes_nothing(server: OrderServer, midas: Caller) -> None:
    """Given up by deadline, sent again: one effect."""
    server.faults.add({"action": {"kind": "delay", "seconds": 0.5, "when": "after"}})
    request = notification("RefundSuccess", "o-1", 1)
    assert await midas.send("RefundSuccess", request, timeout_s=0.2) == "DEADLINE_EXCEEDED"
    assert await midas.send("RefundSuccess", request) == "OK"
    assert server.book.order("o-1").refund_success == 1


async def test_it_knows_what_happened_to_an_order(server: OrderServer, midas: Caller) -> None:
    """Closed, paid late, paid twice, refunded in part, refund failed: each is on the record."""
    second = {"charge_id": "ch_2", "amount": 100}
    await midas.notify("PayOrderClosed", "o-1", 1)
    assert server.book.order("o-1").state == "CLOSED"
    await midas.notify("PayOrderSuccess", "o-1", 2, late=True)
    await midas.notify("PayOrderSuccess", "o-1", 3, charge=second, duplicate_payment=True)
    await midas.notify("RefundSuccess", "o-1", 4, refund={"refund_no": "r-a", "amount": 30})
    await midas.notify("RefundFailed", "o-1", 5, refund={"refund_no": "r-b", "amount": 70})
    order = server.book.order("o-1")
    assert (order.state, order.late, order.paid_by, order.amount_paid) == (
        "PAID",
        True,
        "ch_1",
        100,
    )
    assert order.money_to_give_back == [("ch_2", 100)]
    assert order.amount_refunded == 30
    assert order.refunds == {"r-a": "SUCCEEDED", "r-b": "FAILED"}


async def test_a_reversal_takes_back_what_was_paid(server: OrderServer, midas: Caller) -> None:
    """PayOrderClosed of a charge that the channel reversed: of the duplicate, then of the first."""
    state = charge_pb2.CHARGE_STATE_REVERSED
    second = {"charge_id": "ch_2", "amount": 100}
    await midas.notify("PayOrderSuccess", "o-1", 1)
    await midas.notify("PayOrderSuccess", "o-1", 2, charge=second, duplicate_payment=True)
    await midas.notify("PayOrderClosed", "o-1", 3, charge={**second, "state": state})
    order = server.book.order("o-1")
    assert (order.state, order.money_to_give_back) == ("PAID", [])
    await midas.notify("PayOrderClosed", "o-1", 4, charge={"state": state})
    order = server.book.order("o-1")
    assert (order.state, order.amount_paid) == ("REVERSED", 0)


async def test_a_superseded_charge_that_closes_leaves_the_order_paid(
    server: OrderServer, midas: Caller
) -> None:
    """The order was paid with another charge: the end of the first one changes nothing."""
    await midas.notify("PayOrderSuccess", "o-1", 1)
    await midas.notify("PayOrderClosed", "o-1", 2, charge={"charge_id": "ch_0"})
    assert server.book.order("o-1").state == "PAID"


EPOCH = 1 << 20


async def test_a_change_of_epoch_is_no_gap(
    server: OrderServer, midas: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    """The first number of a later epoch follows any number; inside of one each has its place."""
    for sequence in (1, 2, EPOCH + 1, 7 * EPOCH + 1, 7 * EPOCH + 2):
        assert await midas.notify("RefundSuccess", "o-1", sequence) == "OK"
    assert (server.book.order("o-1").missed, caplog.records) == (0, [])
    await midas.notify("RefundSuccess", "o-1", 9 * EPOCH + 3)
    assert server.book.order("o-1").missed == 2


async def test_what_is_sent_again_under_another_number_counts_once(
    server: OrderServer, midas: Caller
) -> None:
    """A payment, a late one, a reversal, a refund: all of it twice counts as once."""
    reversed_state = {"charge_id": "ch_2", "state": charge_pb2.CHARGE_STATE_REVERSED}
    story: tuple[tuple[str, dict[str, Any]], ...] = (
        ("PayOrderClosed", {}),
        ("PayOrderSuccess", {"late": True}),
        ("PayOrderSuccess", {"charge": {"charge_id": "ch_2"}, "duplicate_payment": True}),
        ("PayOrderClosed", {"charge": {"charge_id": "ch_2"}}),
        ("PayOrderClosed", {"charge": reversed_state}),
        ("RefundFailed", {"refund": {"refund_no": "r-a", "amount": 30}}),
        ("RefundSuccess", {"refund": {"refund_no": "r-a", "amount": 30}}),
        ("RefundSuccess", {"refund": {"refund_no": "r-b", "amount": 20}}),
    )
    books = []
    for epoch in (0, EPOCH, 5 * EPOCH):
        for number, (method, fields) in enumerate(story, epoch + 1):
            assert await midas.notify(method, "o-1", number, **fields, told_again=epoch > 0) == "OK"
        books.append(server.book.order("o-1"))
    assert [each.last_sequence for each in books] == [8, EPOCH + 8, 5 * EPOCH + 8]
    assert replace(books[1], last_sequence=8) == replace(books[2], last_sequence=8) == books[0]
    assert (books[0].amount_refunded, books[0].refund_success, books[0].state) == (50, 2, "PAID")


async def test_a_sequence_of_something_else_is_refused_with_the_highest(
    server: OrderServer, midas: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    """At every sequence: another id is no repeat, and OK would lose the notification."""
    for sequence in (1, 2, 3):
        assert await midas.notify("RefundSuccess", "o-1", sequence, commit="a") == "OK"
    for sequence in (3, 1):
        assert await midas.notify("RefundSuccess", "o-1", sequence, commit="a") == "OK"
        request = notification("RefundFailed", "o-1", sequence, commit="b")
        with pytest.raises(aio.AioRpcError) as refused:
            await midas.stub.RefundFailed(request)
        failed = CallFailed(refused.value.code().name, _details_of(refused.value))
        assert receiver_sequence(failed) == 3
    assert await midas.notify("RefundSuccess", "o-1", 4, commit="b") == "OK"
    assert [each.sequence for each in server.book.received("o-1")] == [1, 2, 3, 4]
    assert [each.msg for each in caplog.records] == ["sequence_reused"] * 2


@pytest.mark.parametrize("code", [c.name for c in grpc.StatusCode if c is not grpc.StatusCode.OK])
async def test_it_refuses_on_demand(code: str, server: OrderServer, midas: Caller) -> None:
    """The named order only, with the named status, as often as was asked for."""
    refusal = {"kind": "refuse", "code": code}
    server.faults.add({"match": {"order_no": "o-1"}, "count": 2, "action": refusal})
    assert await midas.notify("PayOrderSuccess", "o-2", 1) == "OK"
    answers = [await midas.notify("PayOrderSuccess", "o-1", 1) for _ in range(3)]
    assert answers == [code, code, "OK"]


async def test_it_loses_answers_and_stalls_on_demand(server: OrderServer, midas: Caller) -> None:
    """A lost answer was recorded; a stalled call was not."""
    server.faults.add({"match": {"method": "RefundSuccess"}, "action": {"kind": "lose_answer"}})
    assert await midas.notify("RefundSuccess", "o-1", 1) == "UNAVAILABLE"
    assert len(server.book.received()) == 1
    server.faults.add({"match": {"sequence": 2}, "action": {"kind": "stall"}})
    request = notification("RefundSuccess", "o-1", 2)
    assert await midas.send("RefundSuccess", request, timeout_s=0.3) == "DEADLINE_EXCEEDED"
    assert len(server.book.received()) == 1


async def test_it_goes_down_and_comes_back(server: OrderServer, midas: Caller) -> None:
    """Nobody listens meanwhile; afterwards on the same port."""
    target = server.target
    await server.go_down()
    assert await midas.notify("PayOrderSuccess", "o-1", 1) == "UNAVAILABLE"
    await server.come_up()
    assert server.target == target
    request = notification("PayOrderSuccess", "o-1", 1)
    assert await midas.send("PayOrderSuccess", request, wait=True) == "OK"


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    """A sentence instead of a trace."""
    path = tmp_path / "orders.sqlite3"
    path.write_text("not a database, but long enough to be taken for one" * 10)
    with pytest.raises(SandboxError, match=r"orders\.sqlite3"):
        OrderServer(OrderOptions(file=path))


async def test_a_port_in_use_is_refused(server: OrderServer, tmp_path: Path) -> None:
    """A second service never shares the port."""
    port = int(server.target.rpartition(":")[2])
    second = OrderServer(OrderOptions(file=tmp_path / "other.sqlite3", port=port))
    with pytest.raises(SandboxError, match=str(port)):
        await second.start()
    await second.stop()


async def test_commits_are_durable(server: OrderServer) -> None:
    """WAL with synchronous=FULL: a commit that was acknowledged survives a power cut."""
    connection = server.book._connection
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute(
            "INSERT INTO accepted (kind, order_no, sequence, request) VALUES ('x', 'o', 0, '')"
        )
