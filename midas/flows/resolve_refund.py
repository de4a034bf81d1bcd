"""Find out what became of a refund by listing the refunds of its charge, never by guessing.

Only what certainly never went out, and is not there, is sent. A refund that is absent from two
complete lists, the later one made after the settle window, goes to an operator, because Ping++
cannot de-duplicate refunds (reliability.md section 3).
"""

import logging
from collections.abc import Callable

from midas import limits, schedule
from midas.charge import ObservedBy
from midas.flows.deadline import NO_DEADLINE, Deadline
from midas.flows.listing import list_all_refunds
from midas.flows.observe import Ports, change, refund_silent, refund_told, see_refund
from midas.flows.unknown import long_absent, refused, time_to_post
from midas.payment import Draft, Order
from midas.ports import Done, NotDone, Unknown, Verdict
from midas.records import changed
from midas.refund import Refund, RefundFacts, RefundObservation, RefundSaid, RefundState

logger = logging.getLogger("midas.flows")


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
    verdict = await ports.psp.create_refund(refund, time_to_post(ports, refund))
    if isinstance(verdict, Done):
        seen = refund_told(ports, verdict.answer, by)
    elif isinstance(verdict, Unknown):
        seen = refund_silent(ports, verdict.reason, by)
    elif not refused(verdict):
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


def _refund_listed(
    ports: Ports, refund: Refund, listed: tuple[RefundFacts, ...], by: ObservedBy
) -> Callable[[Draft], None]:
    def decide(draft: Draft) -> None:
        now = ports.store.now()
        draft.observe_refund_list(refund.out_trade_no, listed, by, now)
        current = draft.refund(refund.refund_no)
        if current.state is not RefundState.SUBMITTING or current.refund_id is not None:
            return
        if long_absent(ports, current.absent_since, current.updated_at, now):
            seen = RefundObservation(RefundSaid.ABSENT, by, now)
        else:
            seen = RefundObservation(RefundSaid.NO_ANSWER, by, now, code="not_listed")
            first = current.absent_since or now
            draft.reschedule_refund(changed(current, absent_since=first))
        see_refund(draft, refund.refund_no, seen)

    return decide
