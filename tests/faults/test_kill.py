"""T4: `kill -9` at each named point of charge and refund, in real processes (reliability.md 3)."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from grpc import StatusCode, aio

from midas.v1 import charge_pb2, refund_pb2
from midas.v1 import payment_service_pb2 as pb
from tests.faults.books import books_agree
from tests.faults.caller import insist
from tests.faults.processes import CHARGES, REFUNDS, Harness, Midas, until
from tests.faults.victim import NOWHERE, ORDER, POINT, VICTIM

STARTS_AT_ONCE = 3
NEVER_S = 600.0
"""Longer than any test waits."""
LATE_S = 1.0
"""Shorter than SETTLE_WINDOW_S: how long a request may still travel when its sender is dead."""
KILLED = -signal.SIGKILL

CHARGE_POINTS = [
    "new_charge.before",  # before C1
    "new_charge.inside",
    "new_charge.after",  # C1-C2
    "during",
    "late",
    "create_charge.after",  # C2-C3
    "charge.inside",
    "charge.after",  # C3-C4
]
REFUND_POINTS = [
    "retrieve_charge.before",
    "retrieve_charge.after",
    "charge.inside",
    "charge.after",
    "new_refund.inside",
    "new_refund.after",  # R1-R2
    "during",
    "late",
    "create_refund.after",  # R2-R3
    "refund.inside",
    "refund.after",  # R3-R4
]
SOME_CHARGE_POINTS = ["new_charge.inside", "create_charge.after", "charge.inside"]
SOME_REFUND_POINTS = ["new_refund.inside", "create_refund.after", "refund.inside"]

WRITTEN_NEVER_SENT = "new_refund.after"


@dataclass
class Killing:
    """Victims of one kind on one database."""

    harness: Harness
    url: str
    path: str
    """Where at the sandbox the deadly call goes."""
    starting: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(STARTS_AT_ONCE))
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def at(
        self, point: str, order_no: str, call: Callable[[Midas], Awaitable[object]]
    ) -> None:
        """Make the call to a process that dies at this point of it."""
        from_outside = point in ("during", "late")
        fate = {POINT: NOWHERE if from_outside else point, ORDER: order_no}
        async with self.starting:
            victim = await self.harness.serve(self.url, *VICTIM, name=point, **fate)
        async with self.turn:
            if from_outside:
                await self._kill_under_way(victim, point, call)
            else:
                await _lost(call(victim))
            assert await victim.ended() == KILLED, f"{point} was not reached"

    async def _kill_under_way(
        self, victim: Midas, point: str, call: Callable[[Midas], Awaitable[object]]
    ) -> None:
        """Once the sandbox has carried it out (during), or shortly before it does (late)."""
        late = point == "late"
        seconds, when = (LATE_S, "before") if late else (NEVER_S, "after")
        self.harness.fault("delay", path=self.path, seconds=seconds, when=when)
        log = self.harness.sandbox.requests
        before = log.count("POST", self.path)
        calling = asyncio.ensure_future(_lost(call(victim)))
        await until(lambda: log.count("POST", self.path) > before, "the call to Ping++")
        post = log.matching("POST", self.path)[-1]
        await until(lambda: late or post.handled, "the effect at Ping++")
        assert post.handled is not late
        victim.send(signal.SIGKILL)
        await calling


@pytest.mark.parametrize(
    ("channel", "engine", "points"),
    [
        pytest.param("wx_pub_qr", "sqlite", CHARGE_POINTS, marks=pytest.mark.long),
        pytest.param("wx_pub_scan", "sqlite", CHARGE_POINTS, marks=pytest.mark.long),
        ("wx_pub_qr", "postgres", SOME_CHARGE_POINTS),
    ],
)
async def test_killed_while_charging(
    channel: str,
    engine: str,
    points: list[str],
    harness: Harness,
    request: pytest.FixtureRequest,
    subtests: pytest.Subtests,
) -> None:
    """Wherever Charge is killed, the repeated call ends as if nothing had happened (I1, I3, I5)."""
    url = request.getfixturevalue(f"{engine}_url")
    killing = Killing(harness, url, CHARGES)
    await asyncio.gather(
        *(killing.at(point, point, _charging(point, channel)) for point in points),
    )
    survivor = await harness.serve(url, name="survivor")
    ends = await asyncio.gather(
        *(_end_of_charge(harness, survivor, point, channel) for point in points),
        return_exceptions=True,
    )
    _each_holds(subtests, points, ends)
    await books_agree(url, points, harness.sandbox.lookalike)
    assert await survivor.stop() == 0


@pytest.mark.parametrize(
    ("engine", "points"),
    [
        pytest.param("sqlite", REFUND_POINTS, marks=pytest.mark.long),
        ("postgres", SOME_REFUND_POINTS),
    ],
)
async def test_killed_while_refunding(
    engine: str,
    points: list[str],
    harness: Harness,
    request: pytest.FixtureRequest,
    subtests: pytest.Subtests,
) -> None:
    """Wherever Refund is killed: one refund, or an operator where it may never have been sent."""
    url = request.getfixturevalue(f"{engine}_url")
    await _paid_orders(harness, url, points)
    killing = Killing(harness, url, REFUNDS)
    await asyncio.gather(*(killing.at(point, point, _refunding(point)) for point in points))
    survivor = await harness.serve(url, name="survivor")
    ends = await asyncio.gather(
        *(_end_of_refund(harness, survivor, point, engine) for point in points),
        return_exceptions=True,
    )
    _each_holds(subtests, points, ends)
    await books_agree(url, points, harness.sandbox.lookalike)
    assert await survivor.stop() == 0


RECOVERIES = [
    ("wx_pub_qr", ["create_charge.after", "claim.after", "create_charge.after", "charge.inside"]),
    ("wx_pub_scan", ["create_charge.after", "list_charges.after", "charge.inside"]),
    ("refund", ["create_refund.after", "list_refunds.after", "refund.inside"]),
]


@pytest.mark.parametrize(("what", "points"), RECOVERIES, ids=[each[0] for each in RECOVERIES])
@pytest.mark.long
async def test_killed_while_recovering(
    what: str, points: list[str], harness: Harness, sqlite_url: str
) -> None:
    """Killed in the call, killed in the recovery, and killed there again: still once (R9)."""
    order_no = "again"
    is_refund = what == "refund"
    if is_refund:
        await _paid_orders(harness, sqlite_url, [order_no])
    call = _refunding(order_no) if is_refund else _charging(order_no, what)
    await Killing(harness, sqlite_url, CHARGES).at(points[0], order_no, call)
    for point in points[1:]:
        fate = {POINT: point, ORDER: order_no}
        victim = await harness.launch(sqlite_url, *VICTIM, name=point, **fate)
        assert await victim.ended() == KILLED, f"{point} was not reached"
    survivor = await harness.serve(sqlite_url, name="survivor")
    if is_refund:
        await _end_of_refund(harness, survivor, order_no, "sqlite")
        assert len(harness.refund_posts(order_no)) == 1
    else:
        await _end_of_charge(harness, survivor, order_no, what)
    await books_agree(sqlite_url, [order_no], harness.sandbox.lookalike)
    assert await survivor.stop() == 0


def _charging(order_no: str, channel: str) -> Callable[[Midas], Awaitable[object]]:
    return lambda midas: midas.charge(order_no, channel=channel)


def _refunding(order_no: str) -> Callable[[Midas], Awaitable[object]]:
    return lambda midas: midas.refund(order_no, order_no)


async def _paid_orders(harness: Harness, url: str, order_nos: list[str]) -> None:
    midas = await harness.serve(url, name="shop")
    await asyncio.gather(*(harness.paid(midas, each) for each in order_nos))
    assert await midas.stop() == 0


async def _lost(call: Awaitable[object]) -> None:
    """The caller of a process that dies gets UNAVAILABLE for the connection, and nothing more."""
    with pytest.raises(aio.AioRpcError) as lost:
        await call
    assert lost.value.code() is StatusCode.UNAVAILABLE


async def _end_of_charge(harness: Harness, midas: Midas, order_no: str, channel: str) -> None:
    """The caller repeats the call, the payer pays, and a query shows that it is paid, once."""
    answer = await insist(lambda: midas.charge(order_no, channel=channel))
    if channel == "wx_pub_scan":
        assert isinstance(answer, pb.ChargeResponse) or answer.info.reason == "ORDER_ALREADY_PAID"
    else:
        assert isinstance(answer, pb.ChargeResponse), answer
        assert answer.charge_json
        harness.pay(answer)
    shown = await midas.query(order_no, refresh=True)
    states = [each.state for each in shown.charges]
    assert states.count(charge_pb2.CHARGE_STATE_SUCCEEDED) == 1, shown
    others = {charge_pb2.CHARGE_STATE_SUCCEEDED, charge_pb2.CHARGE_STATE_FAILED}
    assert set(states) <= others, shown
    made = [harness.sandbox.lookalike.charges_of(each.out_trade_no) for each in shown.charges]
    assert sum(map(len, made)) == 1, "I1: another charge at Ping++"


async def _end_of_refund(harness: Harness, midas: Midas, order_no: str, engine: str) -> None:
    """The caller repeats the call: done once, or for an operator if nobody can know."""
    answer = await insist(lambda: midas.refund(order_no, order_no))
    charge_id = (await midas.query(order_no)).charges[0].charge_id
    made = harness.sandbox.lookalike.refunds_of(charge_id)
    if isinstance(answer, pb.RefundResponse):
        assert order_no != WRITTEN_NEVER_SENT, "sent again, though the first may be on its way"
        assert answer.refund.state == refund_pb2.REFUND_STATE_SUCCEEDED, answer
        assert [each["id"] for each in made] == [answer.refund.refund_id], "I2"
        return
    # on PostgreSQL the commit inside which it died may have landed
    unsure = {WRITTEN_NEVER_SENT} | ({"new_refund.inside"} if engine == "postgres" else set())
    assert order_no in unsure, answer
    assert answer.info.reason == "OUTCOME_NEEDS_OPERATOR", answer
    assert made == []


def _each_holds(subtests: pytest.Subtests, points: list[str], ends: list[Any]) -> None:
    for point, end in zip(points, ends, strict=True):
        with subtests.test(point=point):
            if isinstance(end, BaseException):
                raise end
