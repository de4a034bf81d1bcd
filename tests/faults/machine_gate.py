"""One call through a port at a time, in an order that the test decides.

Every port asks for its turn here. The next one gets it only when the one before has ended and
nothing else can run, so that a run depends on its choices alone and never on how fast a disk is.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

MOST_TURNS = 5000

Pick = Callable[[Sequence[str]], int]


def longest_waiting(_waiting: Sequence[str]) -> int:
    """First come, first served."""
    return 0


class Gate:
    """Where all ports wait. `pick` chooses who goes next, by the place in the queue."""

    def __init__(self, pick: Pick = longest_waiting) -> None:
        self.pick = pick
        self._queue: list[tuple[str, asyncio.Future[None]]] = []
        self._left = asyncio.Event()

    @asynccontextmanager
    async def turn(self, who: str) -> AsyncIterator[None]:
        """Wait for one's turn, and keep it until the block ends."""
        ticket: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((who, ticket))
        await ticket
        try:
            yield
        finally:
            self._left.set()

    async def drive(self, tasks: Sequence[asyncio.Task[Any]]) -> None:
        """Hand out turns until the tasks, and all that they left behind, have ended."""
        for _ in range(MOST_TURNS):
            await _all_others_rest()
            self._queue = [entry for entry in self._queue if not entry[1].done()]
            if not self._queue:
                waiting = [task for task in tasks if not task.done()]
                assert not waiting, f"I13: waits for nothing: {waiting}"
                return
            place = self.pick([who for who, _ in self._queue])
            _, ticket = self._queue.pop(place)
            self._left.clear()
            ticket.set_result(None)
            await self._left.wait()
        raise AssertionError("I13: does not come to an end")


async def _all_others_rest() -> None:
    """Let the event loop go round until nothing is left that can run without a turn."""
    ready = asyncio.get_running_loop()._ready  # type: ignore[attr-defined]  # no public way to know
    while True:
        await asyncio.sleep(0)
        if not ready:
            return
