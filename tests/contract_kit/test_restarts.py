"""`durable-before-ok` is judged on traffic or not at all: the kit's walks, without processes."""

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc import aio

from midas.cli.contract_kit import restarts
from midas.cli.contract_kit.findings import Finding, Findings
from midas.cli.contract_kit.kit import Kit, Probes
from midas.cli.contract_kit.notices import METHODS, NOT_REFUNDED
from midas.cli.contract_kit.probes import Probe
from midas.cli.contract_kit.restarts import KILLS, STREAM_LEAST, STREAMS, killed, restart
from midas.cli.contract_kit.target import Target
from midas.order.v1 import order_payment_service_pb2 as pb

SERVICE = "midas.order.v1.OrderPaymentService"


class Orders:
    """An order service whose disk is a list; what is not on it dies with the process."""

    def __init__(self) -> None:
        self.disk: list[tuple[str, str]] = []
        self.unwritten: list[tuple[str, str]] = []
        self.highest: defaultdict[str, int] = defaultdict(int)
        self.calls = 0
        self.port = 0
        self.acknowledged: Counter[str] = Counter()
        """Of RefundFailed, since the last kill."""
        self.at_each_kill: list[list[int]] = []
        self._server: aio.Server | None = None

    async def take(self, method: str, request: Any, context: Any) -> None:
        """One call."""
        if request.sequence > self.highest[request.order_no]:
            self.highest[request.order_no] = request.sequence
            self.write((request.order_no, method))
        self.acknowledged[request.order_no] += method == NOT_REFUNDED

    def write(self, effect: tuple[str, str]) -> None:
        """On disk."""
        self.disk.append(effect)

    async def start(self) -> None:
        """Serve, on the same port as before."""
        self._server = aio.server(options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((self._handlers(),))
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def die(self) -> None:
        """As kill -9 does it."""
        assert self._server is not None
        await self._server.stop(0)
        self.at_each_kill.append(list((+self.acknowledged).values()))
        self.unwritten.clear()
        self.acknowledged.clear()

    def _handlers(self) -> grpc.GenericRpcHandler:
        def handler(method: str) -> Any:
            async def call(request: Any, context: Any) -> Any:
                self.calls += 1
                await self.take(method, request, context)
                return getattr(pb, f"{method}Response")()

            request = getattr(pb, f"{method}Request")
            return grpc.unary_unary_rpc_method_handler(
                call, request.FromString, lambda answer: answer.SerializeToString()
            )

        return grpc.method_handlers_generic_handler(
            SERVICE, {each: handler(each) for each in METHODS}
        )


class AnswersFirst(Orders):
    """Writes each effect when the next one comes."""

    def write(self, effect: tuple[str, str]) -> None:
        """Not now."""
        self.disk += self.unwritten
        self.unwritten = [effect]


class Deaf(Orders):
    """Takes no refund that failed."""

    async def take(self, method: str, request: Any, context: Any) -> None:
        """One call."""
        if method == NOT_REFUNDED:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "later")
        await super().take(method, request, context)


class Stumbles(Orders):
    """Fails now and then."""

    async def take(self, method: str, request: Any, context: Any) -> None:
        """One call."""
        if method == NOT_REFUNDED and self.calls % 20 == 0:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "a moment")
        await super().take(method, request, context)


class Kills(Probe):
    """The command that kills it at once and starts it again."""

    def __init__(self, orders: Orders) -> None:
        super().__init__("--restart-command", "unused")
        self.orders = orders

    async def run(self, **_: object) -> str:
        """Kill and start."""
        await self.orders.die()
        await self.orders.start()
        return ""


class DoesNothing(Kills):
    """A command that does not do what it should."""

    async def run(self, **_: object) -> str:
        """Nothing."""
        return ""


class Shows(Probe):
    """The command that shows what was done."""

    def __init__(self, orders: Orders) -> None:
        super().__init__("--effects-command", "unused")
        self.orders = orders

    async def effects(self, order_no: str) -> dict[str, int]:
        """From what it believes."""
        effects = self.orders.disk + self.orders.unwritten
        return {method: effects.count((order_no, method)) for method in METHODS}


@asynccontextmanager
async def judging(orders: Orders, kills: Callable[[Orders], Probe] = Kills) -> AsyncIterator[Kit]:
    """A kit before this order service."""
    await orders.start()
    channels: list[aio.Channel] = []

    def connect() -> aio.Channel:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        channels.append(aio.insecure_channel(f"127.0.0.1:{orders.port}", options=options))
        return channels[-1]

    probes = Probes(effects=Shows(orders), restart=kills(orders))
    try:
        yield Kit(Target(connect(), 60), Findings(), probes, "KIT-", 100, connect)
    finally:
        for channel in channels:
            await channel.close()
        await orders.die()


def found(kit: Kit, promise: str = "durable-before-ok") -> Finding:
    """What the kit says of the promise."""
    return next(each for each in kit.findings.all() if each.promise.id == promise)


@pytest.mark.parametrize("make", [Orders, Stumbles])
async def test_each_stream_is_acknowledged_often_before_each_kill(make: type[Orders]) -> None:
    """However quick the kill is, and also where a call fails now and then."""
    orders = make()
    async with judging(orders) as kit:
        await killed(kit)
        assert found(kit).state == "kept"
        assert len(orders.at_each_kill) == KILLS
        for acknowledged in orders.at_each_kill:
            assert sum(each >= STREAM_LEAST for each in acknowledged) == STREAMS


async def test_one_that_answers_first_is_always_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A single kill is enough for what it had not written yet."""
    monkeypatch.setattr(restarts, "KILLS", 1)
    async with judging(AnswersFirst()) as kit:
        await killed(kit)
        assert found(kit).state == "broken"


async def test_without_an_acknowledgement_it_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was promised, so nothing can be missing."""
    monkeypatch.setattr(restarts, "KILLS", 1)
    monkeypatch.setattr(restarts, "COLLECT_S", 0.1)
    async with judging(Deaf()) as kit:
        await killed(kit)
        assert found(kit).state == "not judged"
        assert "before it had answered OK to any call" in found(kit).obstacles[0]


async def test_one_that_was_not_killed_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that restarts something else, or nothing, makes no promise kept."""
    monkeypatch.setattr(restarts, "KILLS", 1)
    monkeypatch.setattr("midas.cli.contract_kit.kit.NOTICED_S", 0.1)
    async with judging(Orders(), DoesNothing) as kit:
        await restart(kit)
        await killed(kit)
        for promise in ("durable-before-ok", *restarts.RESTART_JUDGES):
            assert found(kit, promise).state == "not judged"
            assert found(kit, promise).obstacles == [restarts.NOT_RESTARTED]


async def test_one_that_was_killed_is_judged() -> None:
    """Over a restart, too, and with what it remembers."""
    async with judging(Orders()) as kit:
        await restart(kit)
        assert [found(kit, each).state for each in restarts.RESTART_JUDGES] == ["kept"] * 2
