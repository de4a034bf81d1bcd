"""The relay: leases notifications from Midas and calls the order service.

    Midas ──LeaseNotifications──▶ places, one notification each ──▶ order service
      ▲                                                                  │
      └──SettleNotifications◀── results that gather (settlements.py) ◀───┘

A notification takes a place from its lease until its settlement has been reported, so
`concurrency` bounds the calls, the tasks and the results that wait. While a place is free a lease
call is pending: what becomes due is delivered at once. Order and fairness come from Midas, which
leases one notification of an order at a time, always the one after the last that was acknowledged.

What the relay holds can be lost at any moment: a lease that is not settled is handed out again.
"""

import asyncio
import logging
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple, Protocol

from google.protobuf.duration_pb2 import Duration

from midas.v1 import event_service_pb2 as events
from webhook_gateway.calls import CallFailed, answer_of
from webhook_gateway.delivery import Answer, Deliveries
from webhook_gateway.pauses import Pauses
from webhook_gateway.settlements import Settlements

if TYPE_CHECKING:
    from midas.order.v1.order_payment_service_pb2_grpc import OrderPaymentServiceAsyncStub
    from midas.v1.event_service_pb2_grpc import EventServiceAsyncStub

LEASED_AT_ONCE = 256
"""The most that one lease call may ask for, as the contract says."""
LEASE_ANSWER_S = 5.0
"""How much longer than it was asked to wait Midas may take for its answer."""
LEASE_MARGIN = 0.1
"""The part of a lease, at its end, in which nothing is under way any more: clocks differ."""
LAST_LEASE_S = 0.5
"""A lease call that is younger than this may be about to be answered: a drain waits for it."""

_log = logging.getLogger("midas.relay")


class Metrics(Protocol):
    """What the relay measures; `webhook_gateway.metrics.Metrics` has it."""

    def delivered(self, kind: str, outcome: str) -> None:
        """One attempt: `pay_order_success`, … and `delivered`, `retry` or `refused`."""

    def backlog(self, oldest_undelivered_s: float, parked: int) -> None:
        """The age of the oldest notification that waits, and the orders that wait for a person."""


@dataclass(frozen=True, slots=True)
class RelayOptions:
    """How much is delivered at once, and how long answers are waited for."""

    concurrency: int
    """How many notifications may be under way at the same time."""
    order_timeout: timedelta
    """How long the order service may take for one answer."""
    wait: timedelta = timedelta(seconds=20)
    """How long Midas is asked to wait for something to become due; at most 60 seconds."""


class _Lease(NamedTuple):
    send_until: float
    """The end of the time to send it, counted from before the call. A process that was paused
    during the call must not take the lease for a fresh one."""
    over_at: float
    """When it is over at the latest, counted from the answer."""


class Relay:
    """Delivers notifications from the moment of `run` until `drain`, or until it is cancelled."""

    def __init__(
        self,
        event_stub: "EventServiceAsyncStub",
        order_stub: "OrderPaymentServiceAsyncStub",
        options: RelayOptions,
        metrics: Metrics,
    ) -> None:
        self._events = event_stub
        self._deliveries = Deliveries(order_stub)
        self._options = options
        self._metrics = metrics
        self._settlements = Settlements(event_stub, self._release)
        self._wait_s = options.wait.total_seconds()
        self._order_timeout_s = options.order_timeout.total_seconds()
        self._under_way = 0
        self._released = asyncio.Event()
        self._leasing: asyncio.Task[None] | None = None
        self._asked_at = 0.0
        self._delivering: set[asyncio.Task[None]] = set()
        self._draining = False

    async def run(self) -> None:
        """Deliver until cancelled. Survives every failure of Midas and of the order service."""
        self._leasing = asyncio.create_task(self._lease_on())
        try:
            await self._settlements.run()
        finally:
            await self._abandon()

    async def drain(self, timeout: timedelta) -> bool:
        """Lease no more, finish and settle what is under way. Returns whether that was in time.

        `run` goes on and has to be cancelled; it then abandons what is left, which Midas hands out
        again when the leases are over.
        """
        self._draining = True
        if self._leasing is None:
            return True
        try:
            async with asyncio.timeout(timeout.total_seconds()):
                await self._end(self._leasing)
                while self._under_way:
                    await self._release_of_a_place()
        except TimeoutError:
            _log.warning("relay_not_drained", extra={"count": self._under_way})
            return False
        return True

    # Leasing

    async def _lease_on(self) -> None:
        pauses, failing = Pauses(), ""
        while True:
            while self._under_way >= self._options.concurrency:
                await self._release_of_a_place()
            if self._draining:
                return
            try:
                in_vain = await self._lease()
            except CallFailed as failed:
                if failed.code != failing:
                    _log.warning("lease_failed", extra={"code": failed.code})
                failing, in_vain = failed.code, True
            except Exception as error:
                _log.error("relay_unexpected", exc_info=error)
                in_vain = True
            else:
                if failing:
                    _log.info("lease_recovered", extra={"count": pauses.count})
                failing = ""
            if in_vain:
                await asyncio.sleep(pauses.next_s())
            else:
                pauses.reset()

    async def _lease(self) -> bool:
        """Lease and start delivering. Returns True if Midas had nothing and did not wait for it."""
        most = min(self._options.concurrency - self._under_way, LEASED_AT_ONCE)
        wait_s = self._wait_s
        request = events.LeaseNotificationsRequest(max=most, wait=_duration(wait_s))
        asked_at = self._asked_at = time.monotonic()
        answer = await answer_of(self._events.LeaseNotifications, request, wait_s + LEASE_ANSWER_S)
        answered_at = time.monotonic()
        lease_s = answer.lease.seconds + answer.lease.nanos / 1e9
        if lease_s:
            # the wait is taken off the lease, so it may not take much of it
            self._wait_s = min(self._options.wait.total_seconds(), lease_s / 2)
        lease = _Lease(asked_at + lease_s * (1 - LEASE_MARGIN), answered_at + lease_s)
        for leased in answer.notifications[:most]:
            self._start(leased, lease)
        self._measure_backlog(answer)
        return not answer.notifications and answered_at - asked_at < wait_s / 2

    def _measure_backlog(self, answer: events.LeaseNotificationsResponse) -> None:
        if not answer.backlog_known:
            return
        age_s = 0.0
        if answer.HasField("oldest_undelivered_at"):
            oldest = answer.oldest_undelivered_at
            age_s = max(0.0, time.time() - oldest.seconds - oldest.nanos / 1e9)
        self._metrics.backlog(age_s, answer.parked_orders)

    async def _end(self, leasing: asyncio.Task[None]) -> None:
        """Lease no more. A call that may be about to be answered is still waited for.

        If it were cancelled, what it had leased would wait until the lease is over.
        """
        young_s = self._asked_at + LAST_LEASE_S - time.monotonic()
        await asyncio.wait((leasing,), timeout=max(0.0, young_s))
        leasing.cancel()
        await asyncio.wait((leasing,))

    # Delivering

    def _start(self, leased: events.LeasedNotification, lease: _Lease) -> None:
        self._under_way += 1
        task = asyncio.create_task(self._deliver(leased, lease))
        self._delivering.add(task)
        task.add_done_callback(self._delivering.discard)

    async def _deliver(self, leased: events.LeasedNotification, lease: _Lease) -> None:
        left_s = lease.send_until - time.monotonic()
        if left_s <= 0:
            # another relay may have it; unsettled, it is leased again without counting an attempt
            _log.warning("lease_over_before_sending", extra=_named(leased))
            self._release(1)
            return
        notification = leased.notification
        timeout_s = min(self._order_timeout_s, left_s)
        answer = await self._deliveries.deliver(notification, timeout_s)
        settlement = events.Settlement(
            lease_token=leased.lease_token,
            order_no=notification.order_no,
            sequence=notification.sequence,
            outcome=answer.outcome,
            code=answer.code,
            receiver_sequence=answer.receiver_sequence,
        )
        self._settlements.add(settlement, lease.over_at)
        self._log_attempt(leased, answer)

    def _log_attempt(self, leased: events.LeasedNotification, answer: Answer) -> None:
        outcome = _OUTCOMES[answer.outcome]
        if answer.outcome != events.DELIVERY_OUTCOME_DELIVERED:
            refused = answer.outcome == events.DELIVERY_OUTCOME_REFUSED
            level = logging.ERROR if refused else logging.WARNING
            fields = {**_named(leased), "code": answer.code, "verdict": outcome}
            _log.log(level, "delivery_failed", extra=fields)
        elif leased.attempts:
            # an operator who reads that it was refused, or parked, wants to read that it is over
            _log.info("delivery_recovered", extra=_named(leased))
        self._metrics.delivered(_kind(leased), outcome)

    # Places

    def _release(self, count: int) -> None:
        self._under_way -= count
        self._released.set()

    async def _release_of_a_place(self) -> None:
        self._released.clear()
        await self._released.wait()

    async def _abandon(self) -> None:
        tasks = [task for task in (self._leasing, *self._delivering) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._under_way:
            _log.warning("deliveries_abandoned", extra={"count": self._under_way})
        self._settlements.forget()
        self._leasing, self._under_way = None, 0


_OUTCOMES = {
    events.DELIVERY_OUTCOME_DELIVERED: "delivered",
    events.DELIVERY_OUTCOME_RETRY: "retry",
    events.DELIVERY_OUTCOME_REFUSED: "refused",
}
_KINDS = {
    number: name.removeprefix("NOTIFICATION_KIND_").lower()
    for name, number in events.NotificationKind.items()
}


def _kind(leased: events.LeasedNotification) -> str:
    return _KINDS.get(leased.notification.kind, "unknown")


def _named(leased: events.LeasedNotification) -> dict[str, object]:
    notification = leased.notification
    return {
        "order_no": notification.order_no,
        "sequence": notification.sequence,
        "kind": _kind(leased),
        "attempt": leased.attempts + 1,
    }


def _duration(seconds: float) -> Duration:
    whole = int(seconds)
    return Duration(seconds=whole, nanos=int((seconds - whole) * 1e9))
