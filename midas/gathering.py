"""Waiting a moment for company, where a batch costs about the same however much it holds.

After a batch of several, the next one waits for as many again: under load they are on their way,
and half as many batches are needed. Whoever is alone waits for nobody. PostgreSQL knows the two
bounds as commit_siblings and commit_delay.
"""

import asyncio
from datetime import timedelta

SIBLINGS = 4
"""What makes a batch one of several."""
DELAY = timedelta(milliseconds=4)
"""The longest that it is waited."""


class Gathering:
    """Holds the next batch of one queue back."""

    def __init__(self, delay: timedelta = DELAY) -> None:
        self._delay_s = delay.total_seconds()
        self._wanted = 0
        self._enough = asyncio.Event()

    async def wait(self, last: int, waiting: int) -> None:
        """Until as many wait as the last batch held; not at all if those were few."""
        if last < SIBLINGS or waiting >= last:
            return
        self._wanted = last
        self._enough.clear()
        timer = asyncio.get_running_loop().call_later(self._delay_s, self.stop)
        try:
            await self._enough.wait()
        finally:
            timer.cancel()

    def came(self, waiting: int) -> None:
        """So many wait by now."""
        if waiting >= self._wanted:
            self._enough.set()

    def stop(self) -> None:
        """Wait no longer."""
        self._enough.set()
