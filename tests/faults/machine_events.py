"""Ping++'s webhooks, strangers' events, and the gateway's relays (T2)."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from midas import limits
from midas.flows.apply_event import Recorded
from midas.lease import DeliveryOutcome, Lease, Settlement
from midas.sandbox.forgery import compact
from midas.sandbox.samples import sample_event

if TYPE_CHECKING:
    from tests.faults.machine_replica import Named, Replica
    from tests.faults.machine_world import World

Event = dict[str, Any]

BEYOND_LEASE_S = limits.NOTIFICATION_LEASE.total_seconds() + 1
NEVER = "never-"
"""How the numbers of all payments begin that do not exist."""


@dataclass(slots=True)
class Mail:
    """What Ping++ has to send, and what was accepted. Bodies by event_id, oldest first."""

    waiting: dict[str, bytes] = field(default_factory=dict)
    accepted: dict[str, bytes] = field(default_factory=dict)
    strangers: dict[str, bytes] = field(default_factory=dict)

    def announce(self, event: Event) -> None:
        """Something happened at Ping++."""
        self.waiting[event["id"]] = compact(event)

    def accept(self, event_id: str) -> None:
        """Ping++ got its 2xx and will not send this one again by itself."""
        self.accepted[event_id] = self.waiting.pop(event_id)

    def some(self, which: int) -> str:
        """The id of one that waits."""
        ids = list(self.waiting)
        return ids[which % len(ids)]

    def some_body(self, which: int) -> bytes:
        """The body of one that was accepted."""
        bodies = list(self.accepted.values())
        return bodies[which % len(bodies)]


async def arrive(replica: "Replica", body: bytes) -> Recorded:
    """A webhook that the gateway found genuine."""
    return await replica.inbox.record(body)


def other_body(body: bytes, *, lie: bool) -> bytes:
    """Another body under the same event id: the same truth, or a lie about it."""
    event = json.loads(body)
    event["request"] = "iar_another"
    if lie:
        about = event["data"]["object"]
        about.update(amount=7, paid=True, status="succeeded", succeed=True)
    return compact(event)


def _of_nobody(kind: str, **changes: Any) -> Callable[[str], Event]:
    def made(number: str) -> Event:
        event = sample_event(kind, livemode=False) | {"id": f"evt_{number}"}
        about = event["data"]["object"]
        about["id"] = number
        for name in ("order_no", "charge", "charge_order_no"):
            if name in about:
                about[name] = number
        if "app" in about:
            about["app"] = "app_1"
        about.update({key: value for key, value in changes.items() if key in about})
        return event | {key: value for key, value in changes.items() if key in event}

    return made


STRANGERS: Mapping[str, Callable[[str], Event]] = {
    "unknown order": _of_nobody("charge.succeeded"),
    "unknown order's refund": _of_nobody("refund.succeeded"),
    "another app's": _of_nobody("charge.succeeded", app="app_other"),
    "in the other mode": _of_nobody("refund.succeeded", livemode=True),
    "type of no concern": _of_nobody("transfer.succeeded"),
    "unreadable object": _of_nobody("charge.succeeded", amount="100"),
    "no event": lambda number: {"object": "event", "id": number},
}
"""Genuine webhooks that concern nothing of Midas, by what is wrong with them (W9, W12, W19)."""


def in_another_name(body: bytes, number: str, *, other_app: bool) -> bytes:
    """The event of a payment of ours as another app, or the other mode, would report it."""
    event = json.loads(body) | {"id": f"evt_{number}"}
    if other_app:
        event["data"]["object"]["app"] = "app_other"
    else:
        event["livemode"] = True
    return compact(event)


class Relay:
    """One round of one gateway's relay. It dies alone, and what it held is lost."""

    def __init__(self, world: "World", replica: "Replica", gateway: "Named") -> None:
        self._world = world
        self._replica = replica
        self._gateway = gateway

    async def round(self, limit: int) -> int:
        """Lease, deliver, settle. How many were leased."""
        leased = await self._replica.announcer.lease(limit, timedelta(0))
        settlements = [await self._attempt(lease) for lease in leased.leases]
        if settlements:
            applied = await self._replica.announcer.settle(settlements)
            self._world.reached["lease stolen"] += applied.count(False)
        return len(settlements)

    async def _attempt(self, lease: Lease) -> Settlement:
        notification = lease.notification
        outcome = await self._deliver(lease)
        code = "NOT_FOUND" if outcome is DeliveryOutcome.REFUSED else ""
        return Settlement(lease.token, notification.order_no, notification.sequence, outcome, code)

    async def _deliver(self, lease: Lease) -> DeliveryOutcome:
        """Call the order service. `slow`: the relay is stopped for longer than its lease."""
        world = self._world
        async with world.turn("order", self._gateway) as way:
            if way != "slow":
                return self._delivered(lease, way)
            world.clock.pass_time(BEYOND_LEASE_S)
        async with world.turn("late order", self._gateway):
            return self._delivered(lease, "ok")

    def _delivered(self, lease: Lease, way: str) -> DeliveryOutcome:
        world, orders = self._world, self._world.order_service
        if way == "lost_request":
            return DeliveryOutcome.RETRY
        if way == "refused":
            orders.refuse(lease.order.order_no)
            return DeliveryOutcome.REFUSED
        if orders.take(lease.notification, lease.order):
            world.reached["notified twice"] += 1
        if way in ("lost_answer", "crash_after"):
            return DeliveryOutcome.RETRY
        orders.acknowledge(lease.notification)
        return DeliveryOutcome.DELIVERED
