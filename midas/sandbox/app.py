"""The sandbox as a process: says when it is ready, and stops on SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from midas.sandbox.http import SandboxServer
from midas.sandbox.options import SandboxOptions

__all__ = ["SandboxOptions", "SandboxServer", "run_sandbox"]


async def run_sandbox(options: SandboxOptions) -> None:
    """Serve until SIGTERM or SIGINT, then return; `SandboxError` when it cannot start.

    One line of JSON on standard output says that requests are accepted: `event` ("ready"), `url`,
    `app_id`, `api_key` and `public_key_path`. Without a path in the options the public key is in a
    temporary folder that goes away with the sandbox.
    """
    with tempfile.TemporaryDirectory(prefix="midas-sandbox-") as folder:
        key_path = options.public_key_path or Path(folder) / "pingpp_public_key.pem"
        server = SandboxServer(replace(options, public_key_path=key_path))
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopped.set)
        try:
            await server.start()
            _say_ready(server, key_path)
            await stopped.wait()
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
            await server.stop()


def _say_ready(server: SandboxServer, key_path: Path) -> None:
    ready = {
        "event": "ready",
        "url": server.url,
        "app_id": server.options.app_id,
        "api_key": server.options.key(),
        "public_key_path": str(key_path),
    }
    sys.stdout.write(json.dumps(ready) + "\n")
    sys.stdout.flush()
