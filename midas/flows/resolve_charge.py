"""Find out what became of a charge by asking Ping++, never by guessing.

    look ─▶ not there, and Ping++ would take the same terms for the same charge ─▶ post ─▶ look

The first look is left out where Ping++ refuses repetitions: a post can make no second charge there.
The post is left out if the look failed or found something. A post that is answered ends it; after
any other post, the second look decides.

A charge that is not there may still be on its way. So absence counts only when two complete lists
do not show it, and the later one was begun after the settle window. The absent charge has failed
then: its number is never used again, and money that still comes is announced as late.
"""

from datetime import datetime, timedelta

from midas import limits
from midas.charge import Charge, ChargeFacts, ChargeState, ObservedBy
from midas.draft import Draft
from midas.errors import OutcomeUnknown, Overloaded, StorageUnavailable
from midas.flows.commit import Decision, Ports, commit
from midas.flows.deadline import NO_DEADLINE, Deadline
from midas.flows.declined import settle_declined
from midas.flows.listing import FindCharge, find_charge
from midas.flows.look import decision_on, is_blind, is_missing, not_shown
from midas.flows.observe import charge_observation, observing
from midas.flows.reversal import is_to_be_reversed, take_back
from midas.flows.run import Run
from midas.flows.sweep import Found
from midas.flows.unknown import as_unknown
from midas.immutable import replace
from midas.payment import Order
from midas.ports import Done, Unknown, Verdict

A_MINUTE = timedelta(minutes=1)


async def resolve_charge(
    ports: Ports,
    order: Order,
    out_trade_no: str,
    by: ObservedBy,
    deadline: Deadline = NO_DEADLINE,
    find: FindCharge = find_charge,
) -> Order:
    """Find out what became of a charge whose create call was not answered.

    Raises StorageUnavailable or Overloaded: nothing was sent. Raises OutcomeUnknown: it was posted
    again, and what came of that could not be written down.
    """
    charge = order.charge(out_trade_no)
    if charge.is_declined:
        return await settle_declined(ports, order, out_trade_no, by, deadline, find)
    verdict: Verdict[ChargeFacts] | None = None
    found: Found = ()
    began_at = ports.store.now()
    may_post = may_post_again(ports, charge)
    if not (may_post and refuses_repetitions(ports, charge)):
        found = await find(ports, charge, deadline)
        may_post = found == () and may_post_again(ports, charge)  # the look may take minutes
    if may_post:
        verdict = await ports.psp.create_charge(charge, deadline.at_most(limits.REPOST_MARGIN))
        began_at = ports.store.now()
        if isinstance(verdict, Done):
            found = (verdict.answer,)
        else:
            found = await find(ports, charge, deadline)
    repost_unanswered = isinstance(verdict, Unknown)
    learnt = _learnt(ports, charge, found, began_at, by, repost_unanswered=repost_unanswered)
    try:
        return await commit(ports, order, learnt)
    except (StorageUnavailable, Overloaded):
        if verdict is None:
            raise
        raise OutcomeUnknown(order.order_no, out_trade_no) from None


def may_post_again(ports: Ports, charge: Charge) -> bool:
    """Whether Ping++ would certainly take the identical terms for the same charge.

    It never would where the create call itself takes the money: those are only looked up (P5).
    """
    if ports.psp.pays_at_create(charge.channel):
        return False
    window = ports.psp.repost_window(charge.channel)
    return ports.store.now() + limits.REPOST_MARGIN <= charge.created_at + window


def refuses_repetitions(ports: Ports, charge: Charge) -> bool:
    """Whether Ping++ refuses to post a charge again that is paid or reversed.

    Where the window is a minute, Ping++ makes a second charge of the number (pingpp.md section 8).
    """
    return ports.psp.repost_window(charge.channel) > A_MINUTE


async def finish_superseded(
    ports: Ports, order: Order, charge: Charge, by: ObservedBy, run: Run
) -> Order:
    """Ask how a charge stands that made way for another one, and try again to close it."""
    if charge.charge_id is None:
        return order
    verdict = await ports.psp.retrieve_charge(charge.charge_id)
    if not run.may_write_after(
        order.order_no, answered=isinstance(verdict, Done), blind=is_blind(charge, verdict)
    ):
        return order
    is_shown = isinstance(verdict, Done) and not is_missing(charge, verdict)
    shown = verdict.answer if isinstance(verdict, Done) and is_shown else None
    if shown is not None and is_to_be_reversed(ports, charge, shown):
        if ports.psp.gives_back(charge.channel):
            return await take_back(ports, order, charge, by)
        reversal = await ports.psp.reverse_charge(charge.charge_id)
        verdict = reversal if isinstance(reversal, Done) else verdict
    decide = decision_on(ports, charge, verdict, by)
    if decide is None:
        number, unanswered = charge.out_trade_no, as_unknown(verdict)
        observation = charge_observation(ports, charge, unanswered, by)
        return await commit(ports, order, observing(number, observation))
    return await commit(ports, order, decide)


def _learnt(
    ports: Ports,
    charge: Charge,
    found: Found,
    began_at: datetime,
    by: ObservedBy,
    *,
    repost_unanswered: bool,
) -> Decision:
    """Record all that was found, so that a second charge of the number raises an alarm."""
    number = charge.out_trade_no
    missed = not_shown(ports, number, by, "not_listed", began_at)
    if isinstance(found, Unknown):
        observations = [charge_observation(ports, charge, found, by)]
    else:
        observations = [charge_observation(ports, charge, each, by) for each in found]

    def decide(draft: Draft) -> None:
        is_unknown = draft.charge(number).state is ChargeState.SUBMITTING
        if repost_unanswered and is_unknown:
            # It may be on its way again: that it was not listed before proves nothing.
            draft.put(replace(draft.charge(number), absent_since=None))
        for observation in observations:
            draft.observe_charge(number, observation)
        if is_unknown and not observations:
            missed(draft)

    return decide
