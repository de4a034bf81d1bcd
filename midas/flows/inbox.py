"""The entrance for Ping++'s events: what EventService calls, and what applies the late ones."""

import asyncio
import logging
from collections import OrderedDict
from datetime import timedelta

from midas import limits
from midas.errors import MidasError
from midas.event import EventRecord
from midas.flows import apply_event
from midas.flows.apply_event import UNKNOWN_ORDER, EventOutcome, Recorded
from midas.flows.commit import Ports
from midas.flows.keyed_locks import KeyedLocks
from midas.immutable import replace

logger = logging.getLogger("midas.flows")

WAITING_PAUSE_S = 1.0
"""How often each process looks for events that could not be applied at once."""
WAITING_PAUSE_MAX_S = 30.0
"""The longest pause between two such looks, while the database cannot be used."""


class Inbox:
    """Events of Ping++. One per process and event loop.

    An event that comes ten times at once is written once: the others wait for the first. A webhook
    never waits for a charge of the same order that is under way: the order's version decides.
    """

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._locks = KeyedLocks()
        self._recent: OrderedDict[str, tuple[EventRecord, float]] = OrderedDict()
        self._unknown_orders = _Count("events_of_unknown_orders", limits.UNKNOWN_ORDERS_LOGGED)

    async def record(self, body: bytes, unreadable: str = "") -> Recorded:
        """Write an event down and apply it; it is on disk when this returns.

        Raises InvalidRequest, EventIdReused, Overloaded and StorageUnavailable; the last one does
        not say that nothing was written, so send the event again.
        """
        event, subject = apply_event.read(self._ports, body, unreadable)
        async with self._locks.of(event.event_id):
            known = self._remembered(event)
            if known is not None:
                return Recorded(EventOutcome.DUPLICATE, known)
            recorded = await apply_event.record(self._ports, event, subject)
        self._remember(recorded.event)
        if recorded.outcome is EventOutcome.IGNORED and recorded.event.reason == UNKNOWN_ORDER:
            self._unknown_orders.add(self._ports.clock.monotonic())
        return recorded

    def _remembered(self, event: EventRecord) -> EventRecord | None:
        """The event as it was written, if the very same one was written a moment ago.

        That holds for a short time only: a failover may lose the event, and then it has to be
        written again.
        """
        known, at = self._recent.get(event.event_id, (None, 0.0))
        if known is None or known.body_digest != event.body_digest:
            return None
        fresh = self._ports.clock.monotonic() - at < limits.EVENT_MEMORY.total_seconds()
        return known if fresh else None

    async def run(self) -> None:
        """Apply events that wait as they fall due, until cancelled."""
        pause_s = WAITING_PAUSE_S
        while True:
            self._unknown_orders.log(self._ports.clock.monotonic())
            try:
                found = await self.apply_due()
                pause_s = WAITING_PAUSE_S
            except MidasError as error:
                found = 0
                logger.warning("events_not_applied", extra={"reason": type(error).__name__})
                pause_s = min(pause_s * 2, WAITING_PAUSE_MAX_S)
            if found < limits.EVENT_BATCH:
                await self._ports.clock.sleep(pause_s)

    async def apply_due(self) -> int:
        """Look once at the events that wait. Returns how many were looked at."""
        due = await self._ports.store.claim_events(limits.EVENT_BATCH, limits.EVENT_CLAIM)
        for first in range(0, len(due), limits.RESOLVE_AT_ONCE):
            some = due[first : first + limits.RESOLVE_AT_ONCE]
            await asyncio.gather(*(self._apply(each) for each in some))
        return len(due)

    async def _apply(self, event: EventRecord) -> None:
        """Apply one event. If it fails, the others must not wait for it."""
        try:
            await apply_event.apply_waiting(self._ports, event)
        except Exception as error:
            fields = {"event_id": event.event_id, "reason": type(error).__name__}
            logger.warning("events_not_applied", extra=fields)

    def _remember(self, event: EventRecord) -> None:
        remembered = replace(event, body=b"")
        self._recent[event.event_id] = remembered, self._ports.clock.monotonic()
        self._recent.move_to_end(event.event_id)
        if len(self._recent) > limits.EVENT_IDS_REMEMBERED:
            self._recent.popitem(last=False)


class _Count:
    """Counts what anybody may send many of: one log line at once, then one in each period."""

    def __init__(self, event: str, period: timedelta) -> None:
        self._event = event
        self._period_s = period.total_seconds()
        self._count = 0
        self._logged_at: float | None = None

    def add(self, now: float) -> None:
        """Count one more."""
        self._count += 1
        self.log(now)

    def log(self, now: float) -> None:
        """Log how many there were since the last line, if there were any and it is time."""
        if self._count and (self._logged_at is None or now - self._logged_at >= self._period_s):
            logger.info(self._event, extra={"count": self._count})
            self._count, self._logged_at = 0, now
