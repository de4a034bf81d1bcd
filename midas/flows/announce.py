"""announce: hand out what the order service has to be told, and write down what became of it.

lease per order, head of line first ─▶ delivered ─▶ the next one is due
                                    ├▶ retry ─────▶ due after a growing pause, for ever
                                    └▶ refused ───▶ parked: a person has to look
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from midas import limits
from midas.delivery import Backlog, DeliveryOutcome, Lease, Settlement
from midas.payment import Order
from midas.ports import Clock, Store

logger = logging.getLogger("midas.flows")


@dataclass(frozen=True, slots=True)
class Leased:
    """Notifications for one attempt each, with their orders as they now stand."""

    leases: tuple[tuple[Lease, Order], ...]
    holds: timedelta
    backlog: Backlog


class Announcer:
    """The notifications of all orders. One per process and event loop."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._backlog = Backlog(None, 0)
        self._counted_at: float | None = None
        self._stopping = asyncio.Event()

    async def lease(self, limit: int, wait: timedelta) -> Leased:
        """Up to `limit` notifications that are due; waits for some for at most `wait`.

        What this process writes is found at once, what others write within NOTIFICATION_LOOK_S.
        Raises StorageUnavailable.
        """
        until = self._clock.monotonic() + wait.total_seconds()
        while True:
            written = self._store.notification_written()
            try:
                found = await self._store.lease_notifications(limit, limits.NOTIFICATION_LEASE)
                left = until - self._clock.monotonic()
                if found or left <= 0 or self._stopping.is_set():
                    return await self._with_orders(found)
                await self._pause(written, min(left, limits.NOTIFICATION_LOOK_S))
            finally:
                written.cancel()

    async def settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        """Write down what became of leases. Raises StorageUnavailable."""
        for each in settlements:
            if each.outcome is DeliveryOutcome.REFUSED:
                told = {"order_no": each.order_no, "code": each.code, "sequence": each.sequence}
                logger.error("order_parked", extra=told)
        return await self._store.settle_notifications(settlements)

    def stop_waiting(self) -> None:
        """Let go of those that wait, for good: the process is about to end."""
        self._stopping.set()

    async def _pause(self, written: "asyncio.Future[None]", pause_s: float) -> None:
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait(
                (written, stopping), timeout=pause_s, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            stopping.cancel()

    async def _with_orders(self, found: list[Lease]) -> Leased:
        numbers = [each.notification.order_no for each in found]
        orders = await asyncio.gather(*(self._store.load(each) for each in numbers))
        leases = tuple(zip(found, orders, strict=True))
        return Leased(leases, limits.NOTIFICATION_LEASE, await self._count())

    async def _count(self) -> Backlog:
        """What waits, counted anew every few seconds, and never a reason to hand out nothing."""
        now = self._clock.monotonic()
        if self._counted_at is None or now - self._counted_at >= limits.BACKLOG_AGE_S:
            self._counted_at = now
            with suppress(Exception):
                self._backlog = await self._store.backlog()
        return self._backlog
