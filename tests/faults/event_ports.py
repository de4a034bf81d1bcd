"""Events and notifications on their way, each call as the chooser has it (T1).

    Ping++ ── webhook ──▶ gateway ──▶ Inbox          Announcer ──▶ relay ──▶ order service

The gateway is a process of its own: what it holds may be lost at any moment.
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from midas import limits
from midas.errors import MidasError, StorageUnavailable
from midas.event import EventRecord
from midas.flows.apply_event import Recorded
from midas.lease import DeliveryOutcome, Lease, Settlement
from tests.faults.conservation import check_outbox
from tests.faults.crash import COMMIT_WAYS, READ_WAYS, Crash, Process, written

if TYPE_CHECKING:
    from tests.faults.world import World

WEBHOOK_WAYS = ("ok", "lost_request", "lost_answer", "twice")
ORDER_WAYS = (
    "ok",
    "lost_request",
    "lost_answer",
    "refused",
    "late_request",
    "late_answer",
    "dies_before",
    "dies_after",
)
SENDS = 10
"""How often Ping++ sends a webhook that is not accepted (pingpp.md section 5)."""
LEASED_AT_ONCE = 2
BEYOND_LEASE_S = limits.NOTIFICATION_LEASE.total_seconds() + 1


class FaultyQueues:
    """The part of a disk that keeps events and notifications."""

    _world: "World"
    _process: Process

    async def record_event(self, event: EventRecord) -> bool:
        """Written or not, answered or not."""
        way = self._way("record_event", COMMIT_WAYS)
        return await written(self._process, way, lambda: self._world.disk.record_event(event))

    async def event(self, event_id: str) -> EventRecord | None:
        """Readable or not."""
        if self._way("event", READ_WAYS) == "refused":
            raise StorageUnavailable
        return await self._world.disk.event(event_id)

    async def claim_events(self, limit: int, hold: timedelta) -> list[EventRecord]:
        """Claimed or not, answered or not."""
        way = self._way("claim_events", COMMIT_WAYS)
        disk = self._world.disk
        return await written(self._process, way, lambda: disk.claim_events(limit, hold))

    async def lease_notifications(self, limit: int, hold: timedelta) -> list[Lease]:
        """Leased or not, answered or not."""
        way = self._way("lease", COMMIT_WAYS)
        disk = self._world.disk
        return await written(self._process, way, lambda: disk.lease_notifications(limit, hold))

    async def settle_notifications(self, settlements: Sequence[Settlement]) -> list[bool]:
        """Settled or not, answered or not."""
        way = self._way("settle", COMMIT_WAYS)
        disk = self._world.disk
        return await written(self._process, way, lambda: disk.settle_notifications(settlements))

    def _way(self, where: str, ways: Sequence[str]) -> str:
        self._process.still_alive()
        self._world.fail_over()
        return self._world.chooser.choose(where, ways)


class Webhooks:
    """Ping++'s sends: each event until it is accepted, or given up."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self.owed: dict[str, bytes] = {}
        """By event_id, oldest first."""
        self._sends: dict[str, int] = {}

    async def send_owed(self) -> None:
        """Every webhook that was not accepted yet, once."""
        for event_id in list(self.owed):
            await self.send(event_id)

    async def send(self, event_id: str) -> None:
        """One send of one webhook."""
        way = self._world.chooser.choose("webhook", WEBHOOK_WAYS)
        self._sends[event_id] = self._sends.get(event_id, 0) + 1
        assert self._sends[event_id] <= SENDS, "I3: Ping++ gave a webhook up"
        if way == "lost_request":
            return
        body = self.owed[event_id]
        copies = 2 if way == "twice" else 1
        accepted = await asyncio.gather(*(self._arrive(body) for _ in range(copies)))
        if any(accepted) and way != "lost_answer":
            del self.owed[event_id]

    async def _arrive(self, body: bytes) -> bool:
        """Whether it is answered with 2xx."""
        world = self._world
        try:
            recorded = await world.inbox.record(body)
        except MidasError:
            return False
        except Crash:
            world.start()
            return False
        self._check_durable(recorded)
        return True

    def _check_durable(self, recorded: Recorded) -> None:
        stored = self._world.disk.disk.events.get(recorded.event.event_id)
        assert stored is not None, "I11: accepted, and not on disk"
        assert stored.body_digest == recorded.event.body_digest, "I11: another one is on disk"


class Relay:
    """A gateway's relay. Each round could be that of another gateway: it remembers nothing."""

    def __init__(self, world: "World") -> None:
        self._world = world

    async def round(self) -> None:
        """Lease, deliver, settle; what fails is left for the next round."""
        world = self._world
        try:
            await self._round()
        except MidasError:
            pass
        except Crash:
            if world.process.dead:
                world.start()
        check_outbox(world.disk.disk.deliveries, world.orders)

    async def _round(self) -> None:
        announcer = self._world.announcer
        leased = await announcer.lease(LEASED_AT_ONCE, timedelta(0))
        settlements = [await self._attempt(lease) for lease in leased.leases]
        if settlements and not all(await announcer.settle(settlements)):
            self._world.reached.add("lease stolen")

    async def _attempt(self, lease: Lease) -> Settlement:
        notification = lease.notification
        outcome = await self._deliver(lease)
        code = "NOT_FOUND" if outcome is DeliveryOutcome.REFUSED else ""
        return Settlement(lease.token, notification.order_no, notification.sequence, outcome, code)

    async def _deliver(self, lease: Lease) -> DeliveryOutcome:
        world, notification = self._world, lease.notification
        way = "lost_request" if world.orders_down else world.chooser.choose("order", ORDER_WAYS)
        if way == "dies_before":
            raise Crash
        if way == "late_request":
            await self._lease_passes()
        if way == "lost_request":
            return DeliveryOutcome.RETRY
        if way == "refused":
            world.orders.refuse(lease.order.order_no)
            return DeliveryOutcome.REFUSED
        if world.orders.take(notification, lease.order):
            world.reached.add("notified twice")
        if way == "dies_after":
            raise Crash
        if way == "lost_answer":
            return DeliveryOutcome.RETRY
        if way == "late_answer":
            await self._lease_passes()
        world.orders.acknowledge(notification)
        return DeliveryOutcome.DELIVERED

    async def _lease_passes(self) -> None:
        """The relay is stopped for longer than its lease, and another one goes on meanwhile."""
        self._world.pass_time(BEYOND_LEASE_S)
        await self.round()
