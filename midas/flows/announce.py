"""announce: hand out the notifications for the order service, and write down what became of them.

lease per order, head of line first ─▶ delivered ─▶ the next one is due
                                    ├▶ retry ─────▶ due after a growing pause, for ever
                                    └▶ refused ───▶ parked: a person has to look
                                          └─ its number was used before ─▶ all are renumbered
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from midas import limits
from midas.draft import Draft
from midas.errors import Overloaded, StorageUnavailable
from midas.lease import Backlog, DeliveryOutcome, Lease, Settlement
from midas.payment import RENUMBERED
from midas.ports import Clock, Store

logger = logging.getLogger("midas.flows")

COUNT_WAIT_S = 0.1
"""The longest that a call waits for the count of the notifications that wait."""
RENUMBERINGS_MOST = 3
"""How often the notifications of one order are numbered anew at most."""
RECEIVER_SEQUENCE_MOST = 2**52
"""The highest number that Midas takes from an order service: a higher one would use up them all."""
COUNT_RESTS = 20
"""The pause between two counts: so many times as long as the last count took."""


@dataclass(frozen=True, slots=True)
class Leased:
    """Notifications for one attempt each."""

    leases: tuple[Lease, ...]
    holds: timedelta
    backlog: Backlog | None
    """None while it is not known."""


class Announcer:
    """The notifications of all orders. One per process and event loop."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._stopping = asyncio.Event()
        self._backlog: Backlog | None = None
        self._counting: asyncio.Task[None] | None = None
        self._count_at: float | None = None

    async def lease(self, limit: int, wait: timedelta) -> Leased:
        """Lease up to `limit` notifications that are due; wait for some for at most `wait`.

        Notifications that this process writes are found at once, those of others within
        NOTIFICATION_LOOK_S. Raises StorageUnavailable.
        """
        until = self._clock.monotonic() + wait.total_seconds()
        found: list[Lease] = []
        while not self._stopping.is_set():
            written = self._store.notification_written()
            try:
                found = await self._store.lease_notifications(limit, limits.NOTIFICATION_LEASE)
                left = until - self._clock.monotonic()
                if found or left <= 0:
                    break
                await self._pause(written, min(left, limits.NOTIFICATION_LOOK_S))
            finally:
                written.cancel()
        return Leased(tuple(found), limits.NOTIFICATION_LEASE, await self._count())

    async def settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        """Write down what became of leases. Raises StorageUnavailable."""
        applied = await self._store.settle_notifications(settlements)
        for each, counts in zip(settlements, applied, strict=True):
            if counts and each.outcome is DeliveryOutcome.REFUSED:
                await self._refused(each)
        return applied

    async def _refused(self, settlement: Settlement) -> None:
        """Renumber the notifications of an order that was parked, if that helps. Raise an alarm."""
        ids = {"order_no": settlement.order_no, "sequence": settlement.sequence}
        if 0 < settlement.receiver_sequence <= RECEIVER_SEQUENCE_MOST:
            try:
                if await self._renumber(settlement.order_no, settlement.receiver_sequence):
                    logger.error("operator_needed", extra=ids | {"kind": RENUMBERED})
                    return
            except (StorageUnavailable, Overloaded) as error:
                reason = type(error).__name__
                logger.warning("not_told_again", extra=ids | {"reason": reason})
        logger.error("order_parked", extra=ids | {"code": settlement.code})

    async def _renumber(self, order_no: str, above: int) -> bool:
        """Write all notifications of the order once more, under numbers of a new epoch.

        Returns False, and the order stays parked, if that was done too often: the order service
        then gives this answer to every notification.
        """
        for _ in range(limits.CONFLICT_RETRIES):
            order = await self._store.load(order_no)
            journal = await self._store.journal(order_no)
            before = [each for each in journal if each.event == RENUMBERED]
            if len(before) >= RENUMBERINGS_MOST:
                return False
            since = before[-1].detail["first"] if before else 0
            sent = await self._store.notifications(order_no)
            draft = Draft(order)
            draft.renumber_notifications(
                (each for each in sent if each.sequence >= since), above, self._store.now()
            )
            change = draft.change(self._store.new_change_id())
            if change is not None and await self._store.commit(change):
                return True
        return False

    def stop_waiting(self) -> None:
        """End all waiting for good, and lease no more: the process is about to end."""
        self._stopping.set()
        if self._counting is not None:
            self._counting.cancel()

    async def _pause(self, written: "asyncio.Future[None]", pause_s: float) -> None:
        ends: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(self._stopping.wait()),
            asyncio.ensure_future(self._clock.sleep(pause_s)),
        ]
        try:
            await asyncio.wait((written, *ends), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in ends:
                each.cancel()

    async def _count(self) -> Backlog | None:
        """What waits, by the last count; None until there was one.

        The more waits, the longer counting takes. It goes on beside the leases, so that they do not
        wait for it.
        """
        due = self._count_at is None or self._clock.monotonic() >= self._count_at
        if due and self._counting is None and not self._stopping.is_set():
            self._counting = asyncio.create_task(self._count_anew(), name="midas-backlog")
        if self._counting is not None:
            await asyncio.wait((self._counting,), timeout=COUNT_WAIT_S)
        return self._backlog

    async def _count_anew(self) -> None:
        began = self._clock.monotonic()
        try:
            self._backlog = await self._store.backlog()
        except Exception as error:
            logger.warning("backlog_not_counted", extra={"reason": type(error).__name__})
        finally:
            now = self._clock.monotonic()
            rest_s = (now - began) * COUNT_RESTS
            self._count_at = now + max(limits.BACKLOG_AGE_S, rest_s)
            self._counting = None
