"""A process whose standard error is read line by line while it runs."""

import asyncio
import json
import signal
from contextlib import suppress
from typing import Any

from tests.patience import PATIENCE_S

ORDERLY_END_S = 20.0


class LoggedProcess:
    """One process. `log` is its standard error, line by line."""

    def __init__(self, process: asyncio.subprocess.Process, name: str) -> None:
        self.process = process
        self.name = name
        self.log: list[str] = []
        self._more = asyncio.Condition()
        self._ended = False
        self._reading = asyncio.create_task(self._read())

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self.process.returncode is None

    def lines(self, event: str) -> list[dict[str, Any]]:
        """All lines with this event so far."""
        lines = [json.loads(each) for each in self.log if each.startswith("{")]
        return [each for each in lines if each["event"] == event]

    def has(self, event: str) -> bool:
        """Whether there is a line with this event."""
        return any(f'"event":"{event}"' in each for each in self.log)

    async def logged(self, event: str, count: int = 1) -> dict[str, Any]:
        """The first line with this event, or the one that makes `count` of them.

        AssertionError if the process ends without it.
        """
        async with asyncio.timeout(PATIENCE_S), self._more:
            await self._more.wait_for(lambda: self._ended or len(self.lines(event)) >= count)
        lines = self.lines(event)
        assert len(lines) >= count, f"{self.name} ended without {event}"
        return lines[count - 1]

    def last_line(self) -> dict[str, Any]:
        """What it logged last."""
        last: dict[str, Any] = json.loads(self.log[-1])
        return last

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    async def kill(self) -> None:
        """`kill -9`, and wait until it is gone."""
        with suppress(ProcessLookupError):
            self.process.kill()
        await self.ended()

    async def ended(self, patience_s: float | None = PATIENCE_S) -> int:
        """Wait for its end; the exit status, below 0 for a signal."""
        async with asyncio.timeout(patience_s):
            await asyncio.shield(self._reading)
            return await self.process.wait()

    async def stop(self) -> int:
        """SIGTERM, and the exit status."""
        self.send(signal.SIGTERM)
        return await self.ended()

    async def close(self) -> None:
        """End it, however it stands; in order, if it can, so that its last lines are read."""
        with suppress(ProcessLookupError):
            self.process.terminate()
        _, unread = await asyncio.wait([self._reading], timeout=ORDERLY_END_S)
        if unread:
            with suppress(ProcessLookupError):
                self.process.kill()
        await self._reading
        await self.process.wait()

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            async with self._more:
                self.log.append(line.decode().rstrip("\n"))
                self._more.notify_all()
        async with self._more:
            self._ended = True
            self._more.notify_all()
