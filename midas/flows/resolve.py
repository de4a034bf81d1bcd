"""resolve: end the uncertainty about a charge or refund by asking Ping++, never by guessing.

    charge   still inside the window in which Ping++ takes identical terms for the same charge:
             post them again, after a look where that could make another one; else look through
             the charges made at that time
    refund   look through the refunds of its charge; send only what certainly never went out, and
             is not there

What is not there may still be on its way, so absence counts only when two complete lists do not
show it and the later one was made after the settle window. An absent charge has then failed: its
number is never used again, and money that comes all the same is announced as late. An absent
refund goes to an operator, because Ping++ cannot de-duplicate refunds (reliability.md section 3).
"""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from midas import limits, schedule
from midas.charge import Charge, ChargeFacts, ChargeObservation, ChargeSaid, ChargeState, ObservedBy
from midas.flows.deadline import NO_DEADLINE, Deadline
from midas.flows.listing import as_unknown, find_charge, list_all_refunds
from midas.flows.observe import (
    Ports,
    change,
    charge_seen,
    charge_silent,
    charge_told,
    load_again,
    refund_silent,
    refund_told,
    see_charge,
    see_refund,
)
from midas.payment import Draft, Order
from midas.ports import Done, NotDone, Refusal, Unknown, Verdict
from midas.records import changed
from midas.refund import Refund, RefundFacts, RefundObservation, RefundSaid, RefundState

logger = logging.getLogger("midas.flows")

A_MINUTE = timedelta(minutes=1)
FIRST_PAUSE_S = 0.02
LONGEST_PAUSE_S = 0.5


async def resolve_order(ports: Ports, order: Order, by: ObservedBy) -> Order:
    """Look at everything in the order whose outcome is unknown, and at superseded charges."""
    for charge in order.charges:
        if charge.operator_reason:
            continue
        if charge.state is ChargeState.SUBMITTING:
            order = await resolve_charge(ports, order, charge.out_trade_no, by)
        elif charge.state is ChargeState.PENDING and charge.superseded:
            order = await finish_superseded(ports, order, charge, by)
    for refund in order.refunds:
        if refund.state is RefundState.SUBMITTING and not refund.operator_reason:
            order = await resolve_refund(ports, order, refund.refund_no, by)
    return order


async def resolve_charge(
    ports: Ports,
    order: Order,
    out_trade_no: str,
    by: ObservedBy,
    deadline: Deadline = NO_DEADLINE,
) -> Order:
    """Find out what became of a charge whose create call was not answered."""
    charge = order.charge(out_trade_no)
    if may_post_again(ports, charge) and not refuses_repetitions(ports, charge):
        # The answer may have been lost with a database, and the payer may have paid: look first.
        found = await find_charge(ports, charge, deadline)
        if isinstance(found, ChargeFacts):
            seen = charge_told(ports, charge, found, by)
            return await charge_seen(ports, order, out_trade_no, seen)
    if may_post_again(ports, charge):
        verdict = await ports.psp.create_charge(charge, deadline.at_most(limits.REPOST_MARGIN))
        if isinstance(verdict, Done):
            seen = charge_told(ports, charge, verdict.answer, by)
            return await charge_seen(ports, order, out_trade_no, seen)
        if not _refused(verdict):
            silent = charge_silent(ports, as_unknown(verdict), by)
            return await change(ports, order, _posted_in_vain(out_trade_no, silent, verdict))
    # A refusal tells of the repetition alone: the request before it may be done, or still come.
    found = await find_charge(ports, charge, deadline)
    if isinstance(found, ChargeFacts):
        seen = charge_told(ports, charge, found, by)
        return await charge_seen(ports, order, out_trade_no, seen)
    if isinstance(found, Unknown):
        return await charge_seen(ports, order, out_trade_no, charge_silent(ports, found, by))
    return await change(ports, order, _charge_not_listed(ports, out_trade_no, by))


def may_post_again(ports: Ports, charge: Charge) -> bool:
    """Whether Ping++ would certainly take the identical terms for the same charge.

    Never where the create call itself takes the money: those are only looked up (P5).
    """
    if ports.psp.pays_at_create(charge.channel):
        return False
    window = ports.psp.repost_window(charge.channel)
    return ports.store.now() + limits.REPOST_MARGIN <= charge.created_at + window


def refuses_repetitions(ports: Ports, charge: Charge) -> bool:
    """Whether Ping++ refuses to post a charge again that is paid or reversed.

    Where the window is a minute it makes another charge of the same number (pingpp.md section 8).
    """
    return ports.psp.repost_window(charge.channel) > A_MINUTE


async def finish_superseded(ports: Ports, order: Order, charge: Charge, by: ObservedBy) -> Order:
    """Ask how a charge stands that made way for another one, and try again to close it."""
    if charge.charge_id is None:
        return order
    told = await ports.psp.retrieve_charge(charge.charge_id)
    if isinstance(told, Done):
        waiting = not (told.answer.paid or told.answer.reversed)
        if waiting and ports.psp.can_reverse(charge.channel):
            reversal = await ports.psp.reverse_charge(charge.charge_id)
            told = reversal if isinstance(reversal, Done) else told
    if isinstance(told, Done):
        seen = charge_told(ports, charge, told.answer, by)
    else:
        seen = charge_silent(ports, as_unknown(told), by)
    return await charge_seen(ports, order, charge.out_trade_no, seen)


async def resolve_refund(
    ports: Ports,
    order: Order,
    refund_no: str,
    by: ObservedBy,
    deadline: Deadline = NO_DEADLINE,
) -> Order:
    """Find out what became of a refund, or send it if it certainly never went out."""
    refund = order.refund(refund_no)
    if refund.unsent:
        return await send_unsent(ports, order, refund_no, by, deadline)
    listed = await list_all_refunds(ports, refund.charge_id, deadline)
    if isinstance(listed, Unknown):
        silent = refund_silent(ports, listed.reason, by)
        return await change(ports, order, lambda draft: see_refund(draft, refund_no, silent))
    return await change(ports, order, _refund_listed(ports, refund, listed, by))


async def send_unsent(
    ports: Ports, order: Order, refund_no: str, by: ObservedBy, deadline: Deadline = NO_DEADLINE
) -> Order:
    """Send a refund that never went out. The deadline is for the look before.

    It is never given up, but after UNKNOWN_PATIENCE a person is called, once.
    """
    before = order.refund(refund_no)
    order, settled = await _found_before_sending(ports, order, before, by, deadline)
    if not settled:
        order = await _claim_and_send(ports, order, refund_no, by)
    after, patience_ends = order.refund(refund_no), before.created_at + limits.UNKNOWN_PATIENCE
    if after.unsent and before.updated_at < patience_ends <= after.updated_at:
        ids = {"order_no": order.order_no, "refund_no": refund_no}
        logger.error("refund_still_unsent", extra=ids)
    return order


async def _claim_and_send(ports: Ports, order: Order, refund_no: str, by: ObservedBy) -> Order:
    """Whoever wins the commit before it is the one to send."""
    claimed = False

    def claim(draft: Draft) -> None:
        nonlocal claimed
        refund = draft.refund(refund_no)
        claimed = refund.unsent and refund.state is RefundState.SUBMITTING
        if claimed:
            now = ports.store.now()
            due_at = schedule.while_in_flight(now, ports.psp.total_timeout)
            taken = changed(
                refund, unsent=False, due_at=due_at, updated_at=now, looks=0, absent_since=None
            )
            draft.put_refund(taken, "refund_sent_again", now, by)

    order = await change(ports, order, claim)
    if claimed:
        order, _ = await submit_refund(ports, order, refund_no, by)
    return order


async def _found_before_sending(
    ports: Ports, order: Order, refund: Refund, by: ObservedBy, deadline: Deadline
) -> tuple[Order, bool]:
    """Look whether Ping++ has it all the same: a failover may have lost that it was sent (D3).

    True also where that cannot be seen now: then it stays queued.
    """
    listed = await list_all_refunds(ports, refund.charge_id, deadline)
    if isinstance(listed, Unknown):
        still = RefundObservation(RefundSaid.UNSENT, by, ports.store.now(), code=listed.reason)
        return await change(ports, order, _still_queued(refund.refund_no, still)), True
    ours = next((each for each in listed if each.refund_no == refund.refund_no), None)
    if ours is None:
        return order, False
    seen = refund_told(ports, ours, by)
    key = refund.refund_no
    return await change(ports, order, lambda draft: see_refund(draft, key, seen)), True


def _still_queued(refund_no: str, seen: RefundObservation) -> Callable[[Draft], None]:
    def decide(draft: Draft) -> None:
        """Only if nobody has sent it meanwhile: that must not be forgotten."""
        refund = draft.refund(refund_no)
        if refund.unsent and refund.state is RefundState.SUBMITTING:
            see_refund(draft, refund_no, seen)

    return decide


async def submit_refund(
    ports: Ports, order: Order, refund_no: str, by: ObservedBy
) -> tuple[Order, Verdict[RefundFacts]]:
    """POST a refund that is written down, and record what came of it.

    A refusal is believed only after the refunds of the charge were listed: a request that reached
    Ping++ twice on its way would be refused the second time although the first one was done (P10).
    """
    refund = order.refund(refund_no)
    verdict = await ports.psp.create_refund(refund)
    if isinstance(verdict, Done):
        seen = refund_told(ports, verdict.answer, by)
    elif isinstance(verdict, Unknown):
        seen = refund_silent(ports, verdict.reason, by)
    elif not _refused(verdict):
        at = ports.store.now()
        seen = RefundObservation(RefundSaid.UNSENT, by, at, code=verdict.refusal.lower())
    else:
        seen = await _refused_refund(ports, refund, verdict, by)

    def decide(draft: Draft) -> None:
        row = draft.refund(refund_no)
        if row.unsent and isinstance(verdict, Unknown):
            # A failover lost that it was taken to be sent; by now it may be there.
            row = changed(row, unsent=False, updated_at=ports.store.now())
            draft.put_refund(row, "refund_sent_again", row.updated_at, by)
        see_refund(draft, refund_no, seen)

    return await change(ports, order, decide), verdict


async def _refused_refund(
    ports: Ports, refund: Refund, verdict: NotDone, by: ObservedBy
) -> RefundObservation:
    listed = await list_all_refunds(ports, refund.charge_id)
    if isinstance(listed, Unknown):
        return refund_silent(ports, listed.reason, by)
    ours = next((each for each in listed if each.refund_no == refund.refund_no), None)
    if ours is not None:
        return refund_told(ports, ours, by)
    code = verdict.code or verdict.refusal.lower()
    at = ports.store.now()
    return RefundObservation(RefundSaid.REFUSED, by, at, code=code, message=verdict.message)


def in_flight(ports: Ports, row: Charge | Refund) -> bool:
    """Whether some process may still be waiting for the answer to the call that makes this row.

    A due_at beyond the call's own time is the claim of a resolver, which may itself be waiting for
    the turn of whoever asks here: it keeps nobody.
    """
    unanswered = row.state in (ChargeState.SUBMITTING, RefundState.SUBMITTING) and row.looks == 0
    if isinstance(row, Refund) and row.unsent:
        return False
    if not unanswered or row.due_at is None:
        return False
    sent_at = row.updated_at if isinstance(row, Refund) else row.created_at
    answered_by = schedule.while_in_flight(sent_at, ports.psp.total_timeout)
    return min(row.due_at, answered_by) > ports.store.now()


async def wait_while_in_flight(
    ports: Ports, order: Order, row_of: Callable[[Order], Charge | Refund]
) -> Order:
    """Wait as long as another process may still be making the call."""
    pause_s = FIRST_PAUSE_S
    while in_flight(ports, row_of(order)):
        await ports.clock.sleep(pause_s)
        pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
        order = await load_again(ports, order)
    return order


def _posted_in_vain(
    out_trade_no: str, silent: ChargeObservation, verdict: Verdict[Any]
) -> Callable[[Draft], None]:
    def decide(draft: Draft) -> None:
        """What may be on its way again is not absent because it was not listed before."""
        if isinstance(verdict, Unknown):
            charge = draft.charge(out_trade_no)
            draft.reschedule_charge(changed(charge, absent_since=None))
        see_charge(draft, out_trade_no, silent)

    return decide


def _charge_not_listed(ports: Ports, out_trade_no: str, by: ObservedBy) -> Callable[[Draft], None]:
    def decide(draft: Draft) -> None:
        charge = draft.charge(out_trade_no)
        if charge.state is not ChargeState.SUBMITTING:
            return
        now = ports.store.now()
        # It may have been posted again until shortly before the first list.
        if _long_absent(ports, charge.absent_since, charge.absent_since or now, now):
            seen = ChargeObservation(ChargeSaid.ABSENT, by, now)
        else:
            seen = ChargeObservation(ChargeSaid.NO_ANSWER, by, now, code="not_listed")
            first = charge.absent_since or now
            draft.reschedule_charge(changed(charge, absent_since=first))
        see_charge(draft, out_trade_no, seen)

    return decide


def _refund_listed(
    ports: Ports, refund: Refund, listed: tuple[RefundFacts, ...], by: ObservedBy
) -> Callable[[Draft], None]:
    def decide(draft: Draft) -> None:
        now = ports.store.now()
        draft.observe_refund_list(refund.out_trade_no, listed, by, now)
        current = draft.refund(refund.refund_no)
        if current.state is not RefundState.SUBMITTING or current.refund_id is not None:
            return
        if _long_absent(ports, current.absent_since, current.updated_at, now):
            seen = RefundObservation(RefundSaid.ABSENT, by, now)
        else:
            seen = RefundObservation(RefundSaid.NO_ANSWER, by, now, code="not_listed")
            first = current.absent_since or now
            draft.reschedule_refund(changed(current, absent_since=first))
        see_refund(draft, refund.refund_no, seen)

    return decide


def _long_absent(
    ports: Ports, absent_since: datetime | None, sent_at: datetime, now: datetime
) -> bool:
    """Whether this is a second complete list without it, made after the settle window."""
    return absent_since is not None and now >= sent_at + ports.settle_window


def _refused(verdict: Verdict[Any]) -> bool:
    """Whether Ping++ read the request and said no."""
    return isinstance(verdict, NotDone) and verdict.refusal in (
        Refusal.REFUSED,
        Refusal.NOT_FOUND,
    )
