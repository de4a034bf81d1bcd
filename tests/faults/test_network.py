"""T4: callers that go away, two Midas at once, and a Ping++ in trouble, over real sockets."""

import asyncio
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode

from midas.v1 import charge_pb2, errors_pb2, refund_pb2
from midas.v1 import payment_service_pb2 as pb
from tests.faults.books import books_agree
from tests.faults.caller import attempt, charge_request, insist, refund_request
from tests.faults.processes import REFUNDS, Harness, Midas, eventually, until
from tests.rpc.scripted import ErrorStatus, error_of

SLOW_S = 2.0
"""What Ping++ takes."""
GONE_AFTER_S = 0.05
"""What the caller waits, once Ping++ has the request."""
SHORT_DEADLINE_S = 0.5
PAIRS = 20
PATIENT = {"PSP_TOTAL_TIMEOUT_S": "10", "SETTLE_WINDOW_S": "10"}


@pytest.mark.parametrize("how", ["hangs up", "deadline"])
async def test_caller_gone_while_charging(how: str, harness: Harness, sqlite_url: str) -> None:
    """What Ping++ answers to nobody is recorded, and the repeated call gets it (F1, R11)."""
    midas = await harness.serve(sqlite_url, **PATIENT)
    harness.fault("delay", seconds=SLOW_S, when="after")
    await _leave(how, midas.stub.Charge, charge_request("gone"), lambda: harness.posts("gone"))
    repeated = await midas.charge("gone")
    assert repeated.charge.state == charge_pb2.CHARGE_STATE_PENDING
    assert repeated.reused
    assert repeated.charge_json
    assert len(harness.posts("gone")) == 1


@pytest.mark.parametrize("how", ["hangs up", "deadline"])
async def test_caller_gone_while_refunding(how: str, harness: Harness, sqlite_url: str) -> None:
    """The same for a refund, and without any repeated call: the stored answer is there."""
    midas = await harness.serve(sqlite_url, **PATIENT)
    await harness.paid(midas, "gone")
    harness.fault("delay", path=REFUNDS, seconds=SLOW_S, when="after")
    request = refund_request("r-gone", "gone")
    await _leave(how, midas.stub.Refund, request, lambda: harness.refund_posts("r-gone"))
    await _refund_is(midas, "gone", refund_pb2.REFUND_STATE_SUCCEEDED)
    repeated = await midas.refund("r-gone", "gone")
    assert repeated.refund.state == refund_pb2.REFUND_STATE_SUCCEEDED
    assert len(harness.refund_posts("r-gone")) == 1
    assert harness.sandbox.requests.count("GET", REFUNDS) == 0, "the answer itself was lost"


async def test_two_processes_one_order(harness: Harness, postgres_url: str) -> None:
    """Two callers at once with one order_no, on two servers: one charge, one POST (R2, I10)."""
    first, second = await _two(harness, postgres_url)
    orders = [f"order-{n}" for n in range(PAIRS)]
    for order_no in orders:
        one, other = await asyncio.gather(first.charge(order_no), second.charge(order_no))
        assert one.charge_json == other.charge_json
        assert one.charge.charge_id == other.charge.charge_id
        assert sorted((one.reused, other.reused)) == [False, True]
        assert len(harness.posts(order_no)) == 1
    await books_agree(postgres_url, orders, harness.sandbox.lookalike)


async def test_two_processes_one_refund(harness: Harness, postgres_url: str) -> None:
    """Two callers at once with one refund_no, on two servers: one refund, one POST (R2, I2)."""
    first, second = await _two(harness, postgres_url)
    orders = [f"order-{n}" for n in range(PAIRS)]
    await asyncio.gather(*(harness.paid(first, each) for each in orders))
    for order_no in orders:
        one, other = await asyncio.gather(
            first.refund(order_no, order_no), second.refund(order_no, order_no)
        )
        assert one.refund.refund_id == other.refund.refund_id != ""
        assert len(harness.refund_posts(order_no)) == 1
    await books_agree(postgres_url, orders, harness.sandbox.lookalike)


async def test_two_processes_last_remaining(harness: Harness, postgres_url: str) -> None:
    """Two refunds of all that is left, on two servers: one is made, one is refused unsent (R4)."""
    first, second = await _two(harness, postgres_url)
    orders = [f"order-{n}" for n in range(PAIRS)]
    await asyncio.gather(*(harness.paid(first, each) for each in orders))
    for order_no in orders:
        ends = await asyncio.gather(
            insist(lambda no=order_no: first.refund(f"{no}-a", no, amount=100)),  # type: ignore[misc]
            insist(lambda no=order_no: second.refund(f"{no}-b", no, amount=100)),  # type: ignore[misc]
        )
        refused = [each for each in ends if isinstance(each, ErrorStatus)]
        assert [each.info.reason for each in refused] == ["REFUND_EXCEEDS_REMAINING"]
        assert refused[0].code is StatusCode.FAILED_PRECONDITION
        assert refused[0].detail.money_moved == errors_pb2.MONEY_MOVED_NO
        posts = harness.refund_posts(f"{order_no}-a") + harness.refund_posts(f"{order_no}-b")
        assert len(posts) == 1
    await books_agree(postgres_url, orders, harness.sandbox.lookalike)


@dataclass(frozen=True)
class Trouble:
    """What the sandbox does to one POST, and the reason that its caller must get."""

    kind: str
    reason: str
    action: dict[str, Any] = field(default_factory=dict)
    arrives: bool = True
    """Whether the request is carried out all the same."""


UNKNOWN = "OUTCOME_UNKNOWN"
TROUBLES = [
    Trouble("lose_request", UNKNOWN, arrives=False),
    Trouble("lose_response", UNKNOWN),
    Trouble("truncate", UNKNOWN, {"bytes": 100}),
    Trouble("garbage", UNKNOWN),
    Trouble("wrong_object", UNKNOWN),
    Trouble("wrong_signature", UNKNOWN),
    Trouble("status", UNKNOWN, {"code": 502, "body": "html"}, arrives=False),
    Trouble("status", UNKNOWN, {"code": 503, "body": "empty"}, arrives=False),
    Trouble("status_after", UNKNOWN, {"code": 502, "body": "html"}),
    Trouble("stall", UNKNOWN, arrives=False),
]
REFUSALS = {
    "throttled": (403, StatusCode.RESOURCE_EXHAUSTED, "PSP_THROTTLED"),
    "rejected": (401, StatusCode.INTERNAL, "PSP_REJECTS_MIDAS"),
}


async def test_charges_in_trouble(
    harness: Harness, sqlite_url: str, subtests: pytest.Subtests
) -> None:
    """Every unreadable answer is unknown; the repeated call finds out; one charge (P10)."""
    midas = await harness.serve(sqlite_url)
    orders = []
    for number, trouble in enumerate(TROUBLES):
        with subtests.test(kind=trouble.kind, number=number):
            orders.append(f"order-{number}")
            harness.fault(trouble.kind, **trouble.action)
            error = await error_of(midas.charge(orders[-1]))
            _assert_unknown(error, trouble.reason)
            again = await insist(lambda: midas.charge(orders[-1]))
            assert isinstance(again, pb.ChargeResponse), again
            assert again.charge.state == charge_pb2.CHARGE_STATE_PENDING
            assert again.charge_json
    await books_agree(sqlite_url, orders, harness.sandbox.lookalike)


async def test_refunds_in_trouble(
    harness: Harness, sqlite_url: str, subtests: pytest.Subtests
) -> None:
    """Unknown too; what arrived is found, what did not is an operator's, never resent (P6, P10)."""
    midas = await harness.serve(sqlite_url)
    orders = [f"order-{number}" for number, _ in enumerate(TROUBLES)]
    await asyncio.gather(*(harness.paid(midas, each) for each in orders))
    for order_no, trouble in zip(orders, TROUBLES, strict=True):
        with subtests.test(kind=trouble.kind, order_no=order_no):
            harness.fault(trouble.kind, path=REFUNDS, **trouble.action)
            _assert_unknown(await error_of(midas.refund(order_no, order_no)), trouble.reason)
            if trouble.arrives:
                again = await insist(lambda no=order_no: midas.refund(no, no))  # type: ignore[misc]
                assert isinstance(again, pb.RefundResponse), again
                assert again.refund.state == refund_pb2.REFUND_STATE_SUCCEEDED
    lost = [no for no, each in zip(orders, TROUBLES, strict=True) if not each.arrives]
    ends = await asyncio.gather(*(insist(lambda no=no: midas.refund(no, no)) for no in lost))  # type: ignore[misc]
    for order_no, end in zip(lost, ends, strict=True):
        with subtests.test(lost=order_no):
            assert isinstance(end, ErrorStatus), end
            assert end.info.reason == "OUTCOME_NEEDS_OPERATOR"
            assert end.detail.retry == errors_pb2.RETRY_NEVER
    assert all(len(harness.refund_posts(each)) == 1 for each in orders)
    await books_agree(sqlite_url, orders, harness.sandbox.lookalike)


@pytest.mark.parametrize("name", REFUSALS)
async def test_refusals_move_nothing(name: str, harness: Harness, sqlite_url: str) -> None:
    """A refusal that Ping++ answered is an error as such; the same key works later (P10)."""
    status, code, reason = REFUSALS[name]
    midas = await harness.serve(sqlite_url)
    harness.fault("status", code=status)
    error = await error_of(midas.charge("refused"))
    assert (error.code, error.info.reason) == (code, reason)
    assert error.detail.money_moved == errors_pb2.MONEY_MOVED_NO
    assert (await midas.charge("refused")).charge.state == charge_pb2.CHARGE_STATE_PENDING


@pytest.mark.parametrize("changes", [{"amount": 1}, {"currency": "usd"}, {"livemode": True}])
async def test_another_charge_than_asked(
    changes: dict[str, Any], harness: Harness, sqlite_url: str
) -> None:
    """An answer with another amount, currency or mode is quarantined: an operator (P11, I4)."""
    midas = await harness.serve(sqlite_url)
    harness.fault("alter", fields=changes)
    for _ in range(2):
        error = await error_of(midas.charge("altered"))
        assert (error.code, error.info.reason) == (StatusCode.UNKNOWN, "OUTCOME_NEEDS_OPERATOR")
    charges = (await midas.query("altered")).charges
    assert [each.needs_operator for each in charges] == [True]
    assert charges[0].state == charge_pb2.CHARGE_STATE_SUBMITTING
    assert len(harness.posts("altered")) == 1


async def test_ping_is_down(harness: Harness, sqlite_url: str) -> None:
    """UNAVAILABLE, nothing moved; calls rest after a while, and come back by themselves (P14)."""
    midas = await harness.serve(sqlite_url)
    await harness.sandbox.go_down()
    for number in range(6):
        error = await error_of(midas.charge(f"down-{number}"))
        assert (error.code, error.info.reason) == (StatusCode.UNAVAILABLE, "PSP_UNAVAILABLE")
        assert error.detail.money_moved == errors_pb2.MONEY_MOVED_NO
        assert error.detail.retry == errors_pb2.RETRY_SAME_KEY
        assert error.retry is not None
    resting = await error_of(midas.query("down-5"))
    assert resting.code is StatusCode.NOT_FOUND, "written, though the breaker was open"
    states = [each.state for each in (await midas.query("down-0")).charges]
    assert states == [charge_pb2.CHARGE_STATE_FAILED]
    await harness.sandbox.start()
    back = await eventually(lambda: attempt(midas.charge("down-0")), _is_not_unavailable)
    assert isinstance(back, pb.ChargeResponse), back
    assert back.charge.state == charge_pb2.CHARGE_STATE_PENDING
    assert len(harness.posts("down-0")) == 1


async def test_refund_queues_while_ping_is_down(
    harness: Harness, sqlite_url: str, sqlite_path: Path
) -> None:
    """A refund that was written down goes out by itself once Ping++ is back, once (P14)."""
    midas = await harness.serve(sqlite_url)
    await harness.paid(midas, "queued")
    fetch = "/v1/charges/[^/]+"
    harness.fault("delay", "GET", fetch, seconds=1.0)
    calling = asyncio.ensure_future(error_of(midas.refund("r-queued", "queued")))
    requests = harness.sandbox.requests
    await until(lambda: requests.count("GET", fetch), "the fetch of the charge")
    with sqlite3.connect(sqlite_path) as lock:  # it cannot go on to the POST meanwhile
        lock.execute("BEGIN IMMEDIATE")
        await until(lambda: requests.matching("GET", fetch)[0].status, "its answer")
        await harness.sandbox.go_down()
    lock.close()
    error = await calling
    assert (error.code, error.info.reason) == (StatusCode.UNAVAILABLE, "PSP_UNAVAILABLE")
    assert error.detail.money_moved == errors_pb2.MONEY_MOVED_UNKNOWN
    assert harness.refund_posts("r-queued") == []
    await _refund_is(midas, "queued", refund_pb2.REFUND_STATE_SUBMITTING)
    await harness.sandbox.start()
    await _refund_is(midas, "queued", refund_pb2.REFUND_STATE_SUCCEEDED)
    assert len(harness.refund_posts("r-queued")) == 1
    await books_agree(sqlite_url, ["queued"], harness.sandbox.lookalike)


async def _two(harness: Harness, url: str) -> tuple[Midas, Midas]:
    changes = {"WORKERS": "2", **PATIENT}
    first, second = await asyncio.gather(
        harness.serve(url, name="first", **changes), harness.serve(url, name="second", **changes)
    )
    return first, second


async def _leave(how: str, method: Any, request: Any, posts: Callable[[], Any]) -> None:
    """Call, and be gone before Ping++ has answered."""
    calling = method(request, timeout=SHORT_DEADLINE_S if how == "deadline" else None)
    await until(posts, "the call to Ping++")
    if how == "hangs up":
        await asyncio.wait([asyncio.ensure_future(_ended(calling))], timeout=GONE_AFTER_S)
        calling.cancel()
    await _ended(calling)
    assert calling.done()
    expected = StatusCode.DEADLINE_EXCEEDED if how == "deadline" else StatusCode.CANCELLED
    assert await calling.code() is expected


async def _ended(calling: Any) -> None:
    await calling.code()


async def _refund_is(midas: Midas, order_no: str, state: Any) -> None:
    await eventually(
        lambda: midas.query(order_no), lambda shown: shown.charges[0].refunds[0].state == state
    )


def _is_not_unavailable(end: object) -> bool:
    return not (isinstance(end, ErrorStatus) and end.code is StatusCode.UNAVAILABLE)


def _assert_unknown(error: ErrorStatus, reason: str) -> None:
    assert (error.code, error.info.reason) == (StatusCode.UNKNOWN, reason)
    assert error.detail.money_moved == errors_pb2.MONEY_MOVED_UNKNOWN
    assert error.detail.retry == errors_pb2.RETRY_SAME_KEY
    assert error.detail.HasField("query_after")
