"""Waits a moment for more work, where a batch costs about the same however much it holds.

After a batch of several pieces of work the next ones are on their way. Waiting for them makes
batches larger and fewer. A single piece of work does not wait. PostgreSQL has the same two bounds,
commit_siblings and commit_delay.
"""

import asyncio
from datetime import timedelta

SIBLINGS = 4
"""How large the last batch was at least if the next one waits."""
DELAY = timedelta(milliseconds=4)
"""The longest wait."""
MODEST = 64
"""How many batches wait only for the size of the last one, after a wait that brought nothing."""


class Gathering:
    """Holds the next batch of one queue back until it is as large as can be expected.

    That is twice the last batch, as long as waiting brings more work; else as many as the last.
    """

    def __init__(self, delay: timedelta = DELAY) -> None:
        self._delay_s = delay.total_seconds()
        self._modest = 0
        self._wanted = 0
        self._waiting = 0
        self._enough = asyncio.Event()

    async def wait(self, last: int, waiting: int) -> None:
        """Return when enough wait or the time is over, or at once if the last batch was small."""
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
        """Take note that this many are waiting now."""
        self._waiting = waiting
        if waiting >= self._wanted:
            self._enough.set()

    def stop(self) -> None:
        """End the wait."""
        self._enough.set()
