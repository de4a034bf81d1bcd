"""`python -m tests.attacks.target SECONDS`: Midas's server over flows that take so long.

Everything but the flows is as `midas serve` has it, TLS and permissions from the environment.
"""

import asyncio
import sys

from midas.app import Drain, Work, binding, run, serve_work
from midas.config.settings import Settings
from midas.rpc.payment_service import SERVICE, PaymentService
from midas.rpc.server import Server
from midas.start import open_files
from tests.rpc.scripted import ScriptedFlows


async def main(settings: Settings) -> None:
    """Serve until a signal comes."""
    length = float(sys.argv[1])
    flows = ScriptedFlows(before=lambda: asyncio.sleep(length))

    async def check() -> None:
        return None

    work = Work({SERVICE: PaymentService(flows).methods}, (flows.run,), flows.drain)
    drain = Drain(settings.drain_delay, settings.drain_timeout)
    server = Server(binding(settings, open_files(settings).allow()))
    await serve_work(work, check, server, drain)


if __name__ == "__main__":
    sys.exit(run(main))
