"""`python -m tests.attacks.target SECONDS`: Midas's server over flows that take so long.

Everything but the flows is as `midas serve` has it, TLS and permissions from the environment.
"""

import asyncio
import sys
from dataclasses import replace

from midas.app import Drain, Work, allowed_connections, binding, run, serve_work
from midas.config import Settings
from midas.rpc.payment_service import SERVICE, PaymentService
from tests.rpc.scripted import ScriptedFlows


async def main(settings: Settings) -> None:
    """Serve until a signal comes."""
    length = float(sys.argv[1])
    flows = ScriptedFlows(before=lambda: asyncio.sleep(length))

    async def check() -> None:
        return None

    work = Work({SERVICE: PaymentService(flows).methods}, (flows.run,), flows.drain)
    drain = Drain(settings.drain_delay, settings.drain_timeout)
    where = replace(binding(settings), connections=allowed_connections(settings))
    await serve_work(work, check, where, drain)


if __name__ == "__main__":
    sys.exit(run(main))
