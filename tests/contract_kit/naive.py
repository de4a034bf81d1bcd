"""Order services as they are written before the contract is read to its end.

    python -m tests.contract_kit.naive serve VARIANT PORT FILE
    python -m tests.contract_kit.naive show PORT ORDER_NO

Each variant makes one typical mistake; `right` makes none. What a running one has done with an
order it shows itself, so that it is judged by what it believes.
"""

import asyncio
import json
import os
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from grpc import aio

from midas.order.v1 import order_payment_service_pb2 as pb
from midas.v1 import charge_pb2

SERVICE = "midas.order.v1.OrderPaymentService"
SHOW = "/naive.Naive/Show"
COUNTERS = {
    "PayOrderSuccess": "pay_order_success",
    "PayOrderClosed": "pay_order_closed",
    "RefundSuccess": "refund_success",
    "RefundFailed": "refund_failed",
}
REQUESTS = {name: getattr(pb, f"{name}Request") for name in COUNTERS}
RESPONSES = {name: getattr(pb, f"{name}Response") for name in COUNTERS}


class Right:
    """Effects and the highest sequence of each order, in a file of lines.

    It keeps no id beside that: it does not notice a sequence that comes again with something else.
    """

    def __init__(self, path: Path) -> None:
        self.effects: defaultdict[str, dict[str, int]] = defaultdict(
            lambda: dict.fromkeys(COUNTERS.values(), 0)
        )
        self.highest: defaultdict[str, int] = defaultdict(int)
        self.done: set[tuple[str, str]] = set()
        if path.exists():
            for line in path.read_text().splitlines():
                self.remember(*json.loads(line))
        self.file = path.open("a")

    def remember(self, order_no: str, sequence: int, counter: str, what: str) -> None:
        """In memory."""
        self.effects[order_no][counter] += (counter, what) not in self.done
        self.done.add((counter, what))
        self.highest[order_no] = max(self.highest[order_no], sequence)

    def write(self, *effect: Any) -> None:
        """On disk."""
        self.file.write(json.dumps(effect) + "\n")
        self.file.flush()
        os.fsync(self.file.fileno())

    async def take(self, method: str, request: Any, context: Any) -> None:
        """One call."""
        if self.is_new(request):
            self.apply(method, request)

    def is_new(self, request: Any) -> bool:
        """Whether it has not been received."""
        return bool(request.sequence > self.highest[request.order_no])

    def apply(self, method: str, request: Any) -> None:
        """Its effect, unless that payment or refund has had it under another sequence."""
        refunds = method.startswith("Refund")
        what = request.refund.refund_no if refunds else request.charge.out_trade_no
        effect = request.order_no, request.sequence, COUNTERS[method], self.key(what)
        self.write(*effect)
        self.remember(*effect)

    def key(self, what: str) -> str:
        """What counts once."""
        return what


class CountsMessages(Right):
    """Looks at the sequence alone."""

    def key(self, what: str) -> str:
        """Each message that it takes for new counts."""
        return str(uuid4())


class BelievesTheFlag(CountsMessages):
    """Skips what Midas says that it tells again, and counts everything else."""

    def is_new(self, request: Any) -> bool:
        """Whether Midas does not say that it is not."""
        return super().is_new(request) and not request.told_again


class SmallNumbers(Right):
    """Keeps sequences in 32 bits."""

    async def take(self, method: str, request: Any, context: Any) -> None:
        """One call."""
        if request.sequence >= 2**31:
            await context.abort(grpc.StatusCode.INTERNAL, "integer out of range")
        await super().take(method, request, context)


class NoticesUsedSequences(Right):
    """Keeps the id of the highest sequence beside it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.ids: dict[str, str] = {}

    async def take(self, method: str, request: Any, context: Any) -> None:
        """One call."""
        order_no, highest = request.order_no, self.highest[request.order_no]
        known = self.ids.get(order_no, request.notification_id)
        if request.sequence == highest and request.notification_id != known:
            await context.abort(*_sequence_reused(highest))
        await super().take(method, request, context)
        if self.highest[order_no] == request.sequence:
            self.ids[order_no] = request.notification_id


def _sequence_reused(highest: int) -> tuple[grpc.StatusCode, str, Any]:
    info = error_details_pb2.ErrorInfo(reason="SEQUENCE_REUSED", domain="midas")
    info.metadata["sequence"] = str(highest)
    status = status_pb2.Status(code=9, message="used before")
    status.details.add().Pack(info)
    details = (("grpc-status-details-bin", status.SerializeToString()),)
    return grpc.StatusCode.FAILED_PRECONDITION, status.message, details


class AppliesAll(CountsMessages):
    """Never looks at the sequence."""

    def is_new(self, request: Any) -> bool:
        """It always is."""
        return True


class Forgets(CountsMessages):
    """Keeps the effects on disk, but what it has received in memory only."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.highest.clear()


class AnswersFirst(Right):
    """Writes to disk some time after it has answered."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.later: set[asyncio.Task[None]] = set()

    def write(self, *effect: Any) -> None:
        """Not now."""
        task = asyncio.create_task(self.write_later(*effect))
        self.later.add(task)
        task.add_done_callback(self.later.discard)

    async def write_later(self, *effect: Any) -> None:
        """Now."""
        await asyncio.sleep(0.1)
        super().write(*effect)


class RefusesOlder(Right):
    """Takes an older one for an error."""

    async def take(self, method: str, request: Any, context: Any) -> None:
        """One call."""
        if request.sequence < self.highest[request.order_no]:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "out of order")
        await super().take(method, request, context)


class RefusesRepeats(Right):
    """Takes a repeat for an error."""

    async def take(self, method: str, request: Any, context: Any) -> None:
        """One call."""
        if request.sequence == self.highest[request.order_no]:
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, "received before")
        await super().take(method, request, context)


class AppliesOlder(CountsMessages):
    """Compares with the last message only."""

    def __init__(self, path: Path) -> None:
        self.last: dict[str, int] = {}
        super().__init__(path)

    def remember(self, order_no: str, sequence: int, counter: str, what: str) -> None:
        """And the last one."""
        super().remember(order_no, sequence, counter, what)
        self.last[order_no] = sequence

    def is_new(self, request: Any) -> bool:
        """Whether it is not the last one."""
        return bool(self.last.get(request.order_no) != request.sequence)


class RefusesGaps(Right):
    """Insists on the next one."""

    async def take(self, method: str, request: Any, context: Any) -> None:
        """One call."""
        if request.sequence > self.highest[request.order_no] + 1:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "one is missing")
        await super().take(method, request, context)


class LooksThenWrites(CountsMessages):
    """Asks first, does something else, and writes then."""

    async def take(self, method: str, request: Any, context: Any) -> None:
        """One call."""
        if self.is_new(request):
            await asyncio.sleep(0.1)
            self.apply(method, request)


class OneAtATime(Right):
    """One lock for everything, and slow."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.lock = asyncio.Lock()

    async def take(self, method: str, request: Any, context: Any) -> None:
        """One call."""
        async with self.lock:
            await asyncio.sleep(0.15)
            await super().take(method, request, context)


class TooSlow(Right):
    """Does its work before it answers the payment that came late."""

    async def take(self, method: str, request: Any, context: Any) -> None:
        """One call."""
        if getattr(request, "late", False):
            await asyncio.sleep(60)
        await super().take(method, request, context)


class KnowsNoNewValues(Right):
    """Refuses what its enum does not have."""

    async def take(self, method: str, request: Any, context: Any) -> None:
        """One call."""
        if request.charge.state not in charge_pb2.ChargeState.values():
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "unknown state")
        await super().take(method, request, context)


class RefusesLateMoney(Right):
    """Does not want money for an order that it has closed or has been paid for."""

    async def take(self, method: str, request: Any, context: Any) -> None:
        """One call."""
        if getattr(request, "late", False) or getattr(request, "duplicate_payment", False):
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not payable")
        await super().take(method, request, context)


class KeepsTheLock(Right):
    """Marks a call as under way and never takes that back when its caller goes away."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.under_way: set[tuple[str, int]] = set()

    async def take(self, method: str, request: Any, context: Any) -> None:
        """One call."""
        key = request.order_no, request.sequence
        if key in self.under_way:
            await context.abort(grpc.StatusCode.ABORTED, "another call writes it")
        self.under_way.add(key)
        await asyncio.sleep(0.05)
        await super().take(method, request, context)
        self.under_way.discard(key)


class DropsClosings(Right):
    """Acknowledges what it does nothing with."""

    async def take(self, method: str, request: Any, context: Any) -> None:
        """One call."""
        if method != "PayOrderClosed":
            await super().take(method, request, context)


class KnowsItsOrders(Right):
    """Takes only orders that were created: there is a file for each."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.folder = path.parent

    async def take(self, method: str, request: Any, context: Any) -> None:
        """One call."""
        if not (self.folder / request.order_no).exists():
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such order")
        await super().take(method, request, context)


class KnowsItsRefunds(Right):
    """Takes only refunds that were asked for here."""

    async def take(self, method: str, request: Any, context: Any) -> None:
        """One call."""
        if method.startswith("Refund") and request.refund.refund_no.startswith("re_"):
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such refund")
        await super().take(method, request, context)


class HalfDone(Right):
    """Has no refunds yet."""

    async def take(self, method: str, request: Any, context: Any) -> None:
        """One call."""
        if method.startswith("Refund"):
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "")
        await super().take(method, request, context)


VARIANTS: dict[str, Callable[[Path], Right]] = {
    "right": Right,
    "applies-all": AppliesAll,
    "forgets": Forgets,
    "answers-first": AnswersFirst,
    "refuses-older": RefusesOlder,
    "refuses-repeats": RefusesRepeats,
    "applies-older": AppliesOlder,
    "refuses-gaps": RefusesGaps,
    "looks-then-writes": LooksThenWrites,
    "one-at-a-time": OneAtATime,
    "too-slow": TooSlow,
    "knows-no-new-values": KnowsNoNewValues,
    "refuses-late-money": RefusesLateMoney,
    "keeps-the-lock": KeepsTheLock,
    "drops-closings": DropsClosings,
    "knows-its-orders": KnowsItsOrders,
    "knows-its-refunds": KnowsItsRefunds,
    "half-done": HalfDone,
    "counts-messages": CountsMessages,
    "believes-the-flag": BelievesTheFlag,
    "small-numbers": SmallNumbers,
    "notices-used-sequences": NoticesUsedSequences,
}


async def serve(variant: str, port: int, path: Path) -> None:
    """Until killed."""
    service = VARIANTS[variant](path)
    server = aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((_handlers(service), _show_handler(service)))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


def _handlers(service: Right) -> grpc.GenericRpcHandler:
    def handler(method: str) -> Any:
        async def call(request: Any, context: Any) -> Any:
            await service.take(method, request, context)
            return RESPONSES[method]()

        return grpc.unary_unary_rpc_method_handler(
            call, REQUESTS[method].FromString, RESPONSES[method].SerializeToString
        )

    return grpc.method_handlers_generic_handler(SERVICE, {m: handler(m) for m in COUNTERS})


def _show_handler(service: Right) -> grpc.GenericRpcHandler:
    async def show(request: bytes, context: Any) -> bytes:
        return json.dumps(service.effects[request.decode()]).encode()

    handler: Any = grpc.unary_unary_rpc_method_handler(show)
    return grpc.method_handlers_generic_handler("naive.Naive", {"Show": handler})


def show(port: int, order_no: str) -> None:
    """Print what it has done with the order."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        ask: Any = channel.unary_unary(SHOW)
        print(ask(order_no.encode(), wait_for_ready=True, timeout=20).decode())


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        asyncio.run(serve(sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])))
    else:
        show(int(sys.argv[2]), sys.argv[3])
