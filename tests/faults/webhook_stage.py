"""The whole way of a webhook, each part a process of its own.

    sandbox ──webhook──▶ gateway ──RecordEvent──▶ Midas ──▶ gateway ──▶ order service

The parts keep their ports when they are started again, as services keep their addresses.
"""

import asyncio
import itertools
import json
import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import aiohttp

from midas.sandbox.options import WEBHOOK_PAUSES_S
from midas.sandbox.orders.book import OrderBook
from midas.sandbox.orders.order import Order
from midas.sandbox.webhook_sends import Delivery, Match
from midas.storage import open_store
from midas.v1 import payment_service_pb2 as pb
from tests.faults.gateway_victim import GATEWAY_VICTIM
from tests.faults.logged import LoggedProcess
from tests.faults.processes import Harness, Midas, eventually, until
from tests.faults.victim import LIMITS, NOWHERE, ORDER, POINT, VICTIM
from tests.patience import PATIENCE_S

PATH = "/pingpp/webhooks"
SHORT_LEASE = {"NOTIFICATION_LEASE": 2}
"""Long enough for a delivery on a busy machine, and no test waits long for its end."""
SENDS_WAITED_FOR = 5
"""Of one webhook; the pauses up to the fifth are seven minutes of the sandbox's time."""
GATEWAY = ("-m", "webhook_gateway")


class Gateway(LoggedProcess):
    """One process of it."""

    port = 0
    mport = 0

    async def serving(self) -> None:
        """Wait until it takes webhooks."""
        self.mport = (await self.logged("management"))["port"]
        self.port = (await self.logged("serving"))["port"]

    async def get(self, path: str) -> str:
        """What the management port answers."""
        url = f"http://127.0.0.1:{self.mport}{path}"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return await answer.text()

    async def connected(self) -> None:
        """Wait until it has found Midas."""
        await eventually(lambda: self.get("/readyz"), lambda answer: '"READY"' in answer)

    async def number(self, name: str) -> float:
        """One of its metrics."""
        for line in (await self.get("/metrics")).splitlines():
            if line.startswith(f"webhook_gateway_{name} "):
                return float(line.split()[-1])
        raise AssertionError(f"no metric {name}")

    async def verdicts(self, count: int) -> list[str]:
        """What it made of each webhook, once there are so many."""
        await self.logged("webhook", count)
        return [line["verdict"] for line in self.lines("webhook")]

    async def close(self) -> None:
        """See `LoggedProcess`; a stopped one goes on to its end."""
        if self.is_running:
            self.send(signal.SIGCONT)
        await super().close()


class Orders(LoggedProcess):
    """The sample order service."""

    control = ""

    async def ready(self) -> None:
        """Wait until it takes calls."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            line = await self.process.stdout.readline()
        self.control = json.loads(line)["control"]

    async def fault(self, kind: str, *, count: int | None = 1, **parameters: Any) -> None:
        """Have it misbehave; `match` chooses when."""
        match = parameters.pop("match", {})
        fault = {"match": match, "count": count, "action": {"kind": kind, **parameters}}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.control}/faults", json=fault) as answer,
        ):
            assert answer.status == 200, await answer.text()


class Chain:
    """All parts, on one database. Each is started by the test."""

    def __init__(self, harness: Harness, database_url: str) -> None:
        self.harness = harness
        self.database_url = database_url
        self.midas_port, self.webhook_port, self.order_port = (free_port() for _ in range(3))
        self._file = harness.folder / "orders.sqlite3"
        self.book = OrderBook(self._file)
        """What the order service has on disk."""
        self.webhooks = harness.sandbox.webhooks
        self.webhooks.urls = (webhook_url(self.webhook_port),)

    def close(self) -> None:
        """Let go of the order service's file."""
        self.book.close()

    # The parts

    async def midas(
        self,
        point: str = NOWHERE,
        order_no: str = "",
        limits: Mapping[str, float] | None = None,
        **changes: str,
    ) -> Midas:
        """One that takes calls; with other limits, or with a point at which it dies."""
        midas = await self.launch_midas(point, order_no, limits, **changes)
        midas.port = (await midas.logged("serving"))["port"]
        return midas

    async def launch_midas(
        self,
        point: str = NOWHERE,
        order_no: str = "",
        limits: Mapping[str, float] | None = None,
        **changes: str,
    ) -> Midas:
        """The same, which may die before it takes any."""
        settings = {"PORT": str(self.midas_port), **changes}
        if point == NOWHERE and limits is None:
            return await self.harness.launch(self.database_url, **settings)
        settings |= {POINT: point, ORDER: order_no, LIMITS: json.dumps(dict(limits or SHORT_LEASE))}
        name = f"midas {point}"
        return await self.harness.launch(self.database_url, *VICTIM, name=name, **settings)

    async def gateway(self, point: str = "", order_no: str = "", **changes: str) -> Gateway:
        """One that takes webhooks and has found Midas."""
        gateway = await self.launch_gateway(point, order_no, **changes)
        await gateway.serving()
        return gateway

    async def launch_gateway(self, point: str = "", order_no: str = "", **changes: str) -> Gateway:
        """One that is about to."""
        settings = {
            "PATH": os.environ["PATH"],
            "WEBHOOK_PORT": str(self.webhook_port),
            "WEBHOOK_MPORT": "0",
            "PINGPP_PUBLIC_KEY_PATHS": str(self.harness.public_key),
            "MIDAS_TARGET": f"127.0.0.1:{self.midas_port}",
            "ORDER_TARGET": f"127.0.0.1:{self.order_port}",
            POINT: point,
            ORDER: order_no,
        }
        arguments = GATEWAY_VICTIM if point else GATEWAY
        name = f"gateway {point}".strip()
        return await self.harness.spawn(Gateway, arguments, settings | changes, name)

    async def orders(self, program: Sequence[str] = ("-m", "midas")) -> Orders:
        """The order service, on the file of the one before."""
        ports = ("--port", str(self.order_port), "--control-port", "0")
        arguments = (*program, "orders", *ports, "--file", str(self._file), "--json")
        environment = {"PATH": os.environ["PATH"]}
        orders = await self.harness.spawn(Orders, arguments, environment, "orders")
        await orders.ready()
        return orders

    async def all_up(
        self,
        settings: Mapping[str, str] | None = None,
        limits: Mapping[str, float] | None = None,
    ) -> tuple[Midas, Gateway, Orders]:
        """One of each; the settings and limits are Midas's."""
        starting = self.midas(limits=limits, **(settings or {}))
        midas, gateway, orders = await asyncio.gather(starting, self.gateway(), self.orders())
        await gateway.connected()
        return midas, gateway, orders

    # What happens

    async def paid(self, midas: Midas, order_no: str, **changes: Any) -> pb.ChargeResponse:
        """A charge of 100 fen that is paid; its webhook is on its way."""
        response = await midas.charge(order_no, **changes)
        self.harness.pay(response)
        return response

    def webhook_fault(self, kind: str, *, count: int | None = 1, **parameters: Any) -> None:
        """Have the sandbox do this to webhooks; `match` chooses to which."""
        match = parameters.pop("match", {})
        action = {"kind": kind, **parameters}
        self.harness.sandbox.faults.add({"match": match, "count": count, "action": action})

    async def sent(self, count: int = 1, **match: Any) -> list[Delivery]:
        """Wait until so many webhooks fit."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.webhooks.log.until(Match(**match), count)

    async def schedule_passes(self) -> None:
        """Ping++'s pauses pass, one after the other, until every webhook has been accepted."""
        for pause_s in WEBHOOK_PAUSES_S[: SENDS_WAITED_FOR - 1]:
            async with asyncio.timeout(PATIENCE_S):
                await self.webhooks.quiet()
            if not self.webhooks.log.totals()["pending"]:
                break
            self.harness.sandbox.clock.advance(pause_s + 0.1)
        async with asyncio.timeout(PATIENCE_S):
            await self.webhooks.quiet()
        totals = self.webhooks.log.totals()
        assert totals["pending"] == totals["given_up"] == 0, totals

    # What came of it

    async def notified(
        self, order_no: str, holds: Callable[[Order], object] = lambda order: order.state == "PAID"
    ) -> Order:
        """What the order service knows of the order, once it is as wanted."""
        await until(lambda: holds(self.book.order(order_no)), f"{order_no} at the order service")
        return self.book.order(order_no)

    async def all_delivered(self) -> None:
        """Wait until Midas has nothing left to announce."""
        async with await open_store(self.database_url) as store:
            backlog = await eventually(store.backlog, lambda now: now.oldest_at is None)
            assert backlog.parked == 0

    def assert_in_order(self, *order_nos: str) -> None:
        """Each order's sequences came from 1 on, one by one, and nothing else came."""
        received = self.book.received()
        for order_no in order_nos:
            sequences = [each.sequence for each in received if each.order_no == order_no]
            assert sequences == list(range(1, len(sequences) + 1)), f"I9: {order_no} {sequences}"
        assert {each.order_no for each in received} <= set(order_nos)


def webhook_url(port: int) -> str:
    """Where a gateway on this port takes webhooks."""
    return f"http://127.0.0.1:{port}{PATH}"


def free_port() -> int:
    """A free port below those that the kernel gives to clients, so that it stays free."""
    for offset in _offsets:
        port = 10_000 + (os.getpid() * 499 + offset) % 10_000
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")


_offsets = itertools.count()
