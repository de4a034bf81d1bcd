"""A process that serves scripted flows through the real app: `python -m tests.rpc.slow_server S`.

Charges take S seconds.
"""

import asyncio
import logging
import sys

from midas.app import Drain, Work, run, serve_work
from midas.config.settings import Settings
from midas.rpc.payment_service import SERVICE, PaymentService
from midas.rpc.server import Binding, Server
from tests.rpc.scripted import ScriptedFlows


async def main(settings: Settings) -> None:
    """Serve until a signal comes."""
    length = float(sys.argv[1])

    async def take_long() -> None:
        logging.getLogger("midas.tests").info("charge_under_way")
        await asyncio.sleep(length)

    flows = ScriptedFlows(before=take_long)

    async def check() -> None:
        return None

    server = Server(Binding(port=settings.port))
    services = {SERVICE: PaymentService(flows).methods}
    work = Work(services, (flows.run,), flows.drain)
    await serve_work(work, check, server, Drain(settings.drain_delay, settings.drain_timeout))


if __name__ == "__main__":
    sys.exit(run(main))
