"""The order as Midas knows it: its charges and refunds, and every change to them as one commit.

An order is read whole and changed whole. `draft.py` makes the change. A `Change` is what a store
commits: new and changed rows, journal entries and notifications together. The order's version
guards it: if two changes are based on the same reading, one loses and is decided anew.
"""

from collections.abc import Collection, Mapping
from dataclasses import field
from datetime import datetime
from typing import Any

from midas.charge import Charge, ChargeState
from midas.errors import StorageUnavailable
from midas.event import EventRecord
from midas.immutable import record
from midas.refund import Refund, RefundState

CHARGE_INTENDED = "charge_intended"
REFUND_INTENDED = "refund_intended"
_INTENTS = frozenset({CHARGE_INTENDED, REFUND_INTENDED})
_OPEN_CHARGES = (ChargeState.SUBMITTING, ChargeState.PENDING)
_OPEN_REFUNDS = (RefundState.SUBMITTING, RefundState.PENDING)


@record(frozen=True, slots=True)
class JournalEntry:
    """One line of the transaction log.

    `subject` is an out_trade_no, a refund_no, or the order_no if it concerns the whole order.
    """

    order_no: str
    subject: str
    event: str
    at: datetime
    by: str
    state_before: str
    state_after: str
    detail: Mapping[str, Any] = field(default_factory=dict)


@record(frozen=True)  # without slots, for `replace`
class Notification:
    """One message to the order service. `sequence` is never used twice: see `sequences.py`."""

    order_no: str
    sequence: int
    kind: str
    occurred_at: datetime
    observed_by: str
    out_trade_no: str
    refund_no: str = ""
    late: bool = False
    duplicate_payment: bool = False
    change_id: str = ""
    """The id of the commit that wrote it. It identifies the notification beside its number."""
    told_again: bool = False
    """The same may have been announced before, under another number."""


@record(frozen=True, slots=True)
class Order:
    """Everything known of one order_no. `version` counts its commits; 0 is an order not stored."""

    order_no: str
    version: int = 0
    last_sequence: int = 0
    charges: tuple[Charge, ...] = ()
    """Oldest first."""
    refunds: tuple[Refund, ...] = ()
    """Oldest first."""
    last_change: str = field(default="", compare=False)
    """The id of the commit that made this version. After a failover, another commit may have made
    a version of the same number."""
    sequence_floor: int = field(default=0, compare=False)
    """The number of its next notification is above this floor, too. The store knows the floor."""

    @property
    def open_charge(self) -> Charge | None:
        """The one charge that stands in the way of another, if any."""
        return next((each for each in self.charges if each.is_open), None)

    @property
    def blocking_charge(self) -> Charge | None:
        """The charge to settle before another one is made: an unknown one before an open one."""
        unknown = (each for each in self.charges if each.state is ChargeState.SUBMITTING)
        return next(unknown, None) or self.open_charge

    @property
    def paying_charge(self) -> Charge | None:
        """A charge that holds the order's money: paid and not refunded in full."""
        return next((each for each in self.charges if self.holds_money(each)), None)

    def holds_money(self, charge: Charge) -> bool:
        """Whether the charge is paid and its succeeded refunds do not cover it."""
        paid = charge.state is ChargeState.SUCCEEDED
        return paid and self.refunded(charge.out_trade_no) < charge.amount

    def is_behind(self, known: "Order") -> bool:
        """Whether anything that has ended in `known` is open here. No commit can do that."""
        charges = {c.out_trade_no for c in self.charges if c.state in _OPEN_CHARGES}
        refunds = {r.refund_no for r in self.refunds if r.state in _OPEN_REFUNDS}
        return any(
            each.out_trade_no in charges and each.state not in _OPEN_CHARGES
            for each in known.charges
        ) or any(
            each.refund_no in refunds and each.state not in _OPEN_REFUNDS for each in known.refunds
        )

    def has_lost(self, known: "Order") -> bool:
        """Whether anything of `known` is gone here, or is as it was before.

        Midas never deletes rows: the database has lost them.
        """
        charges = {each.out_trade_no for each in self.charges}
        refunds = {each.refund_no for each in self.refunds}
        gone = any(each.out_trade_no not in charges for each in known.charges) or any(
            each.refund_no not in refunds for each in known.refunds
        )
        return gone or self.is_behind(known)

    def charge(self, out_trade_no: str) -> Charge:
        """The charge of this number. Raises StorageUnavailable if the order has none.

        Midas never deletes rows: the database has lost it, and it could not be put back.
        """
        for each in self.charges:
            if each.out_trade_no == out_trade_no:
                return each
        raise StorageUnavailable

    def refund(self, refund_no: str) -> Refund:
        """The refund of this key. Raises StorageUnavailable if the order has none: see `charge`."""
        for each in self.refunds:
            if each.refund_no == refund_no:
                return each
        raise StorageUnavailable

    def refunds_of(self, out_trade_no: str) -> tuple[Refund, ...]:
        """The refunds of one charge, oldest first."""
        return tuple(each for each in self.refunds if each.out_trade_no == out_trade_no)

    def refunded(self, out_trade_no: str) -> int:
        """Sum of the refunds of a charge that succeeded, in minor units."""
        done = (r for r in self.refunds_of(out_trade_no) if r.state is RefundState.SUCCEEDED)
        return sum(each.amount for each in done)

    def refundable(self, charge: Charge) -> int:
        """What may still be refunded, in minor units: unknown and pending ones count as spent."""
        if charge.state is not ChargeState.SUCCEEDED:
            return 0
        held = (r.amount for r in self.refunds_of(charge.out_trade_no) if r.holds_money)
        return max(0, charge.amount - sum(held))


def charges_by_age(found: Collection[Charge]) -> tuple[Charge, ...]:
    """These charges, oldest first, as an order has them. Most orders have one."""
    if len(found) < 2:
        return tuple(found)
    return tuple(sorted(found, key=lambda each: (each.created_at, each.out_trade_no)))


def refunds_by_age(found: Collection[Refund]) -> tuple[Refund, ...]:
    """These refunds, oldest first, as an order has them. Most orders have none."""
    if len(found) < 2:
        return tuple(found)
    return tuple(sorted(found, key=lambda each: (each.created_at, each.refund_no)))


@record(frozen=True, slots=True)
class Change:
    """What one commit writes: all or nothing, and only if the order is as it was read."""

    order_no: str
    expected_version: int
    expected_change: str
    last_sequence: int
    change_id: str
    """At most 32 characters. No two changes have the same id, anywhere."""
    after: Order
    """The order as it will stand, for the flow that goes on with it. It is not written itself."""
    new_charges: tuple[Charge, ...] = ()
    changed_charges: tuple[Charge, ...] = ()
    new_refunds: tuple[Refund, ...] = ()
    changed_refunds: tuple[Refund, ...] = ()
    journal: tuple[JournalEntry, ...] = ()
    notifications: tuple[Notification, ...] = ()
    new_events: tuple[EventRecord, ...] = ()
    changed_events: tuple[EventRecord, ...] = ()
    sequence_floor: int = 0
    """The floor above which the notifications are numbered. If another floor holds by now, the
    change loses."""
    renumbers: bool = False
    """Whether the order service is to receive these notifications and none before them. The order
    is no longer parked then."""

    @property
    def is_intent(self) -> bool:
        """Whether it writes down nothing but intents, which are sent to Ping++ once on disk.

        Nothing that Midas has learnt would be lost with it.
        """
        updates = self.changed_charges or self.changed_refunds
        events = self.new_events or self.changed_events
        lines = all(each.event in _INTENTS for each in self.journal)
        return lines and not (updates or events)


RENUMBERED = "notifications_renumbered"
"""The journal's event for that. `detail` has the receiver's number, `above`, and the `first` new
one."""
