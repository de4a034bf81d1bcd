"""A real gateway process, its log, and its two ports."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.gateway.intake_stage import Answered, answers_in, read_all, request
from tests.patience import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Gateway:
    """A running gateway."""

    process: asyncio.subprocess.Process
    log: list[dict[str, Any]] = field(default_factory=list)
    port: int = 0
    mport: int = 0

    async def logged(self, event: str) -> dict[str, Any]:
        """The next line with this event."""
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            self.log.append(json.loads(line))
            if self.log[-1]["event"] == event:
                return self.log[-1]
        raise AssertionError(f"the process ended without {event}: {self.log}")

    async def ended(self) -> int:
        """The exit status."""
        assert self.process.stderr is not None
        rest = (await self.process.stderr.read()).decode()
        self.log += [json.loads(line) for line in rest.splitlines()]
        return await self.process.wait()

    async def post(self, body: bytes, signature: str) -> Answered:
        """One webhook on a connection of its own."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request(body, signature))
        (answer,) = answers_in(await read_all(reader))
        writer.close()
        return answer

    async def get(self, path: str) -> tuple[int, str]:
        """Status and text of the management port."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.mport}{path}") as answer,
        ):
            return answer.status, await answer.text()


@asynccontextmanager
async def launched(open_files: int = 0, /, **variables: str) -> AsyncIterator[Gateway]:
    """`python -m webhook_gateway` with these settings, killed at the end if it still runs.

    `open_files`: how many it may have at the most, by the hard limit of its process.
    """
    env = {"PATH": os.environ["PATH"], "WEBHOOK_PORT": "0", "WEBHOOK_MPORT": "0"}
    limited = ["sh", "-c", f'ulimit -n {open_files} && exec "$@"', "sh"] if open_files else []
    process = await asyncio.create_subprocess_exec(
        *limited,
        sys.executable,
        "-m",
        "webhook_gateway",
        cwd=ROOT,
        env=env | variables,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(2 * PATIENCE_S):
            yield Gateway(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@asynccontextmanager
async def serving(open_files: int = 0, /, **variables: str) -> AsyncIterator[Gateway]:
    """The same, from the moment that webhooks are taken."""
    async with launched(open_files, **variables) as gateway:
        gateway.mport = (await gateway.logged("management"))["port"]
        gateway.port = (await gateway.logged("serving"))["port"]
        yield gateway


async def refused(open_files: int = 0, /, **variables: str) -> str:
    """The mistake that a gateway prints which does not start. AssertionError if it starts."""
    async with launched(open_files, **variables) as gateway:
        assert gateway.process.stderr is not None
        printed = (await gateway.process.stderr.read()).decode()
        assert await gateway.process.wait() == 2, printed
        assert printed.endswith("\n  Nothing was started.\n"), printed
        return printed.splitlines()[-2]
