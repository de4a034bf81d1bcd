"""Everything but the database: two Midas, two gateways, an order service, and the sandbox."""

import asyncio
from pathlib import Path

from tests.failovers.plan import Plan
from tests.faults.counted_orders import COUNTED_ORDERS
from tests.faults.logged import LoggedProcess
from tests.faults.processes import SERVING, Harness, Keys, Midas
from tests.faults.webhook_stage import Chain, free_port

WEBHOOK_PAUSES_S = (0.5,) + (1.0,) * 5000
"""Ping++'s schedule without its long pauses: what was not taken comes again within a second."""
SLOW_REFUNDS = "wx_pub_qr"
"""The channel whose refunds are pending until the bank approves; the others succeed at once."""


class Stage:
    """All processes of one run. `ports` are those of both Midas."""

    def __init__(self, folder: Path, database_url: str, plan: Plan) -> None:
        keys = Keys.made_in(folder)
        sends = {"webhook_pauses_s": WEBHOOK_PAUSES_S, "webhook_sends_most": len(WEBHOOK_PAUSES_S)}
        self.harness = Harness(folder, keys, **sends)
        self.plan = plan
        self.database_url = database_url
        self.midas: list[Midas] = []
        self.ports: list[int] = []
        self.chain: Chain

    @property
    def processes(self) -> list[LoggedProcess]:
        """Every process that was started."""
        return self.harness.processes

    async def open(self) -> None:
        """Start all of it, and wait until it works."""
        await self.harness.open()
        self.harness.sandbox.lookalike.plan_refund("pending", times=None, channel=SLOW_REFUNDS)
        self.chain = Chain(self.harness, self.database_url)
        self.ports = [self.chain.midas_port, free_port()]
        starting = [self._midas(number) for number in range(len(self.ports))]
        gateways = [self._gateway(number) for number in range(len(self.ports))]
        self.midas, *_ = await asyncio.gather(
            asyncio.gather(*starting), asyncio.gather(*gateways), self.chain.orders(COUNTED_ORDERS)
        )

    async def serve(self) -> None:
        """Wait until both Midas serve; AssertionError if a process has ended."""
        for each in self.processes:
            assert each.is_running, f"{each.name} ended by itself: {each.process.returncode}"
        for midas in self.midas:
            await midas.health(SERVING)

    async def close(self) -> None:
        """End everything. AssertionError for a secret or the text of an exception in a log."""
        if hasattr(self, "chain"):
            self.chain.close()
        await self.harness.close()

    async def _midas(self, number: int) -> Midas:
        port = str(self.ports[number])
        return await self.harness.serve(
            self.database_url, name=f"midas {number}", PORT=port, **self.plan.settings
        )

    async def _gateway(self, number: int) -> None:
        """Each has another Midas that it asks first."""
        ports = [*self.ports[number:], *self.ports[:number]]
        target = "ipv4:" + ",".join(f"127.0.0.1:{each}" for each in ports)
        gateway = await self.chain.launch_gateway(WEBHOOK_REUSE_PORT="true", MIDAS_TARGET=target)
        await gateway.serving()
        await gateway.connected()
