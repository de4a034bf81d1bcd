"""The store in memory: the whole of `midas.ports.Store`, without waiting and without surprises."""

import asyncio
import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import uuid4

from midas.charge import Charge, ChargeState
from midas.event import EventRecord
from midas.lease import Backlog, DeliveryOutcome, Lease, Settlement
from midas.limits import NOTIFICATION_PAUSE_MAX_S
from midas.payment import (
    Change,
    JournalEntry,
    Notification,
    Order,
    charges_by_age,
    refunds_by_age,
)
from midas.ports import ClaimedRow, DueTimes, KeyKind, KeyTaken, Listing, RowKind
from midas.refund import Refund, RefundState
from midas.sequences import raised_floor
from midas.storage.recent import CommittedOrders
from midas.storage.rows import FIXED_CHARGE, FIXED_REFUND

START = datetime(2030, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Delivery:
    """Where an order's notifications stand."""

    delivered: int = 0
    attempts: int = 0
    due_at: datetime = START
    token: str = ""
    parked_code: str = ""


@dataclass(slots=True)
class Disk:
    """What survives a crash. Its values never change, so that a copy is a snapshot."""

    orders: dict[str, Order] = field(default_factory=dict)
    owners: dict[tuple[KeyKind, str], str] = field(default_factory=dict)
    """The order_no that a key belongs to."""
    journal: dict[str, tuple[JournalEntry, ...]] = field(default_factory=dict)
    notifications: dict[str, tuple[Notification, ...]] = field(default_factory=dict)
    events: dict[str, EventRecord] = field(default_factory=dict)
    deliveries: dict[str, Delivery] = field(default_factory=dict)
    """How far each order's notifications were delivered."""
    floor: int = 0
    """Above which notifications are numbered, in the history that it is of."""
    floor_of: int | None = field(default=None, compare=False)
    history: int = field(default_factory=itertools.count(1).__next__, compare=False)
    """A copy, which becomes the primary in a failover, has another one."""

    def copy(self) -> "Disk":
        """A snapshot: what is written to one of the two does not show in the other."""
        return Disk(
            dict(self.orders),
            dict(self.owners),
            dict(self.journal),
            dict(self.notifications),
            dict(self.events),
            dict(self.deliveries),
            self.floor,
            self.floor_of,
        )

    def next_of(self, order_no: str) -> Notification | None:
        """The order's next notification: the lowest number above what is delivered."""
        delivered = self.deliveries[order_no].delivered
        notifications = self.notifications.get(order_no, ())
        return next((each for each in notifications if each.sequence > delivered), None)


class MemoryStore:
    """A store on a `Disk`. After a crash, make another one on the same disk.

    `clock` is the database's clock; it moves only when a test moves it.
    """

    def __init__(self, disk: Disk | None = None, clock: datetime = START) -> None:
        self.disk = Disk() if disk is None else disk
        self.clock = clock
        if self.disk.floor_of is None:
            self.disk.floor_of = self.disk.history
        self._history, self._history_since = self.disk.history, datetime.min.replace(tzinfo=UTC)
        self._committed = CommittedOrders(self.disk.history)
        self._wakes: list[asyncio.Future[None]] = []

    def now(self) -> datetime:
        """See `Store`."""
        return self.clock

    def new_change_id(self) -> str:
        """See `Store`."""
        return uuid4().hex

    async def since_possible_loss(self) -> timedelta:
        """See `Store`. Another disk in the place of this one has another history."""
        if self.disk.history != self._history:
            self._history, self._history_since = self.disk.history, self.clock
        return self.clock - self._history_since

    async def perhaps_lost(self) -> list[Order]:
        """See `Store`."""
        return self._committed.perhaps_lost(self.disk.history)

    async def load(self, order_no: str) -> Order:
        """See `Store`."""
        return self._known(self.disk.orders.get(order_no)) or self.unread(order_no)

    def unread(self, order_no: str) -> Order:
        """See `Store`."""
        return Order(order_no, sequence_floor=self.disk.floor)

    async def find(self, kind: KeyKind, key: str) -> Order | None:
        """See `Store`."""
        owner = key if kind is KeyKind.ORDER_NO else self.disk.owners.get((kind, key))
        return None if owner is None else self._known(self.disk.orders.get(owner))

    def _known(self, order: Order | None) -> Order | None:
        return order and replace(order, sequence_floor=self.disk.floor)

    async def commit(self, change: Change) -> bool:
        """See `Store`."""
        disk, order_no = self.disk, change.order_no
        before = disk.orders.get(order_no) or Order(order_no)
        expected = change.expected_version, change.expected_change
        if (before.version, before.last_change) != expected:
            return False
        if change.notifications and not self._rightly_numbered(change):
            return False
        after = _changed(before, change)
        if sum(each.is_open for each in after.charges) > 1:
            return False
        keys = _keys(after)
        for key, column in keys:
            if keys.count((key, column)) > 1:
                raise KeyTaken(column)
        owners = {key: column for key, column in keys if disk.owners.get(key) != order_no}
        for key, column in owners.items():
            if key in disk.owners:
                raise KeyTaken(column)
        if any(each.event_id in disk.events for each in change.new_events):
            raise KeyTaken("event_id")
        for each in (*change.new_events, *change.changed_events):
            disk.events[each.event_id] = each
        delivery = disk.deliveries.setdefault(order_no, Delivery(due_at=self.clock))
        if delivery.delivered == before.last_sequence:
            disk.deliveries[order_no] = replace(delivery, due_at=self.clock)
        if change.renumbers:
            disk.deliveries[order_no] = Delivery(before.last_sequence, due_at=self.clock)
        disk.orders[order_no] = after
        disk.owners.update(dict.fromkeys(owners, order_no))
        disk.journal[order_no] = disk.journal.get(order_no, ()) + change.journal
        notifications = disk.notifications.get(order_no, ()) + change.notifications
        sequences = [each.sequence for each in notifications]
        assert sequences == sorted(set(sequences)), "I7: a sequence is used twice"
        disk.notifications[order_no] = notifications
        self._committed.remember(change.after, change.expected_change)
        if change.notifications:
            self._wake()
        return True

    def _rightly_numbered(self, change: Change) -> bool:
        """Whether it is numbered above the floor that holds; on another server that is raised."""
        disk = self.disk
        if disk.floor_of == disk.history:
            return change.sequence_floor == disk.floor
        self.raise_floor()
        return False

    def raise_floor(self) -> None:
        """As it is done when commits may be gone."""
        self.disk.floor = raised_floor(self.disk.floor, int(self.clock.timestamp()))
        self.disk.floor_of = self.disk.history

    async def record_event(self, event: EventRecord) -> bool:
        """See `Store`."""
        return self.disk.events.setdefault(event.event_id, event) is event

    async def event(self, event_id: str) -> EventRecord | None:
        """See `Store`."""
        return self.disk.events.get(event_id)

    async def claim_events(self, limit: int, hold: timedelta) -> list[EventRecord]:
        """See `Store`."""
        due = sorted(
            (each.due_at, each.event_id)
            for each in self.disk.events.values()
            if each.due_at is not None and each.due_at <= self.clock
        )
        claimed = [
            replace(self.disk.events[key], due_at=self.clock + hold) for _, key in due[:limit]
        ]
        claimed = [replace(each, attempts=each.attempts + 1) for each in claimed]
        self.disk.events.update((each.event_id, each) for each in claimed)
        return claimed

    async def lease_notifications(self, limit: int, hold: timedelta) -> list[Lease]:
        """See `Store`."""
        disk, token = self.disk, uuid4().hex
        due = sorted(
            (each.due_at, order_no)
            for order_no, each in disk.deliveries.items()
            if self._undelivered(order_no) and each.due_at <= self.clock
        )
        leases = []
        for _, order_no in due[:limit]:
            now = disk.deliveries[order_no]
            disk.deliveries[order_no] = replace(now, due_at=self.clock + hold, token=token)
            head = disk.next_of(order_no)
            if head is not None:
                leases.append(Lease(token, now.attempts, head, disk.orders[order_no]))
        return leases

    async def settle_notifications(self, settlements: Sequence[Settlement]) -> list[bool]:
        """See `Store`."""
        return [self._settle(each) for each in settlements]

    def notification_written(self) -> "asyncio.Future[None]":
        """See `Store`."""
        wake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._wakes.append(wake)
        return wake

    async def backlog(self) -> Backlog:
        """See `Store`."""
        due = filter(self._undelivered, self.disk.deliveries)
        heads = [head.occurred_at for each in due if (head := self.disk.next_of(each)) is not None]
        parked = sum(bool(each.parked_code) for each in self.disk.deliveries.values())
        return Backlog(min(heads, default=None), parked)

    def _undelivered(self, order_no: str) -> bool:
        now, last = self.disk.deliveries[order_no], self.disk.orders[order_no].last_sequence
        return now.delivered < last and not now.parked_code

    def _settle(self, settled: Settlement) -> bool:
        now = self.disk.deliveries.get(settled.order_no)
        if now is None or not settled.token or now.token != settled.token:
            return False
        head = self.disk.next_of(settled.order_no)
        if head is None or head.sequence != settled.sequence:
            return False
        after = replace(now, token="", due_at=self.clock, attempts=now.attempts + 1)
        if settled.outcome is DeliveryOutcome.DELIVERED:
            after = replace(after, delivered=settled.sequence, attempts=0)
            self._wake()
        elif settled.outcome is DeliveryOutcome.RETRY:
            pause_s = min(NOTIFICATION_PAUSE_MAX_S, 1 << min(now.attempts, 20))
            after = replace(after, due_at=self.clock + timedelta(seconds=pause_s))
        else:
            after = replace(after, parked_code=settled.code)
        self.disk.deliveries[settled.order_no] = after
        return True

    def _wake(self) -> None:
        wakes, self._wakes = self._wakes, []
        for wake in wakes:
            if not wake.done():
                wake.set_result(None)

    async def claim_due_orders(self, limit: int, hold: timedelta) -> list[str]:
        """See `Store`."""
        due = {}
        for order in self.disk.orders.values():
            dues = [each.due_at for each in _claimable(order, self.clock) if each.due_at]
            if dues:
                due[order.order_no] = min(dues)
        claimed = sorted(due, key=lambda order_no: due[order_no])[:limit]
        for order_no in claimed:
            order = self.disk.orders[order_no]
            held = {id(each) for each in _claimable(order, self.clock)}
            later = self.clock + hold
            self.disk.orders[order_no] = replace(
                order,
                charges=tuple(
                    replace(c, due_at=later) if id(c) in held else c for c in order.charges
                ),
                refunds=tuple(
                    replace(r, due_at=later) if id(r) in held else r for r in order.refunds
                ),
            )
        return claimed

    async def claim_due_rows(
        self, kinds: Collection[RowKind], limit: int, hold: timedelta
    ) -> list[ClaimedRow]:
        """See `Store`."""
        due = sorted(
            (row.due_at, kind, order_no, key)
            for kind, order_no, key, row in self._planned()
            if kind in kinds and row.due_at is not None and row.due_at <= self.clock
        )
        held_until = self.clock + hold
        claimed = [
            ClaimedRow(kind, order_no, key, due_at, held_until)
            for due_at, kind, order_no, key in due[:limit]
        ]
        for each in claimed:
            self._set_due(each, each.due_at, held_until)
        return claimed

    async def release_rows(self, rows: Sequence[ClaimedRow]) -> None:
        """See `Store`."""
        for each in rows:
            self._set_due(each, each.held_until, each.due_at)

    async def due_times(self, kinds: Collection[RowKind]) -> DueTimes:
        """See `Store`."""
        times = [row.due_at for kind, _, _, row in self._planned() if kind in kinds and row.due_at]
        return DueTimes(
            min((each for each in times if each <= self.clock), default=None),
            min((each for each in times if each > self.clock), default=None),
        )

    def _planned(self) -> Iterator[tuple[RowKind, str, str, Charge | Refund]]:
        for order in self.disk.orders.values():
            for charge in order.charges:
                yield RowKind.CHARGE, order.order_no, charge.out_trade_no, charge
            for refund in order.refunds:
                yield RowKind.REFUND, order.order_no, refund.refund_no, refund

    def _set_due(self, row: ClaimedRow, was: datetime, due_at: datetime) -> None:
        order = self.disk.orders.get(row.order_no)
        if order is None:
            return
        charges = tuple(
            replace(c, due_at=due_at)
            if (row.kind, row.key, was) == (RowKind.CHARGE, c.out_trade_no, c.due_at)
            else c
            for c in order.charges
        )
        refunds = tuple(
            replace(r, due_at=due_at)
            if (row.kind, row.key, was) == (RowKind.REFUND, r.refund_no, r.due_at)
            else r
            for r in order.refunds
        )
        self.disk.orders[row.order_no] = replace(order, charges=charges, refunds=refunds)

    async def list_charges(self, state: ChargeState | None, page: Listing) -> list[Order]:
        """See `Store`."""
        rows = [
            (charge.created_at, charge.out_trade_no, order, charge)
            for order in self.disk.orders.values()
            for charge in order.charges
            if state is None or charge.state is state
        ]
        return [
            replace(order, charges=(charge,), refunds=order.refunds_of(charge.out_trade_no))
            for _, _, order, charge in _page(rows, page)
        ]

    async def list_refunds(self, state: RefundState | None, page: Listing) -> list[Refund]:
        """See `Store`."""
        rows = [
            (refund.created_at, refund.refund_no, order, refund)
            for order in self.disk.orders.values()
            for refund in order.refunds
            if state is None or refund.state is state
        ]
        return [refund for _, _, _, refund in _page(rows, page)]

    async def journal(self, order_no: str) -> list[JournalEntry]:
        """See `Store`."""
        return list(self.disk.journal.get(order_no, ()))

    async def notifications(self, order_no: str) -> list[Notification]:
        """See `Store`."""
        return list(self.disk.notifications.get(order_no, ()))

    async def check(self) -> None:
        """See `Store`."""


_Record = TypeVar("_Record", Charge, Refund)


def _changed(order: Order, change: Change) -> Order:
    charges = {each.out_trade_no: each for each in order.charges}
    for charge in change.changed_charges:
        _assert_fixed(charges[charge.out_trade_no], charge, FIXED_CHARGE)
        charges[charge.out_trade_no] = charge
    charges.update((each.out_trade_no, each) for each in change.new_charges)
    refunds = {each.refund_no: each for each in order.refunds}
    for refund in change.changed_refunds:
        _assert_fixed(refunds[refund.refund_no], refund, FIXED_REFUND)
        refunds[refund.refund_no] = refund
    refunds.update((each.refund_no, each) for each in change.new_refunds)
    return Order(
        order.order_no,
        order.version + 1,
        change.last_sequence,
        charges_by_age(charges.values()),
        refunds_by_age(refunds.values()),
        change.change_id,
    )


def _assert_fixed(before: _Record, after: _Record, names: frozenset[str]) -> None:
    """What was asked for never changes; the real store does not write it again."""
    assert all(getattr(before, name) == getattr(after, name) for name in names)


def _keys(order: Order) -> list[tuple[tuple[KeyKind, str], str]]:
    keys = [(KeyKind.OUT_TRADE_NO, each.out_trade_no) for each in order.charges]
    keys += [(KeyKind.CHARGE_ID, each.charge_id) for each in order.charges if each.charge_id]
    keys += [(KeyKind.REFUND_NO, each.refund_no) for each in order.refunds]
    keys += [(KeyKind.REFUND_ID, each.refund_id) for each in order.refunds if each.refund_id]
    return [(key, key[0].value) for key in keys]


def _claimable(order: Order, now: datetime) -> list[Charge | Refund]:
    rows: list[Charge | Refund] = [
        each
        for each in order.charges
        if each.state is ChargeState.SUBMITTING
        or (each.state is ChargeState.PENDING and each.superseded)
    ]
    rows += [each for each in order.refunds if each.state is RefundState.SUBMITTING]
    return [each for each in rows if each.due_at is not None and each.due_at <= now]


def _page(
    rows: list[tuple[datetime, str, Order, _Record]], page: Listing
) -> list[tuple[datetime, str, Order, _Record]]:
    wanted = [
        row
        for row in rows
        if (page.created_from is None or row[0] >= page.created_from)
        and (page.created_before is None or row[0] < page.created_before)
        and (page.after is None or row[:2] < page.after)
    ]
    return sorted(wanted, key=lambda row: row[:2], reverse=True)[: page.limit]
