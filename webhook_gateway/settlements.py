"""Reports to Midas what became of deliveries. While one report is on its way, the next ones gather.

After a report of several the next one waits a moment for more (`midas.runtime.gathering`).
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from midas.runtime.gathering import Gathering
from midas.v1 import event_service_pb2 as events
from webhook_gateway.calls import CallFailed, answer_of
from webhook_gateway.pauses import Pauses

if TYPE_CHECKING:
    from midas.v1.event_service_pb2_grpc import EventServiceAsyncStub

BATCH = 256
"""The most that one report holds, as the contract says."""
TIMEOUT_S = 10.0

_log = logging.getLogger("midas.relay")


class _Waiting(NamedTuple):
    settlement: events.Settlement
    lease_over_at: float


class Settlements:
    """What is to be reported. The owner of the places bounds how many wait."""

    def __init__(self, stub: "EventServiceAsyncStub", done: Callable[[int], None]) -> None:
        self._stub = stub
        self._done = done
        self._waiting: deque[_Waiting] = deque()
        self._some = asyncio.Event()
        self._gathering = Gathering()

    def add(self, settlement: events.Settlement, lease_over_at: float) -> None:
        """Report it soon; `done` is called once it was reported, or its lease is surely over."""
        self._waiting.append(_Waiting(settlement, lease_over_at))
        self._some.set()
        self._gathering.came(len(self._waiting))

    async def run(self) -> None:
        """Report until cancelled."""
        pauses = Pauses()
        while True:
            await self._some.wait()
            self._some.clear()
            last = 0
            while await self._gathered(last):
                last = min(len(self._waiting), BATCH)
                if await self._report(pauses.count == 0):
                    pauses.reset()
                else:
                    await asyncio.sleep(pauses.next_s())

    async def _gathered(self, last: int) -> bool:
        """Wait for more, after a report that held `last`. Returns whether something waits."""
        await self._gathering.wait(last, len(self._waiting))
        return bool(self._waiting)

    def forget(self) -> int:
        """Drop what waits, without a report. Returns how many there were."""
        count = len(self._waiting)
        self._waiting.clear()
        return count

    async def _report(self, first: bool) -> bool:
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH))]
        request = events.SettleNotificationsRequest(settlements=[each.settlement for each in batch])
        try:
            answer = await answer_of(self._stub.SettleNotifications, request, TIMEOUT_S)
        except CallFailed as failed:
            if first:
                _log.warning("settle_failed", extra={"code": failed.code, "count": len(batch)})
            self._keep(batch)
            return False
        _log_lost(batch, answer.applied)
        self._done(len(batch))
        return True

    def _keep(self, batch: Sequence[_Waiting]) -> None:
        """Report these first the next time, except those that another relay may have by now."""
        now = time.monotonic()
        kept = [each for each in batch if now < each.lease_over_at]
        self._waiting.extendleft(reversed(kept))
        dropped = len(batch) - len(kept)
        if dropped:
            # nothing is lost: Midas hands the notifications out again, the receiver knows them
            _log.warning("settlements_dropped", extra={"dropped": dropped})
            self._done(dropped)


def _log_lost(batch: Sequence[_Waiting], applied: Sequence[bool]) -> None:
    if len(applied) == len(batch) and all(applied):
        return
    for (settlement, _), counted in zip(batch, applied, strict=False):
        if not counted:
            fields = {"order_no": settlement.order_no, "sequence": settlement.sequence}
            _log.info("settlement_too_late", extra=fields)
