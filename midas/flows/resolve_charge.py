"""Find out what became of a charge by asking Ping++, never by guessing.

    still inside the window in which Ping++ takes identical terms for the same charge: post them
    again, after a look where that could make another one; else look through the charges made at
    that time

What is not there may still be on its way, so absence counts only when two complete lists do not
show it and the later one was made after the settle window. An absent charge has then failed: its
number is never used again, and money that comes all the same is announced as late.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from midas import limits
from midas.charge import Charge, ChargeFacts, ChargeObservation, ChargeState, ObservedBy
from midas.flows.deadline import NO_DEADLINE, Deadline
from midas.flows.listing import as_unknown, find_charge
from midas.flows.look import is_blind, is_missing, looked_at, not_shown
from midas.flows.observe import (
    Ports,
    change,
    charge_seen,
    charge_silent,
    charge_told,
    see_charge,
)
from midas.flows.run import Run
from midas.flows.unknown import refused
from midas.payment import Draft, Order
from midas.ports import Done, Unknown, Verdict
from midas.records import changed

A_MINUTE = timedelta(minutes=1)


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
        if not refused(verdict):
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


async def finish_superseded(
    ports: Ports, order: Order, charge: Charge, by: ObservedBy, run: Run
) -> Order:
    """Ask how a charge stands that made way for another one, and try again to close it."""
    if charge.charge_id is None:
        return order
    told = await ports.psp.retrieve_charge(charge.charge_id)
    if not run.may_write_after(
        order.order_no, answered=isinstance(told, Done), blind=is_blind(charge, told)
    ):
        return order
    if isinstance(told, Done) and not is_missing(charge, told):
        waiting = not (told.answer.paid or told.answer.reversed)
        if waiting and ports.psp.can_reverse(charge.channel):
            reversal = await ports.psp.reverse_charge(charge.charge_id)
            told = reversal if isinstance(reversal, Done) else told
    decide = looked_at(ports, charge, told, by)
    if decide is None:
        silent = charge_silent(ports, as_unknown(told), by)
        return await charge_seen(ports, order, charge.out_trade_no, silent)
    return await change(ports, order, decide)


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
    missed = not_shown(ports, out_trade_no, by, "not_listed")

    def decide(draft: Draft) -> None:
        if draft.charge(out_trade_no).state is ChargeState.SUBMITTING:
            missed(draft)

    return decide
