"""Waiting a moment for company, where a batch costs about the same however much it holds.

After a batch of several the next ones are on their way: waiting for them makes batches larger and
fewer. One that is alone waits for no other. PostgreSQL knows the two bounds as commit_siblings and
commit_delay.
"""

import asyncio
from datetime import timedelta

SIBLINGS = 4
"""A batch of so many is followed by a wait."""
DELAY = timedelta(milliseconds=4)
"""The longest wait."""
MODEST = 64
"""So many batches are content with the size of the last one, after a wait that brought nobody."""


class Gathering:
    """Holds the next batch of one queue back until it is as large as can be expected.

    That is twice the last batch, as long as waiting brings company; else as many as the last.
    """

    def __init__(self, delay: timedelta = DELAY) -> None:
        self._delay_s = delay.total_seconds()
        self._modest = 0
        self._wanted = 0
        self._waiting = 0
        self._enough = asyncio.Event()

    async def wait(self, last: int, waiting: int) -> None:
        """Return when enough wait, when the time is over, or at once where the last were few."""
        wanted = last if self._modest else 2 * last
        self._modest = max(0, self._modest - 1)
        if last < SIBLINGS or waiting >= wanted:
            return
        self._wanted, self._waiting = wanted, waiting
        self._enough.clear()
        timer = asyncio.get_running_loop().call_later(self._delay_s, self._enough.set)
        try:
            await self._enough.wait()
        finally:
            timer.cancel()
        if self._waiting == waiting:
            self._modest = MODEST

    def came(self, waiting: int) -> None:
        """So many wait by now."""
        self._waiting = waiting
        if waiting >= self._wanted:
            self._enough.set()

    def stop(self) -> None:
        """Wait no longer."""
        self._enough.set()
