"""Calls that arrive while a commit is under way share the next one."""

from __future__ import annotations

import asyncio

from midas.sandbox.orders.book import OrderBook, Told, Verdict

BATCH_MOST = 256


class Gathering:
    """Accepts into the book; one commit at a time, in a thread."""

    def __init__(self, book: OrderBook) -> None:
        self._book = book
        self._waiting: list[tuple[Told, asyncio.Future[Verdict]]] = []
        self._committing: asyncio.Task[None] | None = None

    async def accept(self, told: Told) -> Verdict:
        """Durable when this returns. A caller that goes away does not undo it."""
        verdict: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._waiting.append((told, verdict))
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit_all())
        return await verdict

    async def finish(self) -> None:
        """Wait until nothing is being written any more."""
        if self._committing is not None:
            await self._committing

    async def _commit_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:BATCH_MOST], self._waiting[BATCH_MOST:]
            try:
                verdicts = await asyncio.to_thread(self._book.accept, [told for told, _ in batch])
            except Exception as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), verdict in zip(batch, verdicts, strict=True):
                if not future.done():
                    future.set_result(verdict)
        self._committing = None
