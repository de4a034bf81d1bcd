"""The order as Midas knows it: its charges and refunds, and every change to them as one commit.

An order is read whole and changed whole. `Draft` applies observations and intents to it, without
any effect outside; `Draft.change()` is what a store commits: new and changed rows, journal entries
and notifications together, guarded by the order's version, so that of two changes based on the same
reading one loses and is decided anew.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import field
from datetime import datetime
from typing import Any, TypeVar

from midas import charge as charges
from midas import refund as refunds
from midas import schedule
from midas.charge import Charge, ChargeFacts, ChargeObservation, ChargeState, ObservedBy
from midas.errors import StorageUnavailable
from midas.event import EventRecord
from midas.immutable import changed, record
from midas.refund import Refund, RefundFacts, RefundObservation, RefundState
from midas.sequences import epoch_above

CHARGE_INTENDED = "charge_intended"
REFUND_INTENDED = "refund_intended"
_INTENTS = frozenset({CHARGE_INTENDED, REFUND_INTENDED})
_OPEN_CHARGES = (ChargeState.SUBMITTING, ChargeState.PENDING)
_OPEN_REFUNDS = (RefundState.SUBMITTING, RefundState.PENDING)


@record(frozen=True, slots=True)
class JournalEntry:
    """One line of the transaction log.

    `subject` is an out_trade_no, a refund_no, or the order_no of what concerns all of the order.
    """

    order_no: str
    subject: str
    event: str
    at: datetime
    by: str
    state_before: str
    state_after: str
    detail: Mapping[str, Any] = field(default_factory=dict)


@record(frozen=True)  # without slots, for `changed`
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
    """The id of the commit that wrote it: a second mark of it, beside its number."""
    told_again: bool = False
    """The same may have been told before, under another number."""


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
    """The id of the commit that made this version. After a failover another one may have its
    number."""
    sequence_floor: int = field(default=0, compare=False)
    """Its next notification has a number above this, too; the store knows which."""

    @property
    def open_charge(self) -> Charge | None:
        """The one charge that stands in the way of another, if any."""
        return next((each for each in self.charges if each.is_open), None)

    @property
    def blocking_charge(self) -> Charge | None:
        """The one that must be settled before another charge: an unknown one before an open one."""
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
        """Whether anything that is over in `known` is open here, as no commit can make it."""
        charges = {c.out_trade_no for c in self.charges if c.state in _OPEN_CHARGES}
        refunds = {r.refund_no for r in self.refunds if r.state in _OPEN_REFUNDS}
        return any(
            each.out_trade_no in charges and each.state not in _OPEN_CHARGES
            for each in known.charges
        ) or any(
            each.refund_no in refunds and each.state not in _OPEN_REFUNDS for each in known.refunds
        )

    def has_lost(self, known: "Order") -> bool:
        """Whether anything of `known` is not here, or as it was before: rows are never deleted."""
        charges = {each.out_trade_no for each in self.charges}
        refunds = {each.refund_no for each in self.refunds}
        gone = any(each.out_trade_no not in charges for each in known.charges) or any(
            each.refund_no not in refunds for each in known.refunds
        )
        return gone or self.is_behind(known)

    def charge(self, out_trade_no: str) -> Charge:
        """The charge of this number. Raises StorageUnavailable if the order has none.

        Rows are never deleted: the database has lost it, and it could not be put back.
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
    """Oldest first, as an order has them. Most have one."""
    if len(found) < 2:
        return tuple(found)
    return tuple(sorted(found, key=lambda each: (each.created_at, each.out_trade_no)))


def refunds_by_age(found: Collection[Refund]) -> tuple[Refund, ...]:
    """Oldest first, as an order has them. Most have none."""
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
    """At most 32 characters; no two changes have the same, anywhere."""
    after: Order
    """The order as it will stand, for whoever goes on with it. What is written are the rows."""
    new_charges: tuple[Charge, ...] = ()
    changed_charges: tuple[Charge, ...] = ()
    new_refunds: tuple[Refund, ...] = ()
    changed_refunds: tuple[Refund, ...] = ()
    journal: tuple[JournalEntry, ...] = ()
    notifications: tuple[Notification, ...] = ()
    new_events: tuple[EventRecord, ...] = ()
    changed_events: tuple[EventRecord, ...] = ()
    sequence_floor: int = 0
    """Above which the notifications are numbered: if another one holds by now, the change loses."""
    retells: bool = False
    """The notifications are all that the order service is to be told: nothing before them, and the
    order is not parked any more."""

    @property
    def is_intent(self) -> bool:
        """Whether it writes down nothing but what will be sent to Ping++ once it is on disk.

        Nobody has learnt anything that would be lost with it.
        """
        updates = self.changed_charges or self.changed_refunds
        events = self.new_events or self.changed_events
        lines = all(each.event in _INTENTS for each in self.journal)
        return lines and not (updates or events)


RENUMBERED = "notifications_renumbered"
"""The journal's word for it. `detail` has the number `above` which, and the `first` new one."""


class Draft:
    """An order being changed. Pure: nothing happens until its `change()` is committed."""

    def __init__(self, order: Order, *, foreign: frozenset[str] = frozenset()) -> None:
        """`foreign`: keys and ids that Ping++ tells of and that rows of other orders have."""
        self.base = order
        self._foreign = foreign
        self._was_charges = {each.out_trade_no: each for each in order.charges}
        self._was_refunds = {each.refund_no: each for each in order.refunds}
        self._charges = self._was_charges.copy()
        self._refunds = self._was_refunds.copy()
        self._journal: list[JournalEntry] = []
        self._notifications: list[Notification] = []
        self._retells = False
        self._new_events: tuple[EventRecord, ...] = ()
        self._changed_events: tuple[EventRecord, ...] = ()

    @property
    def order(self) -> Order:
        """The order as it would be after the commit."""
        return self._after("")

    def _after(self, change_id: str) -> Order:
        return Order(
            order_no=self.base.order_no,
            version=self.base.version + 1,
            last_sequence=self._last_sequence,
            charges=charges_by_age(self._charges.values()),
            refunds=refunds_by_age(self._refunds.values()),
            last_change=change_id,
            sequence_floor=self.base.sequence_floor,
        )

    @property
    def _last_sequence(self) -> int:
        last = self._notifications[-1:]
        return last[0].sequence if last else self.base.last_sequence

    def charge(self, out_trade_no: str) -> Charge:
        """The charge of this number as it is drafted. Raises as `Order.charge` does."""
        found = self._charges.get(out_trade_no)
        if found is None:
            raise StorageUnavailable
        return found

    def refund(self, refund_no: str) -> Refund:
        """The refund of this key as it is drafted. Raises as `Order.refund` does."""
        found = self._refunds.get(refund_no)
        if found is None:
            raise StorageUnavailable
        return found

    def change(self, change_id: str) -> Change | None:
        """What to commit, under an id of `Store.new_change_id`; None when nothing changed."""
        self._leave_to_a_person()
        new_charges, changed_charges = _written(self._charges, self._was_charges)
        new_refunds, changed_refunds = _written(self._refunds, self._was_refunds)
        rows = new_charges or changed_charges or new_refunds or changed_refunds
        if not (self._journal or rows or self._new_events or self._changed_events):
            return None
        after = self._after(change_id)
        return Change(
            order_no=after.order_no,
            expected_version=self.base.version,
            expected_change=self.base.last_change,
            last_sequence=after.last_sequence,
            change_id=change_id,
            after=after,
            new_charges=new_charges,
            changed_charges=changed_charges,
            new_refunds=new_refunds,
            changed_refunds=changed_refunds,
            journal=tuple(self._journal),
            notifications=tuple(
                [changed(each, change_id=change_id) for each in self._notifications]
            ),
            sequence_floor=self.base.sequence_floor,
            retells=self._retells,
            new_events=self._new_events,
            changed_events=self._changed_events,
        )

    def _leave_to_a_person(self) -> None:
        """What somebody has to look at is not looked at by itself: it would be due for ever."""
        for charge in self._charges.values():
            watched = charge.state is ChargeState.PENDING and charge.superseded
            if charge.operator_reason and (watched or charge.state is ChargeState.SUBMITTING):
                left = changed(charge, due_at=None)
                if charge.is_being_reversed:
                    left = changed(left, answer=charges.WITHDRAWN)
                self._charges[charge.out_trade_no] = left
        for refund in self._refunds.values():
            if refund.operator_reason and refund.state is RefundState.SUBMITTING:
                self._refunds[refund.refund_no] = changed(refund, due_at=None)

    def record_event(self, event: EventRecord) -> None:
        """Write down a new event together with what it changes; its id must not be there yet."""
        self._new_events = (event,)

    def settle_event(self, event: EventRecord) -> None:
        """Write down what became of an event that is on disk already."""
        self._changed_events = (event,)

    def add_charge(self, charge: Charge, by: str) -> None:
        """Write down the intent to charge."""
        self._charges[charge.out_trade_no] = charge
        self._note(charge.out_trade_no, CHARGE_INTENDED, charge.created_at, by, "", charge.state)

    def add_refund(self, refund: Refund, by: str, event: str = REFUND_INTENDED) -> None:
        """Write down the intent to refund; its amount is reserved from this commit on."""
        self._refunds[refund.refund_no] = refund
        detail = {"amount": refund.amount, "out_trade_no": refund.out_trade_no}
        at = refund.created_at
        self._note(refund.refund_no, event, at, by, "", refund.state, detail)

    def put_charge(self, charge: Charge, event: str, at: datetime, by: str) -> None:
        """Change fields of a charge that no observation decides, such as `superseded`."""
        self._charges[charge.out_trade_no] = charge
        self._note(charge.out_trade_no, event, at, by, charge.state, charge.state)

    def put_refund(self, refund: Refund, event: str, at: datetime, by: str) -> None:
        """Change fields of a refund that no observation decides, such as `unsent`."""
        self._refunds[refund.refund_no] = refund
        self._note(refund.refund_no, event, at, by, refund.state, refund.state)

    def restore(self, known: Order, at: datetime) -> None:
        """Put back charges and refunds that were on disk and are not any more (D3).

        Rows are never deleted: a failover lost them, though money may move by them. `known` is the
        order as it was, perhaps a while ago: what is unknown of it is found out anew, and nothing
        of it is sent. What was told is told again, in its order, since its notifications are lost
        too; a payment as a duplicate one, if another charge has paid for the order meanwhile. What
        another order has by now stays away.
        """
        lost_charges = [
            each
            for each in known.charges
            if each.out_trade_no not in self._charges and self._is_free(each.charge_id)
        ]
        for charge in lost_charges:
            replaced = charge.is_open and self.order.open_charge is not None
            back = changed(charge, absent_since=None)
            if replaced:
                back = changed(back, superseded=True, due_at=at)
            self._charges[charge.out_trade_no] = back
        lost_refunds = self._lost_refunds(known)
        for refund in lost_refunds:
            again = changed(refund, absent_since=None)
            if refund.unsent:
                again = changed(again, unsent=False, updated_at=at, due_at=at)
            self._refunds[refund.refund_no] = again
        order, paid_then = self.order, (each for each in known.charges if known.holds_money(each))
        earlier = {each.out_trade_no for each in (*paid_then, *lost_charges)}
        others = (each for each in order.charges if each.out_trade_no not in earlier)
        paid_meanwhile = any(order.holds_money(each) for each in others)
        for charge in lost_charges:
            duplicate = paid_meanwhile and order.holds_money(charge)
            self._say_restored_charge(charge.out_trade_no, at, duplicate=duplicate)
        for refund in lost_refunds:
            self._say_restored_refund(refund.refund_no, at)

    def _say_restored_charge(self, out_trade_no: str, at: datetime, *, duplicate: bool) -> None:
        back, by = self._charges[out_trade_no], ObservedBy.RESOLVE
        if duplicate:
            back = self._charges[out_trade_no] = changed(back, duplicate_payment=True)
        self._note(out_trade_no, "charge_restored", at, by, "", back.state)
        told = charges.told_of(back)
        if told is not None:
            self._notify(told, at, back.observed_by or by, back, told_again=True)

    def _say_restored_refund(self, refund_no: str, at: datetime) -> None:
        again, by = self._refunds[refund_no], ObservedBy.RESOLVE
        self._note(refund_no, "refund_restored", at, by, "", again.state)
        told = refunds.told_of(again)
        if told is not None:
            of = self._charges[again.out_trade_no]
            self._notify(told, at, again.observed_by or by, of, refund_no, told_again=True)

    def _lost_refunds(self, known: Order) -> list[Refund]:
        """Those that are gone; under Ping++'s id where another order has got the key since."""
        lost = [each for each in known.refunds if each.refund_no not in self._refunds]
        return [each for each in map(self._under_free_key, lost) if self._can_be_added(each)]

    def _under_free_key(self, refund: Refund) -> Refund:
        if refund.refund_no not in self._foreign or refund.refund_id is None:
            return refund
        return changed(refund, refund_no=refund.refund_id, external=True, content_digest="")

    def _can_be_added(self, refund: Refund) -> bool:
        taken = refund.refund_no in self._foreign or refund.refund_no in self._refunds
        has_charge = refund.out_trade_no in self._charges
        return has_charge and not taken and self._is_free(refund.refund_id)

    def _is_free(self, psp_id: str | None) -> bool:
        return psp_id is None or not self._is_booked(psp_id)

    def tell_again(self, told: Iterable[Notification], above: int, at: datetime) -> None:
        """Number these notifications anew, above what their receiver has; forget the old ones.

        `told`: all of the order, each once. A number had been used for something else, by commits
        that a failover or a restore has lost; so what was acknowledged under such numbers may have
        been taken for repeats, and none of it counts as delivered.
        """
        last = epoch_above(max(self._last_sequence, self.base.sequence_floor, above))
        again = [
            changed(each, sequence=number, told_again=True)
            for number, each in enumerate(told, last + 1)
        ]
        self._notifications.extend(again)
        self._retells = True
        detail = {"above": above, "first": last + 1, "count": len(again)}
        self._note(self.base.order_no, RENUMBERED, at, ObservedBy.RESOLVE, "", "", detail)

    def reschedule_charge(self, charge: Charge) -> None:
        """Change when to look next, without a journal entry."""
        self._charges[charge.out_trade_no] = charge

    def reschedule_refund(self, refund: Refund) -> None:
        """Change when to look next, without a journal entry."""
        self._refunds[refund.refund_no] = refund

    def observe_charge(self, out_trade_no: str, seen: ChargeObservation) -> Charge:
        """Send what was seen of a charge, and of its refunds beside it, down the funnel.

        Another charge of Ping++ under the same number is booked as one of its own.
        """
        before, facts = self.charge(out_trade_no), seen.facts
        if facts is not None and self._is_of_second(before, facts, seen):
            self.observe_charge(facts.charge_id, seen)
            self._make_way(before, seen)
            return self._charges[out_trade_no]
        paid = self._paid_by_another(out_trade_no)
        unnamed = before.charge_id is None
        booked = unnamed and facts is not None and self._is_booked(facts.charge_id)
        outcome = charges.observe(before, seen, order_paid=paid, booked=booked)
        self._charges[out_trade_no] = outcome.charge
        stands = outcome.charge is self._was_charges.get(out_trade_no)
        if not (stands and _is_quiet(outcome.event, seen.by, before.looks)):
            states = (before.state, outcome.charge.state)
            self._note(out_trade_no, outcome.event, seen.at, seen.by, *states, outcome.detail)
        if outcome.notice is not None:
            self._notify(outcome.notice, seen.at, seen.by, outcome.charge)
        if (
            facts is not None
            and facts.refunds
            and not (booked or outcome.charge.is_being_reversed)
            and not charges.mismatches(outcome.charge, facts)
        ):
            self.observe_refund_list(out_trade_no, facts.refunds, seen.by, seen.at)
        return self._charges[out_trade_no]

    def _is_of_second(self, charge: Charge, facts: ChargeFacts, seen: ChargeObservation) -> bool:
        """Whether this tells of a second charge under the number; the first time it is booked."""
        second = charges.second_of(charge, facts, seen.at)
        if second is None:
            return False
        key = second.out_trade_no
        if key not in self._charges:
            if self._is_booked(key):
                return False  # by another order: no row of ours can have it
            self._charges[key] = second
            detail = {"charge_id": key, "amount": second.amount}
            number, state = charge.out_trade_no, charge.state
            self._note(number, "charge_doubled", seen.at, seen.by, state, state, detail)
            detail = {"out_trade_no": number, "amount": second.amount}
            self._note(key, "charge_found_at_psp", seen.at, seen.by, "", second.state, detail)
        return True

    def _make_way(self, charge: Charge, seen: ChargeObservation) -> None:
        """Close the first charge of a number whose second one is paid: its payer shall pay once."""
        if charge.is_open and self._paid_by_another(charge.out_trade_no):
            closing = changed(charge, superseded=True, due_at=seen.at)
            self.put_charge(closing, "charge_superseded", seen.at, seen.by)

    def observe_refund(self, refund_no: str, seen: RefundObservation) -> Refund:
        """Send an observation of a refund down the funnel.

        Another refund of Ping++ under the same refund_no is booked as one of its own.
        """
        before, facts = self.refund(refund_no), seen.facts
        if facts is not None and _is_its_double(before, facts):
            self.observe_refund_list(before.out_trade_no, (facts,), seen.by, seen.at)
            return self._refunds[refund_no]
        unnamed = before.refund_id is None
        booked = unnamed and facts is not None and self._is_booked(facts.refund_id)
        outcome = refunds.observe(before, seen, booked=booked)
        self._refunds[refund_no] = outcome.refund
        stands = outcome.refund is self._was_refunds.get(refund_no)
        if not (stands and _is_quiet(outcome.event, seen.by, before.looks)):
            states = (before.state, outcome.refund.state)
            self._note(refund_no, outcome.event, seen.at, seen.by, *states, outcome.detail)
        if outcome.notice is not None:
            charge = self._charges[before.out_trade_no]
            self._notify(outcome.notice, seen.at, seen.by, charge, refund_no)
        return outcome.refund

    def observe_refund_list(
        self, out_trade_no: str, listed: Iterable[RefundFacts], by: str, at: datetime
    ) -> None:
        """Match Ping++'s refunds of a charge with ours; take in those that were made elsewhere.

        Two refunds at Ping++ under one refund_no are money given back twice: both are booked and a
        person is called. So is one for a refund that another charge has already.
        """
        for facts in sorted(listed, key=lambda each: (each.created_at, each.refund_id)):
            refund = self._known(out_trade_no, facts)
            if refund is None and self._is_booked(facts.refund_id):
                self._refuse(out_trade_no, facts, by, at)
                continue
            if refund is None:
                refund = self._take_in(out_trade_no, facts, by, at)
            self.observe_refund(refund.refund_no, RefundObservation(facts.said, by, at, facts))

    def _known(self, out_trade_no: str, facts: RefundFacts) -> Refund | None:
        ours = [r for r in self._refunds.values() if r.out_trade_no == out_trade_no]
        for refund in ours:
            if refund.refund_id == facts.refund_id:
                return refund
        for refund in ours:
            if facts.refund_no and refund.refund_no == facts.refund_no:
                return refund if refund.refund_id is None else None
        return None

    def _is_booked(self, psp_id: str) -> bool:
        """Whether a row has this id of Ping++'s already, here or in another order."""
        here = any(each.charge_id == psp_id for each in self._charges.values())
        here = here or any(each.refund_id == psp_id for each in self._refunds.values())
        return here or psp_id in self._foreign

    def _refuse(self, out_trade_no: str, facts: RefundFacts, by: str, at: datetime) -> None:
        charge = self.charge(out_trade_no)
        reason = f"Ping++ lists the refund {facts.refund_id}, which another charge has already"
        if reason in charge.operator_reason:
            return
        reasons = charges.AND.join(filter(None, (charge.operator_reason, reason)))
        raised = changed(charge, operator_reason=reasons, updated_at=at)
        self._charges[out_trade_no] = raised
        told = {"refund_id": facts.refund_id, "amount": facts.amount, "said": facts.said.value}
        state = charge.state
        self._note(out_trade_no, "charge_quarantined", at, by, state, state, told)

    def _take_in(self, out_trade_no: str, facts: RefundFacts, by: str, at: datetime) -> Refund:
        """Book a refund that is not known here, under our own key if it carries a free one.

        With our key it is ours, and the database lost it: a repeated call must find it.
        """
        twin = self._refunds.get(facts.refund_no) if facts.refund_no else None
        doubled = f"Ping++ holds another refund under the refund_no {facts.refund_no}"
        if twin is not None:
            raised = changed(twin, operator_reason=doubled, updated_at=at)
            self.put_refund(raised, "refund_doubled", at, by)
        ours = facts.refund_no not in self._foreign and bool(facts.refund_no) and twin is None
        charge = self.charge(out_trade_no)
        refund = Refund(
            refund_no=facts.refund_no if ours else facts.refund_id,
            order_no=charge.order_no,
            out_trade_no=out_trade_no,
            charge_id=facts.charge_id,
            amount=facts.amount,
            currency=charge.currency,
            app_id=charge.app_id,
            description=facts.description,
            metadata={},
            content_digest="",
            created_at=facts.created_at,
            updated_at=at,
            state=RefundState.PENDING,
            refund_id=facts.refund_id,
            external=not ours,
            operator_reason="" if twin is None else doubled,
            due_at=schedule.next_poll(at, 0),
        )
        self.add_refund(refund, by, "refund_found_at_psp")
        return refund

    def _paid_by_another(self, out_trade_no: str) -> bool:
        if len(self._charges) == 1:
            return False
        order = self.order
        others = (each for each in order.charges if each.out_trade_no != out_trade_no)
        return any(order.holds_money(each) for each in others)

    def _notify(
        self,
        kind: str,
        at: datetime,
        by: str,
        charge: Charge,
        refund_no: str = "",
        *,
        told_again: bool = False,
    ) -> None:
        sequence = max(self._last_sequence, self.base.sequence_floor) + 1
        self._notifications.append(
            Notification(
                order_no=self.base.order_no,
                sequence=sequence,
                kind=str(kind),
                occurred_at=at,
                observed_by=str(by),
                out_trade_no=charge.out_trade_no,
                refund_no=refund_no,
                late=charge.late and not refund_no,
                duplicate_payment=charge.duplicate_payment and not refund_no,
                told_again=told_again,
            )
        )

    def _note(
        self,
        subject: str,
        event: str,
        at: datetime,
        by: str,
        before: str,
        after: str,
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        order_no = self.base.order_no
        self._journal.append(
            JournalEntry(
                order_no, subject, event, at, str(by), str(before), str(after), detail or {}
            )
        )


def _is_its_double(refund: Refund, facts: RefundFacts) -> bool:
    """Whether Ping++ tells of a second refund under the key of this one."""
    known, key = refund.refund_id, (refund.refund_no, refund.charge_id)
    return known not in (None, facts.refund_id) and key == (facts.refund_no, facts.charge_id)


_Row = TypeVar("_Row")

_RECURRING = ("_still_pending", "_observation_stale")
_RAISED = ("_quarantined", "_contradicted", "_needs_operator")
_UNKNOWN = "_outcome_unknown"
_UNKNOWN_LINES = 10


def _is_quiet(event: str, by: str, looks: int) -> bool:
    """Whether it is journaled only if the record is changed, because it recurs with every look.

    A webhook that is quarantined says something new, though the reason be the same. Callers may
    look as often as they like, and nobody counts that; of Midas's own looks the first ones show.
    """
    if event.endswith((*_RAISED, "_is_being_reversed")):
        return by != ObservedBy.WEBHOOK
    unknown = event.endswith(_UNKNOWN)
    often = by == ObservedBy.QUERY or looks >= _UNKNOWN_LINES
    return event.endswith(_RECURRING) or (unknown and often)


def _written(
    now: Mapping[str, _Row], was: Mapping[str, _Row]
) -> tuple[tuple[_Row, ...], tuple[_Row, ...]]:
    """The records that are new, and those that do not say what they said before."""
    new, changed_ones = [], []
    for key, row in now.items():
        before = was.get(key)
        if before is None:
            new.append(row)
        elif before is not row and before != row:
            changed_ones.append(row)
    return tuple(new), tuple(changed_ones)
