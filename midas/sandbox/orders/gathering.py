"""Calls that arrive while a commit is under way share the next one."""

from __future__ import annotations

import asyncio

from midas.sandbox.orders.book import Decision, OrderBook, Reception

BATCH_MOST = 256


class Gathering:
    """Accepts notifications into the book, with one commit at a time, in a thread."""

    def __init__(self, book: OrderBook) -> None:
        self._book = book
        self._waiting: list[tuple[Reception, asyncio.Future[Decision]]] = []
        self._committing: asyncio.Task[None] | None = None

    async def accept(self, reception: Reception) -> Decision:
        """Decide it, durably when this returns. A caller that goes away does not undo it."""
        decision: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
        self._waiting.append((reception, decision))
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit_all())
        return await decision

    async def finish(self) -> None:
        """Wait until nothing is being written any more."""
        if self._committing is not None:
            await self._committing

    async def _commit_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:BATCH_MOST], self._waiting[BATCH_MOST:]
            try:
                decisions = await asyncio.to_thread(
                    self._book.accept, [reception for reception, _ in batch]
                )
            except Exception as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), decision in zip(batch, decisions, strict=True):
                if not future.done():
                    future.set_result(decision)
        self._committing = None
