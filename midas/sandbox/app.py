"""The sandbox as a process: it reports when it is ready, and stops on SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from midas.sandbox.http import SandboxServer
from midas.sandbox.options import SandboxOptions

__all__ = ["SandboxOptions", "SandboxServer", "run_sandbox"]


async def run_sandbox(options: SandboxOptions, on_ready: Callable[[SandboxServer], None]) -> None:
    """Serve until SIGTERM or SIGINT, then return; `SandboxError` when it cannot start.

    `on_ready` is called once, when requests are accepted at the server's `url`.
    """
    server = SandboxServer(options)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    try:
        await server.start()
        on_ready(server)
        await stopped.wait()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
        await server.stop()
