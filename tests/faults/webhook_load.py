"""Callers and payers who go on when anything dies: most orders are paid, and many refunded."""

import asyncio
import math
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from grpc import aio

from midas.v1 import payment_service_pb2 as pb
from midas.v1.payment_service_pb2_grpc import PaymentServiceStub
from tests.faults.caller import charge_request, refund_request
from tests.faults.processes import until
from tests.faults.webhook_stage import Chain

if TYPE_CHECKING:
    from midas.v1.payment_service_pb2_grpc import PaymentServiceAsyncStub

Answer = TypeVar("Answer")

CALL_TIMEOUT_S = 5.0
PAUSE_S = 0.1
PAID = 0.9
BAR_CODES = 0.2
"""Of all charges: paid by the create call itself."""
REFUNDED = 0.5
SPOILT = 0.1
"""Of all payments: their webhook comes several times at once, or behind the refund's."""
AGAIN = {
    "",
    "OUTCOME_UNKNOWN",
    "STORAGE_UNAVAILABLE",
    "PSP_UNAVAILABLE",
    "OVERLOADED",
    "INTERRUPTED",
}
"""Reasons with which a caller tries again under the same key. Empty: the connection was lost."""
FINAL = {"OUTCOME_NEEDS_OPERATOR", "ORDER_ALREADY_PAID"}
"""Reasons that a caller who repeats a call may get in the end."""
_RECONNECT = (("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 500))


class Load:
    """So many callers at once, until `stop`; `order_nos` are all orders that were begun."""

    def __init__(self, chain: Chain, ports: list[int], rng: random.Random) -> None:
        self.order_nos: list[str] = []
        self.ends: Counter[str] = Counter()
        """How calls ended, those that were repeated by their reason."""
        self._chain = chain
        self._rng = rng
        self._stopping = False
        self._channels = [aio.insecure_channel(f"127.0.0.1:{each}", _RECONNECT) for each in ports]
        self._stubs: list[PaymentServiceAsyncStub] = [
            PaymentServiceStub(each) for each in self._channels
        ]

    async def run(self, callers: int) -> None:
        """Call until `stop`, and let every order that was begun come to its end."""
        await asyncio.gather(*(self._shop() for _ in range(callers)))

    def stop(self) -> None:
        """Begin no more orders."""
        self._stopping = True

    async def close(self) -> None:
        """Let go of the connections."""
        await asyncio.gather(*(each.close() for each in self._channels))

    async def _shop(self) -> None:
        while not self._stopping:
            order_no = f"o-{len(self.order_nos)}"
            self.order_nos.append(order_no)
            await self._order(order_no)

    async def _order(self, order_no: str) -> None:
        bar_code = self._rng.random() < BAR_CODES
        request = charge_request(order_no, channel="wx_pub_scan" if bar_code else "wx_pub_qr")
        charge = await self._insist(lambda stub: stub.Charge(request, timeout=CALL_TIMEOUT_S))
        if not bar_code:
            if charge is None or self._rng.random() > PAID:
                return
            self._pay(charge)
        if self._rng.random() > REFUNDED:
            return
        if self._rng.random() < 0.5:
            await self._notified(order_no)
        for amount in (40, 60)[: self._rng.randint(1, 2)]:
            await self._refund(f"{order_no}-{amount}", order_no, amount)

    async def _notified(self, order_no: str) -> None:
        """Wait until the order service knows that it is paid, or the killing is over."""

        def notified() -> bool:
            return self._stopping or self._chain.book.order(order_no).state == "PAID"

        await until(notified, patience_s=math.inf)

    async def _refund(self, refund_no: str, order_no: str, amount: int) -> None:
        request = refund_request(refund_no, order_no, amount=amount)
        await self._insist(lambda stub: stub.Refund(request, timeout=CALL_TIMEOUT_S))

    def _pay(self, charge: pb.ChargeResponse) -> None:
        match = {"order_no": charge.charge.out_trade_no}
        if self._rng.random() < SPOILT:
            kind: dict[str, Any] = self._rng.choice(
                (
                    {"kind": "webhook_duplicate", "times": 3, "together": True},
                    {"kind": "webhook_reorder", "behind": "order", "at_most_s": 3},
                )
            )
            self._chain.webhook_fault(match=match, **kind)
        self._chain.harness.pay(charge)

    async def _insist(
        self, call: Callable[["PaymentServiceAsyncStub"], Awaitable[Answer]], order_no: str = ""
    ) -> Answer | None:
        """Repeat it, at any Midas, until there is an answer or a final refusal (None)."""
        while True:
            try:
                answer = await call(self._rng.choice(self._stubs))
            except aio.AioRpcError as error:
                failed = error
            else:
                self.ends["OK"] += 1
                return answer
            reason = _reason(failed)
            self.ends[reason or failed.code().name] += 1
            if self._is_final(reason, order_no):
                return None
            await asyncio.sleep(PAUSE_S)

    def _is_final(self, reason: str, order_no: str) -> bool:
        """Whether the caller gives up. AssertionError for a reason that no caller may get."""
        assert reason in FINAL | AGAIN, f"{order_no} {reason}"
        return reason in FINAL


def _reason(error: aio.AioRpcError) -> str:
    """The reason that Midas gave; empty if the connection was lost."""
    trailers = dict(error.trailing_metadata() or ())
    packed = trailers.get("grpc-status-details-bin")
    if packed is None:
        return ""
    for each in status_pb2.Status.FromString(packed).details:
        info = error_details_pb2.ErrorInfo()
        if each.Unpack(info):
            return str(info.reason)
    return ""
