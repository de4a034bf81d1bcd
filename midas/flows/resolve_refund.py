"""Find out what became of a refund by listing the refunds of its charge, never by guessing.

A refund is sent only if it certainly never went out and is not there. A refund that is absent from
two complete lists, the later one made after the settle window, goes to an operator, because Ping++
cannot de-duplicate refunds (reliability.md section 3).

A database that lost its last commits may have a refund as queued whose post is on its way. So after
a change of the database's server, a queued refund waits until such a post has arrived or never
will. Only then is it looked for. One case cannot be prevented here: the intent itself was lost, and
the same key comes again at another process before the first post has arrived. Ping++ gets it twice
then. Both are booked (`Draft.observe_refund`), both are announced, and a person is called.
"""

import dataclasses
import logging

from midas import limits, schedule
from midas.charge import ObservedBy
from midas.draft import Draft
from midas.errors import StorageUnavailable
from midas.flows.commit import Decision, Ports, commit
from midas.flows.deadline import NO_DEADLINE, Deadline
from midas.flows.listing import list_all_refunds
from midas.flows.not_sent import not_sent
from midas.flows.observe import refund_observation
from midas.flows.unknown import is_refused, long_absent, time_to_post
from midas.immutable import replace
from midas.payment import Order
from midas.ports import Done, NotDone, Unknown, Verdict
from midas.refund import Refund, RefundFacts, RefundObservation, RefundReport, RefundState

logger = logging.getLogger("midas.flows")

Posted = Verdict[RefundFacts] | None
"""The verdict on a POST; None if there was none."""


async def resolve_refund(
    ports: Ports,
    order: Order,
    refund_no: str,
    by: ObservedBy,
    deadline: Deadline = NO_DEADLINE,
) -> Order:
    """Find out what became of a refund, or send it if it certainly never went out."""
    order, _ = await resolve_and_answer(ports, order, refund_no, by, deadline)
    return order


async def resolve_and_answer(
    ports: Ports, order: Order, refund_no: str, by: ObservedBy, deadline: Deadline = NO_DEADLINE
) -> tuple[Order, Posted]:
    """What `resolve_refund` does, with the verdict on the POST, for the answer to the caller."""
    refund = order.refund(refund_no)
    if refund.unsent:
        return await _send_unsent(ports, order, refund_no, by, deadline)
    listed = await list_all_refunds(ports, refund.charge_id, deadline)
    if isinstance(listed, Unknown):
        unanswered = refund_observation(ports, listed, by)
        return await commit(
            ports, order, lambda draft: draft.observe_refund(refund_no, unanswered)
        ), None
    return await commit(ports, order, _refund_listed(ports, refund, listed, by)), None


async def _send_unsent(
    ports: Ports, order: Order, refund_no: str, by: ObservedBy, deadline: Deadline
) -> tuple[Order, Posted]:
    """Send a refund that never went out. The deadline is for the look before it.

    The refund is never given up, but after UNKNOWN_PATIENCE a person is called once.
    """
    before, verdict = order.refund(refund_no), None
    waits = await _may_be_on_its_way(ports)  # asked first: what the look misses never comes then
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
    """Claim the refund by a commit, then send it, unless the commit was made on a new server."""
    taken: Refund | None = None

    def claim(draft: Draft) -> None:
        nonlocal taken
        refund = draft.refund(refund_no)
        taken = None
        if refund.unsent and refund.state is RefundState.SUBMITTING:
            now = ports.store.now()
            due_at = schedule.while_in_flight(now, ports.psp.total_timeout)
            taken = replace(
                refund, unsent=False, due_at=due_at, updated_at=now, looks=0, absent_since=None
            )
            draft.put(taken, ("refund_sent_again", now, by))

    try:
        order = await commit(ports, order, claim)
        waits = taken is not None and await _may_be_on_its_way(ports)
    except StorageUnavailable:
        if taken is not None:
            ports.in_doubt(taken)
        raise
    if taken is not None and waits:
        return await commit(ports, order, not_sent(ports, taken)), None
    if taken is not None:
        return await submit_refund(ports, order, refund_no, by)
    return order, None


async def _may_be_on_its_way(ports: Ports) -> bool:
    """Whether a commit that claimed a queued refund may be lost, and its post still on its way."""
    posting = schedule.while_in_flight(ports.store.now(), ports.psp.total_timeout)
    longest = posting - ports.store.now() + ports.settle_window
    return await ports.store.since_possible_loss() < longest


def _unsent(ports: Ports, by: ObservedBy, code: str) -> RefundObservation:
    return RefundObservation(RefundReport.UNSENT, by, ports.store.now(), code=code)


async def _found_before_sending(
    ports: Ports, order: Order, refund: Refund, by: ObservedBy, deadline: Deadline
) -> tuple[Order, bool]:
    """Look whether Ping++ has it all the same: a failover may have lost that it was sent (D3).

    Returns True also if that cannot be found out now: the refund stays queued then.
    """
    listed = await list_all_refunds(ports, refund.charge_id, deadline)
    if isinstance(listed, Unknown):
        return await _leave_queued(ports, order, refund.refund_no, by, listed.reason), True
    if not _shows(listed, refund):
        return order, False
    return await commit(ports, order, _booked_from_list(ports, refund, listed, by)), True


async def _leave_queued(
    ports: Ports, order: Order, refund_no: str, by: ObservedBy, code: str
) -> Order:
    def decide(draft: Draft) -> None:
        """Leave it queued, unless somebody has sent it meanwhile: that must not be forgotten."""
        refund = draft.refund(refund_no)
        if refund.unsent and refund.state is RefundState.SUBMITTING:
            draft.observe_refund(refund_no, _unsent(ports, by, code))

    return await commit(ports, order, decide)


def _shows(listed: tuple[RefundFacts, ...], refund: Refund) -> bool:
    return any(each.refund_no == refund.refund_no for each in listed)


def _booked_from_list(
    ports: Ports, refund: Refund, listed: tuple[RefundFacts, ...], by: ObservedBy
) -> Decision:
    """Book all that the list shows, a second refund under one key included."""
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
        return await commit(ports, order, _answered(ports, refund, verdict.answer, by)), verdict
    if isinstance(verdict, Unknown):
        observation = refund_observation(ports, verdict, by)
    elif not is_refused(verdict):
        observation = _unsent(ports, by, verdict.refusal.lower())
    else:
        listed = await list_all_refunds(ports, refund.charge_id)
        if not isinstance(listed, Unknown) and _shows(listed, refund):
            return await commit(ports, order, _booked_from_list(ports, refund, listed, by)), verdict
        observation = _refused_refund(ports, verdict, listed, by)
    return await commit(ports, order, _not_answered(ports, refund, observation)), verdict


def _answered(ports: Ports, refund: Refund, facts: RefundFacts, by: ObservedBy) -> Decision:
    """Book the answer to our own POST, even if the row has changed meanwhile."""
    ours = dataclasses.replace(facts, refund_no=facts.refund_no or refund.refund_no)

    def decide(draft: Draft) -> None:
        if any(each.refund_no == refund.refund_no for each in draft.base.refunds):
            draft.observe_refund(refund.refund_no, refund_observation(ports, ours, by))
        else:  # the row is lost, and another order has its key by now
            _booked_from_list(ports, refund, (ours,), by)(draft)

    return decide


def _not_answered(ports: Ports, refund: Refund, observation: RefundObservation) -> Decision:
    """Book that our own POST did nothing, or that its outcome is unknown."""

    def decide(draft: Draft) -> None:
        row, learnt = draft.refund(refund.refund_no), observation
        if row.unsent and observation.report is RefundReport.NO_ANSWER:
            # A failover lost that the refund was claimed to be sent. Ping++ may have it by now.
            row = replace(row, unsent=False, updated_at=ports.store.now())
            draft.put(row, ("refund_sent_again", row.updated_at, observation.by))
        elif _is_sent_by_another(row, refund):
            learnt = dataclasses.replace(observation, report=RefundReport.NO_ANSWER)
        draft.observe_refund(refund.refund_no, learnt)

    return decide


def _is_sent_by_another(row: Refund, sent: Refund) -> bool:
    """Whether the row that was sent is lost, and stands there again for another POST.

    The outcome of the one POST says nothing about the other.
    """
    sendings = [(each.created_at, each.updated_at) for each in (row, sent)]
    return row.state is RefundState.SUBMITTING and not row.unsent and len(set(sendings)) > 1


def _refused_refund(
    ports: Ports, verdict: NotDone, listed: object, by: ObservedBy
) -> RefundObservation:
    if isinstance(listed, Unknown):
        return refund_observation(ports, listed, by)
    code = verdict.code or verdict.refusal.lower()
    at = ports.store.now()
    return RefundObservation(RefundReport.REFUSED, by, at, code=code, message=verdict.message)


def _refund_listed(
    ports: Ports, refund: Refund, listed: tuple[RefundFacts, ...], by: ObservedBy
) -> Decision:
    def decide(draft: Draft) -> None:
        now = ports.store.now()
        draft.observe_refund_list(refund.out_trade_no, listed, by, now)
        current = draft.refund(refund.refund_no)
        if current.state is not RefundState.SUBMITTING or current.refund_id is not None:
            return
        if long_absent(ports, current.absent_since, current.updated_at, now):
            observation = RefundObservation(RefundReport.ABSENT, by, now)
        else:
            observation = RefundObservation(RefundReport.NO_ANSWER, by, now, code="not_listed")
            first = current.absent_since or now
            draft.put(replace(current, absent_since=first))
        draft.observe_refund(refund.refund_no, observation)

    return decide
