"""The draft of a change to an order: observations and intents are applied to it. Pure.

Nothing happens outside until `Draft.change()` is committed. What can move a state passes
through `observe_charge` and `observe_refund`; `flows/observe.py` shows the whole way.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, TypeVar

from midas import charge as charges
from midas import limits, planning, schedule
from midas import refund as refunds
from midas.charge import Charge, ChargeFacts, ChargeObservation, ChargeState, ObservedBy
from midas.errors import StorageUnavailable
from midas.event import EventRecord
from midas.immutable import replace
from midas.payment import (
    CHARGE_INTENDED,
    REFUND_INTENDED,
    RENUMBERED,
    Change,
    JournalEntry,
    Notification,
    Order,
    charges_by_age,
    refunds_by_age,
)
from midas.refund import Refund, RefundFacts, RefundObservation, RefundState
from midas.sequences import epoch_above

Entry = tuple[str, datetime, str]
"""A line for the journal: the event's name, its time, and how Midas learnt it."""


class Draft:
    """An order being changed. Pure: nothing happens until its `change()` is committed."""

    def __init__(
        self,
        order: Order,
        *,
        foreign: frozenset[str] = frozenset(),
        expiry_grace: timedelta = limits.EXPIRY_GRACE,
    ) -> None:
        """`foreign`: keys and ids that Ping++ reports and that rows of other orders have.

        `expiry_grace`: how long after its expiry a charge may still turn out to be paid.
        """
        self.base = order
        self._expiry_grace = expiry_grace
        self._foreign = foreign
        self._was_charges = {each.out_trade_no: each for each in order.charges}
        self._was_refunds = {each.refund_no: each for each in order.refunds}
        self._charges = self._was_charges.copy()
        self._refunds = self._was_refunds.copy()
        self._journal: list[JournalEntry] = []
        self._notifications: list[Notification] = []
        self._renumbers = False
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
        self._stop_looks_of_operators()
        new_charges, changed_charges = _rows_to_write(self._charges, self._was_charges)
        new_refunds, changed_refunds = _rows_to_write(self._refunds, self._was_refunds)
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
                [replace(each, change_id=change_id) for each in self._notifications]
            ),
            sequence_floor=self.base.sequence_floor,
            renumbers=self._renumbers,
            new_events=self._new_events,
            changed_events=self._changed_events,
        )

    def _stop_looks_of_operators(self) -> None:
        """Plan no look at rows that a person has to look at: they would be due for ever."""
        for charge in self._charges.values():
            watched = charge.state is ChargeState.PENDING and charge.superseded
            if charge.operator_reason and (watched or charge.state is ChargeState.SUBMITTING):
                left = replace(charge, due_at=None)
                if charge.is_being_reversed:
                    left = replace(left, answer=charges.WITHDRAWN)
                self._charges[charge.out_trade_no] = left
        for refund in self._refunds.values():
            if refund.operator_reason and refund.state is RefundState.SUBMITTING:
                self._refunds[refund.refund_no] = replace(refund, due_at=None)

    def record_event(self, event: EventRecord) -> None:
        """Write down a new event together with what it changes; its id must not be there yet."""
        self._new_events = (event,)

    def settle_event(self, event: EventRecord) -> None:
        """Write down what became of an event that is on disk already."""
        self._changed_events = (event,)

    def add_charge(self, charge: Charge, by: str) -> None:
        """Write down the intent to charge."""
        self._charges[charge.out_trade_no] = charge
        self._write_journal(
            charge.out_trade_no, CHARGE_INTENDED, charge.created_at, by, "", charge.state
        )

    def add_refund(self, refund: Refund, by: str, event: str = REFUND_INTENDED) -> None:
        """Write down the intent to refund; its amount is reserved from this commit on."""
        self._refunds[refund.refund_no] = refund
        detail = {"amount": refund.amount, "out_trade_no": refund.out_trade_no}
        at = refund.created_at
        self._write_journal(refund.refund_no, event, at, by, "", refund.state, detail)

    def put(self, row: Charge | Refund, entry: Entry | None = None) -> None:
        """Change fields of a charge or refund that no observation decides, such as `superseded`.

        Without an `entry` the journal has no line for it. That is for what only plans looks
        (`due_at`, `looks`, `absent_since`), and for a mark that ends with the observation that
        follows.
        """
        if isinstance(row, Charge):
            key = row.out_trade_no
            self._charges[key] = row
        else:
            key = row.refund_no
            self._refunds[key] = row
        if entry is not None:
            self._write_journal(key, *entry, row.state, row.state)

    def restore(self, known: Order, at: datetime) -> None:
        """Put back charges and refunds that were on disk and are not any more (D3).

        Midas never deletes rows: a failover lost them, though money may move by them. `known` is
        the order as it was, perhaps a while ago. What is unknown in it is found out anew, and
        nothing of it is sent. Its notices are announced again in their order, because their
        notifications are lost too. A payment is announced as a duplicate if another charge has paid
        for the order meanwhile. What another order has by now is not put back.
        """
        lost_charges = [
            each
            for each in known.charges
            if each.out_trade_no not in self._charges and self._is_free(each.charge_id)
        ]
        for charge in lost_charges:
            replaced = charge.is_open and self.order.open_charge is not None
            back = replace(charge, absent_since=None)
            if replaced:
                back = replace(back, superseded=True, due_at=at)
            self._charges[charge.out_trade_no] = back
        lost_refunds = self._lost_refunds(known)
        for refund in lost_refunds:
            again = replace(refund, absent_since=None)
            if refund.unsent:
                again = replace(again, unsent=False, updated_at=at, due_at=at)
            self._refunds[refund.refund_no] = again
        order, paid_then = self.order, (each for each in known.charges if known.holds_money(each))
        earlier = {each.out_trade_no for each in (*paid_then, *lost_charges)}
        others = (each for each in order.charges if each.out_trade_no not in earlier)
        paid_meanwhile = any(order.holds_money(each) for each in others)
        for charge in lost_charges:
            duplicate = paid_meanwhile and order.holds_money(charge)
            self._announce_restored_charge(charge.out_trade_no, at, duplicate=duplicate)
        for refund in lost_refunds:
            self._announce_restored_refund(refund.refund_no, at)

    def _announce_restored_charge(
        self, out_trade_no: str, at: datetime, *, duplicate: bool
    ) -> None:
        back, by = self._charges[out_trade_no], ObservedBy.RESOLVE
        if duplicate:
            back = self._charges[out_trade_no] = replace(back, duplicate_payment=True)
        self._write_journal(out_trade_no, "charge_restored", at, by, "", back.state)
        notice = charges.notice_for(back)
        if notice is not None:
            self._notify(notice, at, back.observed_by or by, back, told_again=True)

    def _announce_restored_refund(self, refund_no: str, at: datetime) -> None:
        again, by = self._refunds[refund_no], ObservedBy.RESOLVE
        self._write_journal(refund_no, "refund_restored", at, by, "", again.state)
        notice = refunds.notice_for(again)
        if notice is not None:
            of = self._charges[again.out_trade_no]
            self._notify(notice, at, again.observed_by or by, of, refund_no, told_again=True)

    def _lost_refunds(self, known: Order) -> list[Refund]:
        """The refunds that are gone, under Ping++'s id where another order has the key by now."""
        lost = [each for each in known.refunds if each.refund_no not in self._refunds]
        return [each for each in map(self._under_free_key, lost) if self._can_be_added(each)]

    def _under_free_key(self, refund: Refund) -> Refund:
        if refund.refund_no not in self._foreign or refund.refund_id is None:
            return refund
        return replace(refund, refund_no=refund.refund_id, external=True, content_digest="")

    def _can_be_added(self, refund: Refund) -> bool:
        taken = refund.refund_no in self._foreign or refund.refund_no in self._refunds
        has_charge = refund.out_trade_no in self._charges
        return has_charge and not taken and self._is_free(refund.refund_id)

    def _is_free(self, psp_id: str | None) -> bool:
        return psp_id is None or not self._is_booked(psp_id)

    def renumber_notifications(
        self, notifications: Iterable[Notification], above: int, at: datetime
    ) -> None:
        """Number these notifications anew, above what their receiver has; drop the old ones.

        `notifications` are all of the order, each once. Commits that a failover or a restore has
        lost had used a number for something else. The receiver may have taken what it acknowledged
        under such numbers for repeats, so none of it counts as delivered.
        """
        last = epoch_above(max(self._last_sequence, self.base.sequence_floor, above))
        again = [
            replace(each, sequence=number, told_again=True)
            for number, each in enumerate(notifications, last + 1)
        ]
        self._notifications.extend(again)
        self._renumbers = True
        detail = {"above": above, "first": last + 1, "count": len(again)}
        self._write_journal(self.base.order_no, RENUMBERED, at, ObservedBy.RESOLVE, "", "", detail)

    def observe_charge(
        self, out_trade_no: str, observation: ChargeObservation, *, plan: bool = True
    ) -> Charge:
        """Apply what was learnt of a charge, and of its refunds beside it, and plan the next look.

        Another charge that Ping++ has under the same number is booked as a row of its own.
        `plan=False` leaves the next look as it is.
        """
        before, facts = self.charge(out_trade_no), observation.facts
        if facts is not None and self._is_of_second(before, facts, observation):
            self.observe_charge(facts.charge_id, observation, plan=False)
            self._supersede_unpaid(before, observation)
            return self._charges[out_trade_no]
        paid = self._paid_by_another(out_trade_no)
        unnamed = before.charge_id is None
        booked = unnamed and facts is not None and self._is_booked(facts.charge_id)
        outcome = charges.observe(before, observation, order_paid=paid, booked=booked)
        after, by, at = outcome.charge, observation.by, observation.at
        self._charges[out_trade_no] = after
        stands = after is self._was_charges.get(out_trade_no)
        if not (stands and _is_quiet(outcome.event, by, before.looks)):
            states = (before.state, after.state)
            self._write_journal(out_trade_no, outcome.event, at, by, *states, outcome.detail)
        if outcome.notice is not None:
            self._notify(outcome.notice, at, by, after)
        if (
            facts is not None
            and facts.refunds
            and not (booked or after.is_being_reversed)
            and not charges.mismatches(after, facts)
        ):
            self.observe_refund_list(out_trade_no, facts.refunds, by, at)
        return self._plan_charge(before, observation) if plan else self._charges[out_trade_no]

    def _plan_charge(self, before: Charge, observation: ChargeObservation) -> Charge:
        """Plan the next look. If the outcome stays unknown for too long, call a person."""
        after = self._charges[before.out_trade_no]
        if planning.stays_planned(before, after, observation):
            return after
        unknown = after.state is ChargeState.SUBMITTING
        if planning.is_overdue(unknown, after.created_at, observation.at):
            after = planning.escalated(after)
            self.put(after, ("charge_needs_operator", observation.at, observation.by))
        due_at = planning.next_charge_look(after, observation, self._expiry_grace)
        planned = planning.planned(after, due_at)
        self._charges[after.out_trade_no] = planned
        return planned

    def _is_of_second(
        self, charge: Charge, facts: ChargeFacts, observation: ChargeObservation
    ) -> bool:
        """Whether it is about a second charge under the number. That is booked the first time."""
        at, by = observation.at, observation.by
        second = charges.second_of(charge, facts, at)
        if second is None:
            return False
        key = second.out_trade_no
        if key not in self._charges:
            if self._is_booked(key):
                return False  # another order has it, so no row of ours can
            self._charges[key] = second
            detail = {"charge_id": key, "amount": second.amount}
            number, state = charge.out_trade_no, charge.state
            self._write_journal(number, "charge_doubled", at, by, state, state, detail)
            detail = {"out_trade_no": number, "amount": second.amount}
            self._write_journal(key, "charge_found_at_psp", at, by, "", second.state, detail)
        return True

    def _supersede_unpaid(self, charge: Charge, observation: ChargeObservation) -> None:
        """Supersede the first charge of a number once the second is paid: the payer pays once."""
        if charge.is_open and self._paid_by_another(charge.out_trade_no):
            closing = replace(charge, superseded=True, due_at=observation.at)
            self.put(closing, ("charge_superseded", observation.at, observation.by))

    def observe_refund(
        self, refund_no: str, observation: RefundObservation, *, plan: bool = True
    ) -> Refund:
        """Apply what was learnt of a refund, and plan the next look.

        Another refund that Ping++ has under the same refund_no is booked as a row of its own.
        `plan=False` leaves the next look as it is.
        """
        before, facts = self.refund(refund_no), observation.facts
        at, by = observation.at, observation.by
        if facts is not None and _is_second_refund(before, facts):
            self.observe_refund_list(before.out_trade_no, (facts,), by, at)
        else:
            unnamed = before.refund_id is None
            booked = unnamed and facts is not None and self._is_booked(facts.refund_id)
            outcome = refunds.observe(before, observation, booked=booked)
            self._refunds[refund_no] = outcome.refund
            stands = outcome.refund is self._was_refunds.get(refund_no)
            if not (stands and _is_quiet(outcome.event, by, before.looks)):
                states = (before.state, outcome.refund.state)
                self._write_journal(refund_no, outcome.event, at, by, *states, outcome.detail)
            if outcome.notice is not None:
                charge = self._charges[before.out_trade_no]
                self._notify(outcome.notice, at, by, charge, refund_no)
        return self._plan_refund(before, observation) if plan else self._refunds[refund_no]

    def _plan_refund(self, before: Refund, observation: RefundObservation) -> Refund:
        """Plan the next look. If the outcome stays unknown for too long, call a person."""
        after = self._refunds[before.refund_no]
        if observation.by == ObservedBy.QUERY and after.state is before.state:
            return after
        unknown = after.state is RefundState.SUBMITTING and not after.unsent
        if planning.is_overdue(unknown, after.updated_at, observation.at):  # since it was sent last
            after = planning.escalated(after)
            self.put(after, ("refund_needs_operator", observation.at, observation.by))
        planned = planning.planned(after, planning.next_refund_look(after, observation))
        self._refunds[after.refund_no] = planned
        return planned

    def observe_refund_list(
        self, out_trade_no: str, listed: Iterable[RefundFacts], by: str, at: datetime
    ) -> None:
        """Match Ping++'s refunds of a charge with ours; take in those that were made elsewhere.

        Two refunds at Ping++ under one refund_no are money given back twice: both are booked, and a
        person is called. A person is also called for a refund that another charge has already.
        """
        for facts in sorted(listed, key=lambda each: (each.created_at, each.refund_id)):
            refund = self._refund_of(out_trade_no, facts)
            if refund is None and self._is_booked(facts.refund_id):
                self._quarantine(out_trade_no, facts, by, at)
                continue
            if refund is None:
                refund = self._adopt_refund(out_trade_no, facts, by, at)
            observation = RefundObservation(facts.report, by, at, facts)
            self.observe_refund(refund.refund_no, observation, plan=False)

    def _refund_of(self, out_trade_no: str, facts: RefundFacts) -> Refund | None:
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

    def _quarantine(self, out_trade_no: str, facts: RefundFacts, by: str, at: datetime) -> None:
        charge = self.charge(out_trade_no)
        reason = f"Ping++ lists the refund {facts.refund_id}, which another charge has already"
        if reason in charge.operator_reason:
            return
        reasons = charges.AND.join(filter(None, (charge.operator_reason, reason)))
        raised = replace(charge, operator_reason=reasons, updated_at=at)
        self._charges[out_trade_no] = raised
        detail = {"refund_id": facts.refund_id, "amount": facts.amount, "said": facts.report.value}
        state = charge.state
        self._write_journal(out_trade_no, "charge_quarantined", at, by, state, state, detail)

    def _adopt_refund(self, out_trade_no: str, facts: RefundFacts, by: str, at: datetime) -> Refund:
        """Book a refund that is not known here, under our own key if it has one that is free.

        A refund with our key is ours, and the database lost it: a repeated call must find it.
        """
        twin = self._refunds.get(facts.refund_no) if facts.refund_no else None
        doubled = f"Ping++ holds another refund under the refund_no {facts.refund_no}"
        if twin is not None:
            raised = replace(twin, operator_reason=doubled, updated_at=at)
            self.put(raised, ("refund_doubled", at, by))
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

    def _write_journal(
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


def _is_second_refund(refund: Refund, facts: RefundFacts) -> bool:
    """Whether Ping++ has a second refund under the key of this one."""
    known, key = refund.refund_id, (refund.refund_no, refund.charge_id)
    return known not in (None, facts.refund_id) and key == (facts.refund_no, facts.charge_id)


_Row = TypeVar("_Row")

_RECURRING = ("_still_pending", "_observation_stale")
_RAISED = ("_quarantined", "_contradicted", "_needs_operator")
_UNKNOWN = "_outcome_unknown"
_UNKNOWN_LINES = 10


def _is_quiet(event: str, by: str, count: int) -> bool:
    """Whether the journal has the event only if the row changed: every look would repeat it.

    `count`: how many looks there were before. A quarantined webhook is always journaled, even if
    the reason is the same. An outcome that stays unknown is not journaled for a caller's query; of
    Midas's own looks, the first ones are journaled.
    """
    if event.endswith((*_RAISED, "_is_being_reversed")):
        return by != ObservedBy.WEBHOOK
    unknown = event.endswith(_UNKNOWN)
    often = by == ObservedBy.QUERY or count >= _UNKNOWN_LINES
    return event.endswith(_RECURRING) or (unknown and often)


def _rows_to_write(
    now: Mapping[str, _Row], was: Mapping[str, _Row]
) -> tuple[tuple[_Row, ...], tuple[_Row, ...]]:
    """The rows that are new, and those whose content is not what it was."""
    new, changed_ones = [], []
    for key, row in now.items():
        before = was.get(key)
        if before is None:
            new.append(row)
        elif before is not row and before != row:
            changed_ones.append(row)
    return tuple(new), tuple(changed_ones)
