"""Callers and payers for whom a failover is a long call: they insist, repeat, and pay.

They do all that a lost commit could hide: a charge is asked for again when it was handed out
already, and a payer who gets a second one pays that, too; refunds are repeated at both replicas, at
once and later; some answers of Ping++ are lost, so that outcomes are unknown while the database
fails over.
"""

import asyncio
import math
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from midas.sandbox.errors import ControlError
from midas.v1 import payment_service_pb2 as pb
from tests.failovers.stage import Stage
from tests.faults.caller import charge_request, refund_request
from tests.faults.processes import CHARGES, REFUNDS, until
from tests.faults.webhook_load import AGAIN, CALL_TIMEOUT_S, FINAL, Answer, Load

if TYPE_CHECKING:
    from midas.v1.payment_service_pb2_grpc import PaymentServiceAsyncStub

CHANNELS = {
    "wx_pub_qr": 4,
    "alipay_qr": 3,
    "alipay": 3,
    "wx_pub_scan": 2,
    "alipay_scan": 2,
}
"""How often each is taken. Ping++ takes the same terms for the same charge for two hours on
WeChat's, for a minute on Alipay's; the bar codes take the money at once."""
BAR_CODES = {"wx_pub_scan", "alipay_scan"}
PAID = 0.9
PAID_LATE = 0.2
"""Of those that are paid: not at once."""
TWICE = 0.3
"""Of all calls: two callers make the same one at once."""
AGAIN_LATER = 0.3
"""Of all charges and refunds: the same call again when it was answered, perhaps elsewhere."""
REFRESHED = 0.2
ANSWER_LOST = 0.05
REFUNDS_OF_100 = ((), (), (100,), (40,), (40, 60), (30, 30))
BANK_S = 4.0
"""The longest that the bank takes for a refund."""
REFUSED_AFTER_LOSS = {
    "NOT_FOUND",
    "REFUND_NOT_ALLOWED",
    "REFUND_EXCEEDS_REMAINING",
    "REFUND_NO_REUSED",
    "CHARGE_REFUSED",
}
"""Reasons with which an honest Midas may refuse what it once knew and has lost."""


class Shop(Load):
    """The load. `refused` are the answers that no caller should have got, each with its order."""

    def __init__(self, stage: Stage, rng: random.Random) -> None:
        super().__init__(stage.chain, stage.ports, rng)
        self.refused: list[str] = []
        self._stage = stage
        self._plan = stage.plan
        self._lookalike = stage.harness.sandbox.lookalike
        self._later: set[asyncio.Task[None]] = set()

    async def run(self, callers: int) -> None:
        """See `Load`; what payers and the bank put off is done as well."""
        await super().run(callers)
        while self._later:
            await asyncio.gather(*self._later)

    async def begun(self, orders: int) -> None:
        """Wait until so many more orders are begun."""
        wanted = len(self.order_nos) + orders
        await until(lambda: len(self.order_nos) >= wanted, patience_s=math.inf)

    async def _order(self, order_no: str) -> None:
        channel = self._rng.choices([*CHANNELS], [*CHANNELS.values()])[0]
        self._lose_an_answer(CHARGES)
        request = charge_request(order_no, channel=channel)
        if not await self._charged(order_no, request) and channel not in BAR_CODES:
            return
        if self._rng.random() < REFRESHED:
            await self._refreshed(order_no)
        if self._rng.random() < AGAIN_LATER:
            await self._charged(order_no, request)
        # Not the other way round: what was refunded in full may be charged and paid once more.
        for number, amount in enumerate(self._rng.choice(REFUNDS_OF_100), 1):
            await self._refund(f"{order_no}-{number}", order_no, amount)
        await asyncio.sleep(self._rng.random() * self._plan.pause_s)

    async def _charged(self, order_no: str, request: pb.ChargeRequest) -> bool:
        """Ask for a charge, and pay every one that is handed out; whether it is paid by now."""
        answers = await self._called(
            order_no, lambda stub: stub.Charge(request, timeout=CALL_TIMEOUT_S)
        )
        handed_out = {each.charge.charge_id for each in answers}
        if not handed_out or self._rng.random() > PAID:
            return False
        if self._rng.random() < PAID_LATE:
            self._put_off(
                self._rng.random() * self._plan.late_s, partial(self._pay_all, handed_out)
            )
            return False
        self._pay_all(handed_out)
        return True

    def _pay_all(self, charge_ids: set[str]) -> None:
        for each in sorted(charge_ids):
            with suppress(ControlError):  # reversed meanwhile
                self._lookalike.pay(each)

    async def _refreshed(self, order_no: str) -> None:
        request = pb.QueryRequest(order_no=order_no, refresh=True)
        await self._called(order_no, lambda stub: stub.Query(request, timeout=CALL_TIMEOUT_S))

    async def _refund(self, refund_no: str, order_no: str, amount: int) -> None:
        self._lose_an_answer(REFUNDS)
        request = refund_request(refund_no, order_no, amount=amount)

        def call(stub: "PaymentServiceAsyncStub") -> Awaitable[pb.RefundResponse]:
            return stub.Refund(request, timeout=CALL_TIMEOUT_S)

        for _ in range(1 + (self._rng.random() < AGAIN_LATER)):
            for answer in await self._called(order_no, call):
                if answer.refund.refund_id:
                    decides = partial(self._approve, answer.refund.refund_id)
                    self._put_off(self._rng.random() * BANK_S, decides)

    def _approve(self, refund_id: str) -> None:
        with suppress(ControlError):  # it succeeded at once
            self._lookalike.approve_refund(refund_id)

    def _put_off(self, seconds: float, deed: Callable[[], Any]) -> None:
        async def later() -> None:
            await asyncio.sleep(seconds)
            deed()

        task = asyncio.create_task(later())
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    async def _called(
        self, order_no: str, call: Callable[["PaymentServiceAsyncStub"], Awaitable[Answer]]
    ) -> list[Answer]:
        """One call, or the same one twice at once: what was answered."""
        callers = 1 + (self._rng.random() < TWICE)
        calls = (self._insist(call, order_no) for _ in range(callers))
        return [each for each in await asyncio.gather(*calls) if each is not None]

    def _is_final(self, reason: str, order_no: str) -> bool:
        """Whether the caller gives up. A reason that no caller may get is recorded."""
        if reason in AGAIN or reason in ("CHARGE_NOT_MADE", "CHARGE_STILL_OPEN"):
            return False
        expected = FINAL | REFUSED_AFTER_LOSS if self._plan.lossy else FINAL
        if reason not in expected:
            self.refused.append(f"{order_no}: {reason}")
        return True

    def _lose_an_answer(self, path: str) -> None:
        if self._rng.random() < ANSWER_LOST:
            self._stage.harness.fault("lose_response", path=path)
