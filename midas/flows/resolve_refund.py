"""Find out what became of a refund by listing the refunds of its charge, never by guessing.

Only what certainly never went out, and is not there, is sent. A refund that is absent from two
complete lists, the later one made after the settle window, goes to an operator, because Ping++
cannot de-duplicate refunds (reliability.md section 3).

A database that lost its last commits may call a refund queued whose post is on its way. So after a
change of the database's server a queued refund waits until such a post has arrived or never will,
and is looked for then. What nothing here can hinder: where the intent itself was lost and the same
key comes again, at another process, before the first post has arrived, Ping++ gets it twice. Both
are booked then (`Draft.observe_refund`), both are told, and a person is called.
"""

import logging
from collections.abc import Callable
from dataclasses import replace

from midas import limits, schedule
from midas.charge import ObservedBy
from midas.errors import StorageUnavailable
from midas.flows.deadline import NO_DEADLINE, Deadline
from midas.flows.listing import list_all_refunds
from midas.flows.not_sent import not_sent
from midas.flows.observe import Ports, change, refund_silent, refund_told, see_refund
from midas.flows.unknown import long_absent, refused, time_to_post
from midas.immutable import changed
from midas.payment import Draft, Order
from midas.ports import Done, NotDone, Unknown, Verdict
from midas.refund import Refund, RefundFacts, RefundObservation, RefundSaid, RefundState

logger = logging.getLogger("midas.flows")

Posted = Verdict[RefundFacts] | None
"""What came of a POST; None if there was none."""


async def resolve_refund(
    ports: Ports,
    order: Order,
    refund_no: str,
    by: ObservedBy,
    deadline: Deadline = NO_DEADLINE,
) -> Order:
    """Find out what became of a refund, or send it if it certainly never went out."""
    order, _ = await find_out(ports, order, refund_no, by, deadline)
    return order


async def find_out(
    ports: Ports, order: Order, refund_no: str, by: ObservedBy, deadline: Deadline = NO_DEADLINE
) -> tuple[Order, Posted]:
    """The same, with the verdict on the POST if it was sent: the caller is told by that."""
    refund = order.refund(refund_no)
    if refund.unsent:
        return await _send_unsent(ports, order, refund_no, by, deadline)
    listed = await list_all_refunds(ports, refund.charge_id, deadline)
    if isinstance(listed, Unknown):
        silent = refund_silent(ports, listed.reason, by)
        return await change(ports, order, lambda draft: see_refund(draft, refund_no, silent)), None
    return await change(ports, order, _refund_listed(ports, refund, listed, by)), None


async def _send_unsent(
    ports: Ports, order: Order, refund_no: str, by: ObservedBy, deadline: Deadline
) -> tuple[Order, Posted]:
    """Send a refund that never went out. The deadline is for the look before.

    It is never given up, but after UNKNOWN_PATIENCE a person is called, once.
    """
    before, verdict = order.refund(refund_no), None
    waits = await _may_be_on_its_way(ports)  # asked first: what the look then misses never comes
    order, settled = await _found_before_sending(ports, order, before, by, deadline)
    if not settled and waits:
        order = await _leave_queued(ports, order, refund_no, by, "database_changed")
    elif not settled:
        order, verdict = await _claim_and_send(ports, order, refund_no, by)
    after, patience_ends = order.refund(refund_no), before.created_at + limits.UNKNOWN_PATIENCE
    if after.unsent and before.updated_at < patience_ends <= after.updated_at:
        ids = {"order_no": order.order_no, "refund_no": refund_no}
        logger.error("refund_still_unsent", extra=ids)
    return order, verdict


async def _claim_and_send(
    ports: Ports, order: Order, refund_no: str, by: ObservedBy
) -> tuple[Order, Posted]:
    """Whoever wins the commit before it is the one to send, unless it was made on a new server."""
    taken: Refund | None = None

    def claim(draft: Draft) -> None:
        nonlocal taken
        refund = draft.refund(refund_no)
        taken = None
        if refund.unsent and refund.state is RefundState.SUBMITTING:
            now = ports.store.now()
            due_at = schedule.while_in_flight(now, ports.psp.total_timeout)
            taken = changed(
                refund, unsent=False, due_at=due_at, updated_at=now, looks=0, absent_since=None
            )
            draft.put_refund(taken, "refund_sent_again", now, by)

    try:
        order = await change(ports, order, claim)
        waits = taken is not None and await _may_be_on_its_way(ports)
    except StorageUnavailable:
        if taken is not None:
            ports.in_doubt(taken)
        raise
    if taken is not None and waits:
        return await change(ports, order, not_sent(ports, taken)), None
    if taken is not None:
        return await submit_refund(ports, order, refund_no, by)
    return order, None


async def _may_be_on_its_way(ports: Ports) -> bool:
    """Whether a commit that took a queued refund to send it may be lost, and its post not there."""
    posting = schedule.while_in_flight(ports.store.now(), ports.psp.total_timeout)
    longest = posting - ports.store.now() + ports.settle_window
    return await ports.store.since_possible_loss() < longest


def _unsent(ports: Ports, by: ObservedBy, code: str) -> RefundObservation:
    return RefundObservation(RefundSaid.UNSENT, by, ports.store.now(), code=code)


async def _found_before_sending(
    ports: Ports, order: Order, refund: Refund, by: ObservedBy, deadline: Deadline
) -> tuple[Order, bool]:
    """Look whether Ping++ has it all the same: a failover may have lost that it was sent (D3).

    True also where that cannot be seen now: then it stays queued.
    """
    listed = await list_all_refunds(ports, refund.charge_id, deadline)
    if isinstance(listed, Unknown):
        return await _leave_queued(ports, order, refund.refund_no, by, listed.reason), True
    if not _shows(listed, refund):
        return order, False
    return await change(ports, order, _seen_in_list(ports, refund, listed, by)), True


async def _leave_queued(
    ports: Ports, order: Order, refund_no: str, by: ObservedBy, code: str
) -> Order:
    def decide(draft: Draft) -> None:
        """Only if nobody has sent it meanwhile: that must not be forgotten."""
        refund = draft.refund(refund_no)
        if refund.unsent and refund.state is RefundState.SUBMITTING:
            see_refund(draft, refund_no, _unsent(ports, by, code))

    return await change(ports, order, decide)


def _shows(listed: tuple[RefundFacts, ...], refund: Refund) -> bool:
    return any(each.refund_no == refund.refund_no for each in listed)


def _seen_in_list(
    ports: Ports, refund: Refund, listed: tuple[RefundFacts, ...], by: ObservedBy
) -> Callable[[Draft], None]:
    """All that the list shows, a second refund under one key among it."""
    number = refund.out_trade_no
    return lambda draft: draft.observe_refund_list(number, listed, by, ports.store.now())


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
        return await change(ports, order, _answered(ports, refund, verdict.answer, by)), verdict
    if isinstance(verdict, Unknown):
        seen = refund_silent(ports, verdict.reason, by)
    elif not refused(verdict):
        seen = _unsent(ports, by, verdict.refusal.lower())
    else:
        listed = await list_all_refunds(ports, refund.charge_id)
        if not isinstance(listed, Unknown) and _shows(listed, refund):
            return await change(ports, order, _seen_in_list(ports, refund, listed, by)), verdict
        seen = _refused_refund(ports, verdict, listed, by)
    return await change(ports, order, _not_answered(ports, refund, seen)), verdict


def _answered(
    ports: Ports, refund: Refund, facts: RefundFacts, by: ObservedBy
) -> Callable[[Draft], None]:
    """Book what our own POST was answered, whatever became of the row meanwhile."""
    ours = replace(facts, refund_no=facts.refund_no or refund.refund_no)

    def decide(draft: Draft) -> None:
        if any(each.refund_no == refund.refund_no for each in draft.base.refunds):
            see_refund(draft, refund.refund_no, refund_told(ports, ours, by))
        else:  # lost, and its key is another order's by now
            _seen_in_list(ports, refund, (ours,), by)(draft)

    return decide


def _not_answered(ports: Ports, refund: Refund, seen: RefundObservation) -> Callable[[Draft], None]:
    """Book that our own POST came to nothing, or that nobody knows what it came to."""

    def decide(draft: Draft) -> None:
        row, said = draft.refund(refund.refund_no), seen
        if row.unsent and seen.said is RefundSaid.NO_ANSWER:
            # A failover lost that it was taken to be sent; by now it may be there.
            row = changed(row, unsent=False, updated_at=ports.store.now())
            draft.put_refund(row, "refund_sent_again", row.updated_at, seen.by)
        elif _is_sent_by_another(row, refund):
            said = replace(seen, said=RefundSaid.NO_ANSWER)
        see_refund(draft, refund.refund_no, said)

    return decide


def _is_sent_by_another(row: Refund, sent: Refund) -> bool:
    """Whether the row that was sent is lost, and stands there again for another POST.

    What came of the one says nothing of the other.
    """
    sendings = [(each.created_at, each.updated_at) for each in (row, sent)]
    return row.state is RefundState.SUBMITTING and not row.unsent and len(set(sendings)) > 1


def _refused_refund(
    ports: Ports, verdict: NotDone, listed: object, by: ObservedBy
) -> RefundObservation:
    if isinstance(listed, Unknown):
        return refund_silent(ports, listed.reason, by)
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
